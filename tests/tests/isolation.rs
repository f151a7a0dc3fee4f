//! Whose memory a worker has: its own VM's, and no other's.

use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use wlproxy_tests::{Buffer, Client, Desk, Plan, Toplevel};

/// The memory of a VM on the `process` channel (`guest-agent/src/channel/process/ram.rs`), and what the host makes for
/// it (`wlproxy/src/device/allocation.rs`), by the names of their memfds.
const RAM: &str = "guest-ram";
const ALLOCATION: &str = "wlproxy-allocation";

/// The memfds of a process, by name: their inodes.
#[derive(Debug, Default)]
struct Memory {
    mapped: BTreeMap<String, BTreeSet<u64>>,
    open: BTreeMap<String, BTreeSet<u64>>,
}

impl Memory {
    fn of(id: u32) -> Self {
        let mut memory = Self::default();
        let name = |path: &str| path.strip_prefix("/memfd:")?.split(' ').next().map(str::to_owned);
        for line in fs::read_to_string(format!("/proc/{id}/maps")).expect("it runs").lines() {
            // address perms offset device inode path
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [_, _, _, _, inode, path, ..] = words[..]
                && let Some(name) = name(path)
            {
                memory.mapped.entry(name).or_default().insert(inode.parse().expect("a number"));
            }
        }
        for entry in fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").flatten() {
            // One that is closed meanwhile is none.
            if let Ok(target) = fs::read_link(entry.path())
                && let Some(name) = name(&target.to_string_lossy())
                && let Ok(metadata) = fs::metadata(entry.path())
            {
                memory.open.entry(name).or_default().insert(metadata.ino());
            }
        }
        memory
    }

    fn mapped(&self, name: &str) -> BTreeSet<u64> {
        self.mapped.get(name).cloned().unwrap_or_default()
    }

    /// Mapped or open.
    fn all(&self, name: &str) -> BTreeSet<u64> {
        let open = self.open.get(name).into_iter().flatten().copied();
        self.mapped(name).into_iter().chain(open).collect()
    }
}

/// A client of each VM that shows a window.
fn shown(desk: &Desk) -> Result<Vec<(Client, Toplevel, Buffer)>> {
    let show = |vm: &&'static str| {
        let mut client = Client::connect(&desk.through(vm))?;
        let window = client.toplevel(vm)?;
        let buffer = client.buffer(300, 200);
        buffer.draw(|x, y| (x ^ y) as u32);
        wlproxy_tests::show(&window.surface, &buffer);
        client.roundtrip()?;
        Ok((client, window, buffer))
    };
    desk.vms().iter().map(show).collect()
}

#[test]
fn a_worker_has_its_own_vms_memory_and_no_other() -> Result<()> {
    let desk = Desk::start(Plan { vms: &["work", "untrusted"], ..Plan::default() });
    let _shown = shown(&desk)?;
    let all: BTreeMap<String, Memory> =
        desk.ours().into_iter().map(|(name, id)| (name, Memory::of(id))).collect();
    let (work, untrusted, gui) =
        (&all["worker-work"], &all["worker-untrusted"], &all["worker-gui"]);
    for (worker, agent) in [("worker-work", "run-work"), ("worker-untrusted", "run-untrusted")] {
        let ram = all[agent].mapped(RAM);
        assert_eq!(ram.len(), 1, "{agent} is a VM");
        assert_eq!(all[worker].mapped(RAM), ram, "{worker} maps its VM's memory");
        for (other, memory) in all.iter().filter(|(other, _)| *other != worker && *other != agent) {
            assert!(memory.all(RAM).is_disjoint(&ram), "{other} has the memory of {agent}");
        }
    }
    // A client's worker makes them for it, and the compositor's has them for its VM.
    let (of_work, of_untrusted) = (work.all(ALLOCATION), untrusted.all(ALLOCATION));
    assert!(!of_work.is_empty() && !of_untrusted.is_empty(), "something is shown");
    let of_gui = gui.all(ALLOCATION);
    assert!(!of_gui.is_disjoint(&of_work) && !of_gui.is_disjoint(&of_untrusted));
    // What both have, the compositor made for all that may have it, each by itself: nothing.
    assert_eq!(of_work.intersection(&of_untrusted).count(), 0, "two client VMs share memory");
    for (name, memory) in all.iter().filter(|(name, _)| name.starts_with("worker-")) {
        assert_eq!(memory.mapped(ALLOCATION).len(), 0, "{name} maps what it only hands on");
    }
    Ok(())
}

/// The check sees what it is there for: one process for all VMs has all of their memories.
#[test]
fn without_isolation_one_process_has_all_memories() -> Result<()> {
    let vms = &["work", "untrusted"];
    let mut desk = Desk::start(Plan { vms, isolation: Some("none"), ..Plan::default() });
    let _shown = shown(&desk)?;
    assert_eq!(Memory::of(desk.proxy().id()).mapped(RAM).len(), vms.len() + 1);
    Ok(())
}
