//! Tells the host what this agent has counted.

use crate::channel::{Error, Event, Received, Sent, VfdId};
use crate::stats::Stats;
use crate::world::World;
use std::time::{Duration, Instant};
use wlproxy_protocol::report::Report;

/// Shortest time between two reports: as often a worker tells wlproxy what it has (`wlproxy`, `worker.rs`).
const PERIOD: Duration = Duration::from_millis(250);

/// What is reported, and how far that has come.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    place: Place,
    /// What was told last.
    told: Report,
    /// When.
    at: Option<Instant>,
    /// The channel hasn't done with it yet.
    busy: bool,
}

/// Where it is reported.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing was reported yet.
    #[default]
    Unopened,
    Open(VfdId),
    /// Whoever is on the other side takes no reports, or no more.
    Nowhere,
}

impl Reporter {
    /// When something is to be told that nothing else will have [`Reporter::turn`] called for.
    pub(super) fn due(&self, stats: &Stats) -> Option<Instant> {
        let is_waiting = self.place == Place::Nowhere || self.busy || report(stats) == self.told;
        self.at.filter(|_| !is_waiting).map(|at| at + PERIOD)
    }

    /// Tells what has changed, unless it told something a moment ago. It asks what time it is `now` only if it has to.
    /// Fails only with [`Error::Lost`].
    pub(super) fn turn(
        &mut self,
        world: &mut World,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), Error> {
        if self.place == Place::Nowhere || self.busy || report(&world.stats) == self.told {
            return Ok(());
        }
        let now = now();
        if self.at.is_some_and(|at| now < at + PERIOD) {
            return Ok(());
        }
        self.tell(world, now)
    }

    /// The same, however short ago it told something.
    pub(super) fn tell(&mut self, world: &mut World, now: Instant) -> Result<(), Error> {
        let report = report(&world.stats);
        if self.busy || report == self.told {
            return Ok(());
        }
        let Some(vfd) = self.open(world)? else { return Ok(()) };
        match world.channel.send(vfd, &report.encode(), &[]) {
            Ok(Sent::Accepted) => {
                self.told = report;
                self.at = Some(now);
            }
            Ok(Sent::Busy) => self.busy = true,
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(error) => self.end(world, &error.to_string()),
        }
        Ok(())
    }

    /// Something happened to a vfd: perhaps to the one where it reports. Fails only with [`Error::Lost`].
    pub(super) fn event(&mut self, event: Event, world: &mut World) -> Result<(), Error> {
        let Place::Open(ours) = self.place else { return Ok(()) };
        match event {
            Event::Writable(vfd) if vfd == ours => self.busy = false,
            Event::Readable(vfd) if vfd == ours => {
                match world.channel.receive(vfd, &mut Vec::new()) {
                    Ok(Received::Nothing) => {}
                    Err(error @ Error::Lost(_)) => return Err(error),
                    // Nobody has anything to say here.
                    Ok(Received::Message(arrived)) => {
                        arrived.iter().for_each(|arrived| world.discard(arrived));
                        self.end(world, "it answers");
                    }
                    Ok(Received::HangUp) => self.end(world, "it hung up"),
                    Err(error) => self.end(world, &error.to_string()),
                }
            }
            Event::Writable(_) | Event::Readable(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, world: &mut World) -> Result<Option<VfdId>, Error> {
        if self.place == Place::Unopened {
            match world.channel.open_reports() {
                Ok(vfd) => self.place = Place::Open(vfd),
                Err(error @ Error::Lost(_)) => return Err(error),
                Err(error) => self.end(world, &error.to_string()),
            }
        }
        match self.place {
            Place::Open(vfd) => Ok(Some(vfd)),
            Place::Unopened | Place::Nowhere => Ok(None),
        }
    }

    /// Goes on without.
    fn end(&mut self, world: &mut World, why: &str) {
        tracing::debug!("the host takes no reports of this agent's numbers: {why}");
        if let Place::Open(vfd) = std::mem::replace(&mut self.place, Place::Nowhere) {
            world.channel.close(vfd);
        }
    }
}

fn report(stats: &Stats) -> Report {
    let &Stats { frames, damaged_bytes, copied_bytes, .. } = stats;
    Report { frames, damaged_bytes, copied_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::Fake;

    struct Desk {
        fake: Fake,
        world: World,
        reporter: Reporter,
        start: Instant,
    }

    impl Desk {
        fn new() -> Self {
            let fake = Fake::new();
            fake.state.borrow_mut().takes_reports = true;
            let world = World::new(Box::new(fake.clone())).unwrap();
            Self { fake, world, reporter: Reporter::default(), start: Instant::now() }
        }

        /// So many milliseconds after the start.
        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        /// A frame is committed, and the agent has its turn.
        fn frame(&mut self, millis: u64) {
            self.world.stats.frames += 1;
            self.turn(millis);
        }

        fn turn(&mut self, millis: u64) {
            let now = self.at(millis);
            let mut events = Vec::new();
            self.world.channel.dispatch(&mut events).unwrap();
            for event in events {
                self.reporter.event(event, &mut self.world).unwrap();
            }
            self.reporter.turn(&mut self.world, || now).unwrap();
        }

        /// The frames of all reports that were sent.
        fn told(&self) -> Vec<u64> {
            let state = self.fake.state.borrow();
            state.sent.iter().map(|m| Report::decode(&m.bytes).unwrap().frames).collect()
        }

        fn due(&self) -> Option<Instant> {
            self.reporter.due(&self.world.stats)
        }
    }

    #[test]
    fn changes_are_told_at_once_and_then_four_times_a_second() {
        let mut desk = Desk::new();
        desk.turn(0);
        assert_eq!((desk.fake.open(), desk.due()), (vec![], None), "there is nothing to tell");
        desk.frame(10);
        desk.frame(20);
        desk.frame(259);
        assert_eq!((desk.told(), desk.due()), (vec![1], Some(desk.at(260))));
        desk.turn(260);
        assert_eq!((desk.told(), desk.due()), (vec![1, 3], None), "and nobody needs a timer");
        desk.turn(9000);
        desk.frame(9001);
        assert_eq!((desk.told(), desk.due(), desk.fake.open().len()), (vec![1, 3, 4], None, 1));
    }

    #[test]
    fn the_last_numbers_are_told_however_soon() {
        let mut desk = Desk::new();
        desk.frame(0);
        desk.world.stats.copied_bytes += 7;
        let now = desk.at(1);
        desk.reporter.tell(&mut desk.world, now).unwrap();
        let last = desk.fake.state.borrow().sent.last().unwrap().bytes.clone();
        let expected = Report { frames: 1, damaged_bytes: 0, copied_bytes: 7 };
        assert_eq!(Report::decode(&last), Ok(expected));
        desk.reporter.tell(&mut desk.world, now).unwrap();
        assert_eq!(desk.told().len(), 2, "once");
    }

    #[test]
    fn one_that_is_not_taken_yet_waits_and_then_the_newest_is_told() {
        let mut desk = Desk::new();
        desk.fake.set_credit(Some(1));
        desk.frame(0);
        desk.frame(300);
        desk.frame(600);
        assert_eq!((desk.told(), desk.due()), (vec![1], None), "the channel tells when");
        desk.fake.set_credit(None);
        desk.turn(601);
        assert_eq!(desk.told(), [1, 3]);
    }

    #[test]
    fn without_anybody_who_takes_reports_it_goes_on() {
        let mut desk = Desk::new();
        desk.fake.state.borrow_mut().takes_reports = false;
        desk.frame(0);
        desk.fake.state.borrow_mut().takes_reports = true;
        desk.frame(1000);
        assert_eq!((desk.told(), desk.fake.open(), desk.due()), (vec![], vec![], None));
    }

    #[test]
    fn it_ends_with_its_context_and_the_agent_goes_on() {
        for (what, harm) in [
            ("a hang-up", (|desk, vfd| desk.fake.hang_up(vfd)) as fn(&Desk, VfdId)),
            ("an answer", |desk, vfd| {
                let memory = desk.fake.arriving_memory(b"well");
                desk.fake.deliver(vfd, b"well", vec![memory]);
            }),
            ("a failure", |desk, _| {
                let failure = Error::Refused("no".into());
                desk.fake.state.borrow_mut().send_failures.push_back(failure);
            }),
        ] {
            let mut desk = Desk::new();
            desk.frame(0);
            harm(&desk, desk.fake.open()[0]);
            desk.frame(1000);
            desk.frame(2000);
            assert_eq!((desk.told(), desk.due()), (vec![1], None), "{what}");
            assert_eq!(desk.fake.open(), [], "{what}");
        }
    }

    #[test]
    fn a_lost_channel_reaches_the_top() {
        let mut desk = Desk::new();
        desk.fake.lose();
        desk.world.stats.frames = 1;
        let turn = desk.reporter.turn(&mut desk.world, || desk.start);
        assert!(matches!(turn, Err(Error::Lost(_))));
    }
}
