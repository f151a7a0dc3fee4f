//! Whose turn it is: accounts take turns, and what is one's shares its turn.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

/// Who shares a turn: in a compositor VM all that is a client VM's, in a client VM all that is an application's connection.
pub(crate) type Account = Rc<str>;

/// Turns in a row after which an account is alone. A flood has as many in 20 to 100 ms, and else they take seconds: so to a
/// person, whoever else does anything now and then is there.
const ALONE: u32 = 1000;

/// Keys that have something to do, each at most once, by account.
///
/// Who had nothing to do before comes ahead of who has used up a turn, as in fq_codel (RFC 8290, 4.1): a flood takes what
/// others leave. Whoever takes a turn of each that is there, and only then looks for more, leaves nobody out.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Accounts that had nothing to do when they came, in the order in which they did.
    fresh: VecDeque<Account>,
    /// Those that have had a turn and weren't done.
    used: VecDeque<Account>,
    /// What is ready, of these and of those whose turn it is.
    ready: HashMap<Account, VecDeque<u64>>,
    keys: HashSet<u64>,
    /// Who had the last turn, and how many in a row.
    last: Option<(Account, u32)>,
}

impl Turns {
    /// This key has something to do.
    pub(crate) fn push(&mut self, account: &Account, key: u64) {
        if !self.keys.insert(key) {
            return;
        }
        match self.ready.get_mut(account) {
            Some(ready) => ready.push_back(key),
            None => {
                self.ready.insert(account.clone(), VecDeque::from([key]));
                self.fresh.push_back(account.clone());
            }
        }
    }

    /// Accounts that wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.fresh.len() + self.used.len()
    }

    /// Begins the next turn, which is to be [ended](Turns::end).
    pub(crate) fn begin(&mut self) -> Option<Account> {
        let account = self.fresh.pop_front().or_else(|| self.used.pop_front())?;
        match &mut self.last {
            Some((last, turns)) if *last == account => *turns = turns.saturating_add(1),
            Some(last) => *last = (account.clone(), 1),
            // There never was another.
            None => self.last = Some((account.clone(), ALONE)),
        }
        Some(account)
    }

    /// Whether others had a turn lately, so that they may want another soon.
    pub(crate) fn are_shared(&self) -> bool {
        self.last.as_ref().is_some_and(|(_, turns)| *turns < ALONE)
    }

    /// Takes what is next in this account's turn.
    pub(crate) fn take(&mut self, account: &Account) -> Option<u64> {
        let key = self.ready.get_mut(account)?.pop_front()?;
        self.keys.remove(&key);
        Some(key)
    }

    /// Ends a turn. If something is left to do, there will be another.
    pub(crate) fn end(&mut self, account: Account) {
        if self.ready.get(&account).is_some_and(VecDeque::is_empty) {
            self.ready.remove(&account);
        } else {
            self.used.push_back(account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a turn of one step; whose it was.
    fn step(turns: &mut Turns) -> Option<u64> {
        let account = turns.begin()?;
        let key = turns.take(&account);
        turns.end(account);
        key
    }

    #[test]
    fn a_hundred_keys_of_one_account_have_one_turn_in_two() {
        let (flood, quiet): (Account, Account) = ("flood".into(), "quiet".into());
        let mut turns = Turns::default();
        (1..=100).for_each(|key| turns.push(&flood, key));
        for first in 1..=50 {
            turns.push(&quiet, 0);
            // Again before its turn, which changes nothing.
            turns.push(&quiet, 0);
            assert_eq!(turns.waiting(), 2);
            let mut both = [step(&mut turns), step(&mut turns)];
            both.sort();
            assert_eq!(both, [Some(0), Some(first)]);
        }
        assert_eq!(turns.waiting(), 1);
        assert!((51..=100).all(|key| step(&mut turns) == Some(key)));
        assert_eq!((turns.waiting(), step(&mut turns)), (0, None));
        assert!(turns.ready.is_empty() && turns.keys.is_empty());
    }

    #[test]
    fn who_had_nothing_to_do_comes_ahead_of_who_had_a_turn() {
        let mut turns = Turns::default();
        (1..=3).for_each(|key| turns.push(&"flood".into(), key));
        assert_eq!(step(&mut turns), Some(1));
        turns.push(&"one".into(), 11);
        turns.push(&"two".into(), 21);
        let order: Vec<u64> = std::iter::from_fn(|| step(&mut turns)).collect();
        assert_eq!(order, [11, 21, 2, 3]);
    }

    #[test]
    fn who_had_all_turns_for_long_is_alone() {
        let mut turns = Turns::default();
        let mut turn = |account: &str| {
            turns.push(&account.into(), account.len() as u64);
            assert_eq!(step(&mut turns), Some(account.len() as u64));
            turns.are_shared()
        };
        assert!(!turn("flood") && !turn("flood"), "nobody else has ever been there");
        assert!(turn("one") && turn("flood"));
        assert!((2..ALONE).all(|_| turn("flood")));
        assert!(!turn("flood") && !turn("flood"));
        assert!(turn("one"));
    }

    #[test]
    fn what_becomes_ready_in_its_own_turn_waits_for_the_next() {
        let mut turns = Turns::default();
        turns.push(&"busy".into(), 1);
        let account = turns.begin().unwrap();
        assert_eq!(turns.take(&account), Some(1));
        turns.push(&account, 1);
        assert_eq!(turns.waiting(), 0);
        turns.end(account);
        assert_eq!((turns.waiting(), step(&mut turns)), (1, Some(1)));
    }
}
