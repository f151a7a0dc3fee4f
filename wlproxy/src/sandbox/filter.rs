//! The list of system calls as programs that the kernel runs at each.

use super::calls::{self, Call, Only};
use nix::unistd::getpid;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::env::consts::ARCH;

/// Programs, of which the strictest answer counts.
pub(super) struct Filter(Vec<BpfProgram>);

impl Filter {
    /// From here on, for all threads.
    pub(super) fn apply(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter_all_threads(program))
    }
}

/// For a worker: what isn't in the list ends the process.
pub(super) fn of_worker() -> Result<Filter, Error> {
    let mut allowed = list(&[calls::WORKER, calls::LEGACY])?;
    let mut programs = Vec::new();
    for &(errno, numbers) in calls::REFUSED {
        let refused = numbers.iter().map(|&number| (number, Vec::new()));
        programs.push(program(refused.collect(), SeccompAction::Allow, fails(errno))?);
        // The program below lets them through to the one above.
        allowed.extend(numbers.iter().map(|&number| (number, Vec::new())));
    }
    programs.push(program(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?);
    Ok(Filter(programs))
}

/// For wlproxy: what isn't in the lists fails. The workers that it starts can do no more than it.
pub(super) fn of_wlproxy() -> Result<Filter, Error> {
    let mut allowed = list(&[calls::WORKER, calls::LEGACY])?;
    // Over those of the worker that are there with fewer arguments.
    allowed.extend(list(&[calls::WLPROXY, calls::WLPROXY_LEGACY])?);
    Ok(Filter(vec![program(allowed, fails(libc::EPERM), SeccompAction::Allow)?]))
}

fn fails(errno: i32) -> SeccompAction {
    SeccompAction::Errno(errno.unsigned_abs())
}

fn list(lists: &[&[Call]]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    lists.iter().copied().flatten().map(|call| Ok((call.number, rules(call.only)?))).collect()
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, then, TargetArch::try_from(ARCH)?)?.try_into()
}

/// One of these has to be so. None: always.
fn rules(only: Only) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |index, op, value| {
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)?;
        SeccompRule::new(vec![condition])
    };
    match only {
        Only::Always => Ok(Vec::new()),
        Only::OneOf(index, values) => {
            values.iter().map(|&value| rule(index, SeccompCmpOp::Eq, value)).collect()
        }
        Only::Without(index, bits) => Ok(vec![rule(index, SeccompCmpOp::MaskedEq(bits), 0)?]),
        Only::With(index, bits) => Ok(vec![rule(index, SeccompCmpOp::MaskedEq(bits), bits)?]),
        Only::Itself(index) => Ok(vec![rule(index, SeccompCmpOp::Eq, getpid().as_raw() as u64)?]),
    }
}
