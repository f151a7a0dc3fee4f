//! Fences that wait: answers of one context that are held back.
//!
//! A fence is signalled by the answer to its command. A driver takes the signal of one for that of all before it on the
//! same ring, so answers of a ring keep their order; other rings and contexts don't wait.

use crate::device::ring::Reply;
use std::collections::{BTreeMap, VecDeque};

/// An answer, and where it goes.
pub(super) type Answer = (Reply, Vec<u8>);

/// Names one that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) context: u32,
    ring: u8,
    number: u64,
}

#[derive(Debug)]
struct Fence {
    number: u64,
    answer: Answer,
    done: bool,
}

/// All of one context.
#[derive(Debug, Default)]
pub(super) struct Fences {
    rings: BTreeMap<u8, VecDeque<Fence>>,
    last: u64,
}

impl Fences {
    /// Holds an answer back until [`Fences::finish`].
    pub(super) fn hold(&mut self, context: u32, ring: u8, answer: Answer) -> Ticket {
        self.push(ring, answer, false);
        Ticket { context, ring, number: self.last }
    }

    /// Lets an answer follow those that are held back on its ring. `Some`: there are none, and it can be given.
    pub(super) fn follow(&mut self, ring: u8, answer: Answer) -> Option<Answer> {
        if !self.rings.contains_key(&ring) {
            return Some(answer);
        }
        self.push(ring, answer, true);
        None
    }

    fn push(&mut self, ring: u8, answer: Answer, done: bool) {
        self.last += 1;
        self.rings.entry(ring).or_default().push_back(Fence { number: self.last, answer, done });
    }

    /// Whether no other waits before it.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        let first = self.rings.get(&ticket.ring).and_then(|fences| fences.front());
        first.is_some_and(|fence| fence.number == ticket.number)
    }

    /// What it waited for has happened. Returns the answers that can be given now.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Vec<Answer> {
        let Some(fences) = self.rings.get_mut(&ticket.ring) else { return Vec::new() };
        if let Some(fence) = fences.iter_mut().find(|fence| fence.number == ticket.number) {
            fence.done = true;
        }
        let mut answers = Vec::new();
        while fences.front().is_some_and(|fence| fence.done) {
            answers.extend(fences.pop_front().map(|fence| fence.answer));
        }
        if fences.is_empty() {
            self.rings.remove(&ticket.ring);
        }
        answers
    }

    /// How many are held back.
    pub(super) fn len(&self) -> usize {
        self.rings.values().map(VecDeque::len).sum()
    }

    /// All answers, held back or not.
    pub(super) fn into_answers(self) -> impl Iterator<Item = Answer> {
        self.rings.into_values().flatten().map(|fence| fence.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::ring::reply_for_tests;

    fn answer(n: u64) -> Answer {
        (reply_for_tests(n), vec![n as u8])
    }

    fn told(answers: Vec<Answer>) -> Vec<u8> {
        answers.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    #[test]
    fn answers_of_a_ring_keep_their_order_and_rings_do_not_wait() {
        let mut fences = Fences::default();
        assert!(fences.follow(0, answer(0)).is_some());
        let first = fences.hold(7, 0, answer(1));
        let second = fences.hold(7, 0, answer(2));
        let other = fences.hold(7, 1, answer(3));
        assert!(fences.follow(0, answer(4)).is_none());
        assert!(fences.follow(2, answer(5)).is_some());
        assert!(fences.is_first(first) && !fences.is_first(second) && fences.is_first(other));
        assert_eq!(told(fences.finish(second)), Vec::<u8>::new());
        assert_eq!(told(fences.finish(other)), [3]);
        assert_eq!(told(fences.finish(first)), [1, 2, 4]);
        assert_eq!(fences.len(), 0);
        assert_eq!(told(fences.finish(first)), Vec::<u8>::new(), "twice");
        fences.hold(7, 0, answer(6));
        assert_eq!(told(fences.into_answers().collect()), [6]);
    }
}
