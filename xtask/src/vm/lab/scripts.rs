//! Scripts in VMs.

use super::super::machine::Output;
use super::{DEADLINE, Lab, Vm};
use anyhow::Result;

impl Lab {
    /// Runs a script to its end. What it leaves running must not hold its output: that is waited for, too.
    pub(crate) fn run(&mut self, vm: Vm, uid: u32, script: &str) -> Result<Output> {
        self.with(vm, |machine, supervisor| machine.run(supervisor, uid, script, DEADLINE))
    }

    /// Runs a script that must succeed. What it wrote.
    pub(crate) fn bytes(&mut self, vm: Vm, uid: u32, script: &str) -> Result<Vec<u8>> {
        self.with(vm, |machine, supervisor| machine.check(supervisor, uid, script, DEADLINE))
    }

    /// The same, as text without space around it.
    pub(crate) fn text(&mut self, vm: Vm, uid: u32, script: &str) -> Result<String> {
        Ok(String::from_utf8(self.bytes(vm, uid, script)?)?.trim().to_owned())
    }

    /// Starts a script that goes on, called `name`, until [`Lab::end`] or the end of the scenario. What it writes is in
    /// `/run/log/NAME`.
    pub(crate) fn start(&mut self, vm: Vm, uid: u32, name: &str, script: &str) -> Result<()> {
        self.with(vm, |machine, supervisor| machine.background(supervisor, uid, name, script))?;
        self.started.push((vm, name.to_owned()));
        Ok(())
    }

    /// Ends what was started, with all that it has started itself. Returns its exit status, or 128 and the signal that
    /// ended it: also of one that has ended by itself.
    pub(crate) fn end(&mut self, vm: Vm, name: &str) -> Result<i32> {
        self.started.retain(|(of, started)| (*of, &**started) != (vm, name));
        self.with(vm, |machine, supervisor| machine.end(supervisor, name))
    }

    /// Waits for a file, folder or socket that one of those that go on, `who`, makes.
    pub(crate) fn wait_for(&mut self, vm: Vm, path: &str, who: &str) -> Result<()> {
        self.with(vm, |machine, supervisor| machine.wait_for(supervisor, path, who, DEADLINE))
    }
}
