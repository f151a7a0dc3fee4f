//! What `cargo xtask vm test` tests, one scenario after the other over the same VMs.
//!
//! A scenario gets VMs in which the usual parts run and nothing else, with an empty screen. It leaves them so: what it has
//! started with [`Lab::start`] is ended for it. If it fails, all VMs are started again for the next one.

mod cycles;
mod death;
mod early;
mod examples;
mod holdings;
mod hostile;
mod itself;
mod lending;
mod pixels;
mod probe;
mod shell;
mod windows;

use super::lab::{Lab, Vm};
use anyhow::{Result, bail};
use death::End;

/// One thing that is tested.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    /// What it is called, also on the command line.
    pub(super) name: &'static str,
    /// Tests it.
    pub(super) run: fn(&mut Lab) -> Result<()>,
}

/// Those that leave the VMs alone.
const GENTLE: &[Scenario] = &[
    Scenario { name: "names", run: itself::names },
    Scenario { name: "statuses", run: itself::statuses },
    Scenario { name: "current-build", run: itself::current_build },
    Scenario { name: "waiting", run: itself::waiting },
    Scenario { name: "ending", run: itself::ending },
    Scenario { name: "windows-of-vms", run: windows::of_vms },
    Scenario { name: "same-pixels", run: pixels::same },
    Scenario { name: "suite", run: probe::suite },
    Scenario { name: "clipboard", run: probe::clipboard },
    Scenario { name: "zero-copy", run: probe::zero_copy },
    Scenario { name: "zero-copy-of-applications", run: lending::to_applications },
    Scenario { name: "figures", run: probe::figures },
    Scenario { name: "pool-cycles", run: cycles::of_pools },
    Scenario { name: "example-smithay", run: |lab| examples::shows(lab, "smithay") },
    Scenario { name: "example-libwayland", run: |lab| examples::shows(lab, "libwayland") },
    Scenario { name: "example-wlroots", run: |lab| examples::shows(lab, "wlroots") },
    Scenario { name: "hostile-program", run: hostile::program },
    Scenario { name: "hostile-kernel", run: hostile::kernel },
];

/// Those that end VMs, and start them again.
const DEADLY: &[Scenario] = &[
    Scenario { name: "shell-after-kill", run: shell::takes_its_place },
    Scenario { name: "early-clients", run: early::clients },
    Scenario { name: "reboot-of-work", run: |lab| death::of(lab, Vm::Work, End::Reboot) },
    Scenario { name: "reboot-of-untrusted", run: |lab| death::of(lab, Vm::Untrusted, End::Reboot) },
    Scenario { name: "reboot-of-gui", run: |lab| death::of(lab, Vm::Gui, End::Reboot) },
    Scenario { name: "kill-of-work", run: |lab| death::of(lab, Vm::Work, End::Kill) },
    Scenario { name: "kill-of-untrusted", run: |lab| death::of(lab, Vm::Untrusted, End::Kill) },
    Scenario { name: "kill-of-gui", run: |lab| death::of(lab, Vm::Gui, End::Kill) },
    Scenario { name: "death-of-worker-of-work", run: |lab| death::of(lab, Vm::Work, End::Worker) },
    Scenario {
        name: "death-of-worker-of-untrusted",
        run: |lab| death::of(lab, Vm::Untrusted, End::Worker),
    },
    Scenario { name: "death-of-worker-of-gui", run: |lab| death::of(lab, Vm::Gui, End::Worker) },
];

/// All of them, in the order in which they are run.
pub(super) fn all() -> impl Iterator<Item = Scenario> {
    GENTLE.iter().chain(DEADLY).copied()
}

/// Those with one of these words in their names, or all.
pub(super) fn chosen(words: &[String]) -> Result<Vec<Scenario>> {
    if let Some(word) = words.iter().find(|word| !all().any(|one| one.name.contains(&**word))) {
        let names: Vec<&str> = all().map(|scenario| scenario.name).collect();
        bail!("there is no scenario {word} here, but {}", names.join(", "));
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(&**word));
    Ok(all().filter(|scenario| wanted(scenario.name)).collect())
}

/// Whether some need the compositors of `examples/`.
pub(super) fn have_examples(scenarios: &[Scenario]) -> bool {
    scenarios.iter().any(|scenario| scenario.name.starts_with("example-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_scenario_can_be_chosen() {
        let names: HashSet<&str> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count(), "names are used twice");
        assert_eq!(chosen(&[]).unwrap().len(), names.len());
        for name in names {
            let found = chosen(&[name.to_owned()]).unwrap();
            assert!(found.iter().any(|scenario| scenario.name == name), "{name}");
        }
    }

    #[test]
    fn examples_are_built_for_those_that_need_them() {
        assert!(have_examples(&chosen(&[]).unwrap()));
        assert!(have_examples(&chosen(&["wlroots".to_owned()]).unwrap()));
        assert!(!have_examples(&chosen(&["names".to_owned(), "pixels".to_owned()]).unwrap()));
    }

    #[test]
    fn a_scenario_that_is_not_there_is_told_with_those_that_are() {
        let error = chosen(&["names".to_owned(), "nothing".to_owned()]).err().unwrap();
        let error = format!("{error:#}");
        assert!(
            error.contains("no scenario nothing") && error.contains("windows-of-vms"),
            "{error}"
        );
    }
}
