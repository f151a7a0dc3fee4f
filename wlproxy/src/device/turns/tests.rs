//! That no note is left lying: in every order of the steps, and with threads.

use super::*;
use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::thread;

/// What somebody does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Call,
    LookIfWanted,
    Want,
    Lock,
    Unwant,
    Take,
    Unlock,
    LookAgain,
    Done,
}

/// Everybody, between two steps. The last one is the vring worker, who is done until it is woken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    next: [Step; 3],
    notes: u8,
    taken: u8,
    wanted: bool,
    /// Who is at work.
    lock: Option<usize>,
    wakes: u8,
}

const WORKER: usize = 2;
/// Notes of both visitors.
const CALLS: u8 = 2;

impl State {
    /// After a step of `who`, if it can take one. Locks of the notes are held for one step each.
    fn step(&self, who: usize, looks_again: bool) -> Option<Self> {
        let mut state = self.clone();
        let next = match self.next[who] {
            Step::Call => {
                state.notes += 1;
                Step::LookIfWanted
            }
            Step::LookIfWanted if self.wanted => Step::Done,
            Step::LookIfWanted => Step::Lock,
            Step::Want => {
                state.wanted = true;
                Step::Lock
            }
            Step::Lock if self.lock.is_none() => {
                state.lock = Some(who);
                if who == WORKER { Step::Unwant } else { Step::Take }
            }
            Step::Lock if who == WORKER => return None,
            Step::Lock => Step::Done,
            Step::Unwant => {
                state.wanted = false;
                Step::Take
            }
            Step::Take => {
                state.taken += std::mem::take(&mut state.notes);
                Step::Unlock
            }
            Step::Unlock => {
                state.lock = None;
                if looks_again { Step::LookAgain } else { Step::Done }
            }
            Step::LookAgain => {
                state.wakes += u8::from(self.notes > 0);
                Step::Done
            }
            Step::Done if who == WORKER && self.wakes > 0 => {
                // Wakes come together.
                state.wakes = 0;
                Step::Want
            }
            Step::Done => return None,
        };
        state.next[who] = next;
        Some(state)
    }
}

/// How many states are reached, and in how many of those nobody will ever do anything, though notes lie there.
fn explore(looks_again: bool, worker: Step) -> (usize, usize) {
    let first = State {
        next: [Step::Call, Step::Call, worker],
        notes: 0,
        taken: 0,
        wanted: false,
        lock: None,
        wakes: 0,
    };
    let (mut seen, mut left, mut lost) = (HashSet::from([first.clone()]), vec![first], 0);
    while let Some(state) = left.pop() {
        let after: Vec<State> = (0..3).filter_map(|who| state.step(who, looks_again)).collect();
        if after.is_empty() {
            assert!(state.lock.is_none() && state.notes + state.taken == CALLS, "{state:?}");
            lost += usize::from(state.notes > 0);
        }
        left.extend(after.into_iter().filter(|state| seen.insert(state.clone())));
    }
    (seen.len(), lost)
}

#[test]
fn in_no_order_of_the_steps_a_note_is_left_lying() {
    for worker in [Step::Done, Step::Want] {
        let (states, lost) = explore(true, worker);
        assert!(states > 100 && lost == 0, "{lost} of {states}");
        // Without that look it would be, and this test would tell.
        assert!(explore(false, worker).1 > 0);
    }
}

#[test]
fn threads_that_call_are_all_heard_though_the_worker_sleeps() {
    const VISITORS: usize = 3;
    const CALLS: usize = 20_000;
    let turns = Turns::new([0; VISITORS]);
    let said = [const { AtomicUsize::new(0) }; VISITORS];
    let hear = |heard: &mut [usize; VISITORS], notes: Notes| {
        for visitor in notes {
            heard[visitor as usize] = said[visitor as usize].load(Ordering::SeqCst);
        }
    };
    thread::scope(|scope| {
        let (wake, woken) = channel();
        let (turns, said, hear) = (&turns, &said, &hear);
        scope.spawn(move || {
            while woken.recv().is_ok() {
                while turns.work(hear).1 {}
            }
        });
        for (visitor, said) in said.iter().enumerate() {
            let wake = wake.clone();
            scope.spawn(move || {
                for call in 0..CALLS {
                    said.fetch_add(1, Ordering::SeqCst);
                    turns.call(visitor as u32);
                    // Now and then somebody wakes it for something else; the last words aren't heard by such a chance.
                    let other = call % 1000 == 0 && call < CALLS / 2;
                    if turns.visit(hear) || other {
                        wake.send(()).unwrap();
                    }
                }
            });
        }
    });
    let (heard, _) = turns.work(|heard, notes| {
        assert!(notes.is_empty(), "{notes:?} are left lying");
        *heard
    });
    assert_eq!(heard, [CALLS; VISITORS]);
}
