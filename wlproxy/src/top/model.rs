//! What wlproxy told last, what it told before, and the rates between.

use crate::counters::{ConnectionSnapshot, ReportedSnapshot};
use crate::status::Status;
use crate::status::table::{clients, reported};
use std::time::Instant;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Model {
    now: Option<(Status, Instant)>,
    before: Option<(Status, Instant)>,
    /// Why there is nothing newer.
    pub(super) trouble: Option<String>,
}

/// Messages per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) events: f64,
    pub(super) commits: f64,
}

/// What a VM tells of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Told<'a> {
    pub(super) vm: &'a str,
    pub(super) numbers: &'a ReportedSnapshot,
    /// Frames, damaged bytes and copied bytes per second.
    pub(super) rates: [f64; 3],
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) vm: &'a str,
    pub(super) numbers: &'a ConnectionSnapshot,
    pub(super) rates: Rates,
    /// Bytes that wait at either end.
    pub(super) waiting: u64,
}

impl Model {
    /// What wlproxy said at this time, or why it said nothing.
    pub(super) fn update(&mut self, answer: Result<Status, String>, at: Instant) {
        match answer {
            Ok(status) => {
                self.before = self.now.replace((status, at));
                self.trouble = None;
            }
            // What it counted before it was gone isn't the past of what it counts when it is back.
            Err(trouble) => {
                *self = Self { trouble: Some(trouble), ..Self::default() };
            }
        }
    }

    /// What it told last, unless it is gone.
    pub(super) fn status(&self) -> Option<&Status> {
        self.now.as_ref().map(|(status, _)| status)
    }

    /// The VMs, the busiest first.
    pub(super) fn vms(&self) -> Vec<(&str, Rates)> {
        let Some(status) = self.status() else { return Vec::new() };
        let mut vms: Vec<_> =
            status.vms.keys().map(|name| (name.as_str(), self.vm_rates(name))).collect();
        vms.sort_by(|(_, a), (_, b)| b.busier_than(a));
        vms
    }

    fn vm_rates(&self, name: &str) -> Rates {
        let numbers = |status: &Status| {
            let counters = &status.vms.get(name)?.counters;
            Some([counters.requests, counters.events, counters.commits])
        };
        self.per_second(numbers).into()
    }

    /// The VMs that have told something of themselves.
    pub(super) fn told(&self) -> Vec<Told<'_>> {
        let Some(status) = self.status() else { return Vec::new() };
        let told = reported(status).map(|(vm, numbers)| {
            let rates = self.per_second(|status| {
                let told = &status.vms.get(vm)?.counters.reported;
                Some([told.frames, told.damaged_bytes, told.copied_bytes])
            });
            Told { vm, numbers, rates }
        });
        told.collect()
    }

    /// The clients' connections, the busiest first; and how many aren't listed.
    pub(super) fn links(&self) -> (Vec<Link<'_>>, u64) {
        let Some(status) = self.status() else { return (Vec::new(), 0) };
        let (all, more) = clients(status);
        let mut links: Vec<_> = all
            .into_iter()
            .map(|(vm, numbers, waiting)| {
                let rates = self.per_second(|status| {
                    let all = &status.vms.get(vm)?.counters.connections;
                    let one = all.iter().find(|one| one.connection == numbers.connection)?;
                    Some([one.requests, one.events, one.commits])
                });
                Link { vm, numbers, rates: rates.into(), waiting }
            })
            .collect();
        links.sort_by(|a, b| b.rates.busier_than(&a.rates));
        (links, more)
    }

    /// How fast numbers grow. What has no past, or a greater one, because its worker was started again, stands still.
    fn per_second(&self, numbers: impl Fn(&Status) -> Option<[u64; 3]>) -> [f64; 3] {
        let (Some((now, at)), Some((before, then))) = (&self.now, &self.before) else {
            return [0.0; 3];
        };
        let seconds = at.saturating_duration_since(*then).as_secs_f64();
        let (Some(now), Some(before)) = (numbers(now), numbers(before)) else { return [0.0; 3] };
        if seconds <= 0.0 {
            return [0.0; 3];
        }
        std::array::from_fn(|at| now[at].saturating_sub(before[at]) as f64 / seconds)
    }
}

impl From<[f64; 3]> for Rates {
    fn from([requests, events, commits]: [f64; 3]) -> Self {
        Self { requests, events, commits }
    }
}

impl Rates {
    fn busier_than(&self, other: &Self) -> std::cmp::Ordering {
        (self.requests + self.events).total_cmp(&(other.requests + other.events))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Compositor;
    use crate::counters::Snapshot;
    use crate::device::Side;
    use crate::quota::Quota;
    use crate::quota::vm::VmQuota;
    use crate::status::{CompositorStatus, VmStatus, side_name};
    use std::time::Duration;

    /// The VMs "gui", "quiet" and "work", of which the last has connections 1 and 2. Connection 2 has said `said`.
    pub(crate) fn status(said: u64) -> Status {
        let one = |connection, requests| ConnectionSnapshot {
            connection,
            requests,
            events: requests / 2,
            commits: requests / 4,
            sending_bytes: 2048,
            ..Default::default()
        };
        let work = Snapshot {
            requests: said,
            events: said / 2,
            commits: said / 4,
            allocation_bytes: 3 << 20,
            connections: vec![one(1, 8), one(2, said)],
            more_connections: 1,
            reported: ReportedSnapshot {
                agents: 1,
                frames: said / 4,
                damaged_bytes: said << 10,
                copied_bytes: said << 9,
            },
            ..Default::default()
        };
        let quotas = (Some(Quota::default()), Some(VmQuota::default()));
        let vm = |side, counters| {
            let (quota, vm_quota) = if side == Side::Client { quotas } else { (None, None) };
            VmStatus { quota, vm_quota, ..VmStatus::of_test(side_name(side), counters) }
        };
        let vms = [
            ("gui".to_owned(), vm(Side::Compositor, Snapshot::default())),
            ("quiet".to_owned(), vm(Side::Client, Snapshot::default())),
            ("work".to_owned(), vm(Side::Client, work)),
        ];
        let compositor = CompositorStatus::new(&Compositor::Vm("gui".to_owned()), true);
        Status::new(compositor, 0, vms.into())
    }

    /// Two seconds pass, in which connection 2 makes 400 requests.
    pub(crate) fn model() -> Model {
        let (mut model, start) = (Model::default(), Instant::now());
        model.update(Ok(status(1000)), start);
        model.update(Ok(status(1400)), start + Duration::from_secs(2));
        model
    }

    #[test]
    fn rates_are_per_second_and_the_busiest_is_first() {
        let model = model();
        let rates = Rates { requests: 200.0, events: 100.0, commits: 50.0 };
        assert_eq!(model.vms()[0], ("work", rates));
        assert_eq!(model.vms()[1].1, Rates::default());
        let (links, more) = model.links();
        let order: Vec<_> = links.iter().map(|link| link.numbers.connection).collect();
        assert_eq!((order, more), (vec![2, 1], 1));
        assert_eq!((links[0].rates, links[0].waiting), (rates, 2048));
        let [told] = model.told()[..] else { panic!("{:?}", model.told()) };
        assert_eq!((told.vm, told.rates), ("work", [50.0, 204_800.0, 102_400.0]));
    }

    #[test]
    fn what_begins_again_stands_still() {
        let (mut model, start) = (Model::default(), Instant::now());
        model.update(Ok(status(1000)), start);
        assert_eq!(model.vms()[0].1, Rates::default(), "nothing came before");
        model.update(Ok(status(8)), start + Duration::from_secs(1));
        assert_eq!(model.vms()[0].1, Rates::default(), "the worker was started again");
    }

    #[test]
    fn a_wlproxy_that_is_gone_has_no_numbers_until_it_is_back() {
        let mut model = model();
        model.update(Err("gone".to_owned()), Instant::now());
        assert!(model.status().is_none() && model.vms().is_empty() && model.links().0.is_empty());
        assert!(model.told().is_empty());
        assert_eq!(model.trouble.as_deref(), Some("gone"));
        model.update(Ok(status(2000)), Instant::now());
        assert!(model.trouble.is_none() && model.status().is_some());
        assert_eq!(model.links().0[0].rates, Rates::default());
    }
}
