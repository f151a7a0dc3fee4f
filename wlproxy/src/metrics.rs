//! The status for Prometheus: text exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), over HTTP on a Unix socket.
//!
//! One series per VM, none per connection: those come and go, and each would stay in Prometheus' memory.

mod http;

use crate::histogram::{BOUNDS, Durations};
use crate::status::{Status, VmStatus};
use std::fmt::{self, Write as _};

/// The content type of the format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to an HTTP request, or `None` if it isn't whole yet. `status` is made only if it is needed.
pub fn answer(request: &[u8], status: impl FnOnce() -> Status) -> Option<Vec<u8>> {
    http::answer(request, CONTENT_TYPE, || text(&status()))
}

/// A number of each VM.
struct Metric {
    name: &'static str,
    /// `counter` or `gauge`.
    kind: &'static str,
    help: &'static str,
    value: fn(&VmStatus) -> u64,
}

/// A histogram of each VM that has one.
struct Hop {
    name: &'static str,
    help: &'static str,
    value: fn(&VmStatus) -> &Durations,
}

macro_rules! metrics {
    ($($kind:ident $name:literal, $help:literal, $value:expr;)*) => {
        &[$(Metric { name: $name, kind: stringify!($kind), help: $help, value: $value },)*]
    };
}

const METRICS: &[Metric] = metrics! {
    gauge "wlproxy_vm_connected", "Whether the VM's monitor is there.", |vm| vm.connected.into();
    gauge "wlproxy_worker_up", "Whether the VM's worker runs.", |vm| vm.pid.is_some().into();
    counter "wlproxy_worker_restarts_total", "Deaths of the VM's worker.", |vm| vm.restarts;
    counter "wlproxy_contexts_opened_total", "Contexts that were opened.",
        |vm| vm.counters.contexts_opened;
    gauge "wlproxy_contexts", "Contexts that are open.", |vm| vm.counters.contexts;
    gauge "wlproxy_objects", "Wayland objects.", |vm| vm.counters.objects;
    counter "wlproxy_requests_total", "Wayland requests relayed.", |vm| vm.counters.requests;
    counter "wlproxy_events_total", "Wayland events relayed.", |vm| vm.counters.events;
    counter "wlproxy_commits_total", "wl_surface.commit requests relayed.",
        |vm| vm.counters.commits;
    counter "wlproxy_violations_total", "Clients that were disconnected for a violation of the protocol.",
        |vm| vm.counters.violations;
    counter "wlproxy_contexts_refused_total", "Clients that were not taken for the VM's quota of connections.",
        |vm| vm.counters.contexts_refused;
    counter "wlproxy_pauses_total", "Times that a client was paused for sending too many messages.",
        |vm| vm.counters.pauses;
    gauge "wlproxy_messages", "Requests of all clients that count against the VM's quota.",
        |vm| vm.counters.messages;
    gauge "wlproxy_most_messages",
        "Most requests of all clients that have counted against the VM's quota, since its worker started.",
        |vm| vm.counters.most_messages;
    gauge "wlproxy_most_client_messages",
        "Most requests of one client that have counted against its quota, since the VM's worker started.",
        |vm| vm.counters.most_client_messages;
    counter "wlproxy_transfers_total", "Transfers of selections that began.", |vm| vm.counters.transfers;
    counter "wlproxy_transfer_bytes_total", "Bytes that they carried.",
        |vm| vm.counters.transfer_bytes;
    counter "wlproxy_selections_refused_total", "Requests and events of selections that were left out.",
        |vm| vm.counters.selections_refused;
    gauge "wlproxy_vfds", "vfds that exist.", |vm| vm.counters.vfds;
    gauge "wlproxy_allocation_bytes", "Memory that was made for the VM.",
        |vm| vm.counters.allocation_bytes;
    gauge "wlproxy_window_bytes", "Bytes of the VM's window that are mapped.",
        |vm| vm.counters.window_bytes;
    counter "wlproxy_maps_total", "Mappings made in the VM's window.", |vm| vm.counters.maps;
    gauge "wlproxy_vm_reporting_agents", "Agents that tell numbers of the VM's own.",
        |vm| vm.counters.reported.agents;
    counter "wlproxy_vm_reported_frames_total", "wl_surface.commit requests, as the VM itself tells.",
        |vm| vm.counters.reported.frames;
    counter "wlproxy_vm_reported_damaged_bytes_total",
        "Bytes of buffers that clients declared as damaged, as the VM itself tells.",
        |vm| vm.counters.reported.damaged_bytes;
    counter "wlproxy_vm_reported_copied_bytes_total",
        "Bytes of buffers that were copied into shadows, as the VM itself tells.",
        |vm| vm.counters.reported.copied_bytes;
    gauge "wlproxy_most_sending_bytes",
        "Most bytes from the VM that waited at one connection, since its worker started.",
        |vm| vm.counters.most_sending_bytes;
    gauge "wlproxy_most_receiving_bytes",
        "Most bytes for the VM that waited at one connection, since its worker started.",
        |vm| vm.counters.most_receiving_bytes;
    gauge "wlproxy_waiting_bytes", "Bytes that wait, at the connections that the status lists.", waiting;
};

const HOPS: [Hop; 2] = [
    Hop {
        name: "wlproxy_commit_in_seconds",
        help: "Time of a commit from the client VM's ring to the link's socket.",
        value: |vm| &vm.counters.commit_in,
    },
    Hop {
        name: "wlproxy_commit_out_seconds",
        help: "Time of requests from the link's socket to the compositor VM's ring.",
        value: |vm| &vm.counters.commit_out,
    },
];

fn waiting(vm: &VmStatus) -> u64 {
    let numbers = vm.counters.connections.iter().flat_map(|c| [c.sending_bytes, c.receiving_bytes]);
    numbers.fold(0, u64::saturating_add)
}

/// A label's value, escaped as the format wants it.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

/// The document in the format.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    head(&mut text, "wlproxy_compositor_ready", "gauge", "Whether clients are taken.");
    line(&mut text, format_args!("wlproxy_compositor_ready {}", u8::from(status.compositor.ready)));
    head(&mut text, "wlproxy_clients_waiting", "gauge", "Clients that wait for the compositor VM.");
    line(&mut text, format_args!("wlproxy_clients_waiting {}", status.pending));
    for Metric { name, kind, help, value } in METRICS {
        head(&mut text, name, kind, help);
        for (vm, status) in &status.vms {
            line(&mut text, format_args!("{name}{{vm=\"{}\"}} {}", Label(vm), value(status)));
        }
    }
    for Hop { name, help, value } in &HOPS {
        head(&mut text, name, "histogram", help);
        for (vm, status) in &status.vms {
            let durations = value(status);
            if durations.count() > 0 {
                histogram(&mut text, name, &Label(vm), durations);
            }
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn histogram(text: &mut String, name: &str, vm: &Label<'_>, durations: &Durations) {
    let mut sum = 0u64;
    for (at, bound) in BOUNDS.iter().enumerate() {
        sum = sum.saturating_add(durations.buckets.get(at).copied().unwrap_or(0));
        let bound = Seconds(*bound);
        line(text, format_args!("{name}_bucket{{vm=\"{vm}\",le=\"{bound}\"}} {sum}"));
    }
    let count = durations.count();
    line(text, format_args!("{name}_bucket{{vm=\"{vm}\",le=\"+Inf\"}} {count}"));
    line(text, format_args!("{name}_sum{{vm=\"{vm}\"}} {}", Seconds(durations.total_us)));
    line(text, format_args!("{name}_count{{vm=\"{vm}\"}} {count}"));
}

/// Microseconds, shown as seconds: exactly, which a float isn't.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests;
