//! What there is on a desk, so that nothing is left over.

use super::Desk;
use crate::leak::Kept;
use crate::process::Process;
use crate::{Client, Kind, Leaks, Raw, Vm};

impl Desk {
    /// Waits until a client is served on every way, then notes what there is, to be compared at the end.
    ///
    /// Everything that only happens once happens before. What client VMs keep for reuse, as their agents count it, may
    /// differ at the end; nothing else may.
    pub fn take_baseline(&mut self) {
        self.vms.values_mut().for_each(Vm::ready);
        self.warm_up();
        self.vms.keys().for_each(|name| Raw::connect(&self.through(name)).sync());
        let workers: Vec<_> =
            self.vms.keys().map(|name| self.status(name, "pid").try_into().ok()).collect();
        self.vms.values_mut().zip(workers).for_each(|(vm, worker)| vm.worker = worker);
        let mut ignored = Vec::new();
        if let Some(outer) = self.compositor.outer_mut() {
            // The inner one has as many buffers as it happened to need at once, and the outer one maps them.
            ignored.push(outer.process().id());
            ignored.push(self.compositor.process().id());
        }
        self.baseline = Some(self.leaks().but(&self.kept()).ignoring(ignored));
    }

    /// The memory that client VMs keep for reuse.
    pub(super) fn kept(&mut self) -> Vec<Kept> {
        let kept = |vm: &mut Vm| {
            let worker = vm.worker.filter(|_| vm.process.running())?;
            let allocations = vm.stats("allocations") as usize;
            Some(Kept { agent: vm.holder(), worker, allocations })
        };
        self.vms.values_mut().filter_map(kept).collect()
    }

    /// The compositor's first client, and its first frame.
    pub(super) fn warm_up(&self) {
        Raw::connect(&self.direct()).sync();
        if let Kind::Newer(_) = self.plan.compositor {
            // At the first window it opens what it draws its identifiers from.
            let open = || {
                let mut client = Client::connect(&self.direct())?;
                let window = client.toplevel("first")?;
                window.show(&client.buffer(1, 1));
                // As in `place`.
                client.until("the window's size", |state| state.wanted != (0, 0))?;
                client.roundtrip()
            };
            open().expect("a window on a fresh compositor");
            self.sway().empty();
        }
        let first = matches!(self.plan.compositor, Kind::Example(_)).then(|| {
            // Here it opens the fonts that it writes names with.
            let mut client = Client::connect(&self.direct()).expect("a client");
            let window = client.toplevel("first").expect("a window");
            window.show(&client.buffer(1, 1));
            client.roundtrip().expect("a window on a fresh compositor");
            client
        });
        if self.plan.compositor.has_picture() {
            self.screenshot();
        }
        drop(first);
    }

    /// The processes of ours that are on the way: each VM's agent and worker, and `serve`.
    pub fn ours(&self) -> Vec<(String, u32)> {
        let mut ours = self.agents();
        let gui = self.plan.compositor_vm.then_some("gui");
        for vm in self.vms.keys().map(String::as_str).chain(gui) {
            let id = u32::try_from(self.status(vm, "pid")).expect("a process id");
            ours.push((format!("worker-{vm}"), id));
        }
        ours
    }

    /// The agents, by name, and the processes that hold what they hold.
    pub(super) fn agents(&self) -> Vec<(String, u32)> {
        let name = |process: &Process| process.name().to_owned();
        let runs = self.vms.values().map(|vm| (name(&vm.process), vm.holder()));
        let serve = self.serve.iter().map(|serve| (name(serve), self.gui.holder(serve)));
        runs.chain(serve).collect()
    }

    /// A baseline of everything.
    ///
    /// Also of memory that is kept for reuse: what comes back to it has to need no more of it at once than what was
    /// there before.
    ///
    /// # Panics
    /// If not all of the desk can be counted.
    pub fn leaks(&self) -> Leaks {
        let leaks = Leaks::baseline(self.folder.path());
        let proxy = self.proxy.iter().map(|proxy| ("wlproxy".to_owned(), proxy.id()));
        let compositor = ("compositor".to_owned(), self.gui.holder(self.compositor.process()));
        for (name, id) in self.agents().into_iter().chain(proxy).chain([compositor]) {
            assert!(
                leaks.counts(id),
                "{name} (process {id}) has ended, or /proc/{id}/environ or /proc/{id}/fd can't be read: root without \
                 CAP_SYS_PTRACE, as in most containers, can't read those of the user who runs the compositor; run the \
                 tests with that capability, or not as root"
            );
        }
        leaks
    }
}
