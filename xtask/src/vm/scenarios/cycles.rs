//! What is made and destroyed again and again: it costs no more the 500th time.

use super::super::lab::{Lab, Vm};
use super::holdings::{self, Holdings};
use super::probe::{before_recorder, client, start_agent};
use anyhow::{Result, ensure};

/// Most pieces of memory that a VM has mapped more while an agent lives: as many as it keeps for later
/// (`MAX_IDLE_COUNT` in `guest-agent/src/recycler.rs`).
const KEPT: usize = 64;

/// 500 pools of 1 MiB are made, drawn into, seen and destroyed. Few are mapped at a time, and once the agent has ended,
/// nothing is left of them: not in the VMs, their monitors or their workers.
pub(super) fn of_pools(lab: &mut Lab) -> Result<()> {
    before_recorder(lab, |lab| {
        // The compositor is there once somebody was served.
        start_agent(lab, Vm::Work)?;
        client(lab, Vm::Work, "long-messages")?;
        lab.end(Vm::Work, "probe-run")?;
        let before = Holdings::of(lab)?;
        start_agent(lab, Vm::Work)?;
        client(lab, Vm::Work, "pool-cycles")?;
        let mappings = Holdings::of(lab)?.more_mappings(&before);
        ensure!(mappings <= KEPT, "{mappings} mappings are kept");
        lab.note(&format!("{mappings} mappings are kept for later, as long as the agent lives"));
        lab.end(Vm::Work, "probe-run")?;
        holdings::wait_for(lab, &before, &Vm::ALL)
    })
}
