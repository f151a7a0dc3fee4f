//! How much of an account's the local peer has and hasn't read: a few bytes, of one connection at a time.
//!
//! A compositor reads some KiB of each socket in its turn, and answers nobody before it has done what they say. So where several
//! of an account's sockets are full, the account has several turns, and others wait for all of them; and where one is full, they
//! wait for some KiB. What isn't in a socket yet waits where others can pass it.

use crate::turns::Account;
use std::collections::{HashMap, VecDeque};

/// Who may write to the local peer.
#[derive(Debug, Default)]
pub(crate) struct Unread(HashMap<Account, Pile>);

/// What an account has there.
#[derive(Debug)]
struct Pile {
    /// The connection whose bytes lie there, or whose turn it is.
    of: u64,
    /// How many it has written since all of its bytes were read: none if its turn has just come.
    bytes: usize,
    /// Connections that wait for their turns, first come first.
    waiting: VecDeque<u64>,
}

impl Unread {
    /// How many bytes this connection may write, of an account that may have `most` there. If none, it waits until
    /// [`Unread::next`] has it.
    pub(crate) fn room(&mut self, account: &Account, key: u64, most: usize) -> usize {
        let Some(pile) = self.0.get_mut(account) else { return most };
        // Who has written before may go on, unless somebody waits for that to end.
        if pile.of == key && (pile.bytes == 0 || pile.waiting.is_empty() && pile.bytes < most) {
            return most - pile.bytes;
        }
        if !pile.waiting.contains(&key) {
            pile.waiting.push_back(key);
        }
        0
    }

    /// This connection has written so many bytes, and they weren't read at once.
    pub(crate) fn wrote(&mut self, account: &Account, key: u64, bytes: usize) {
        match self.0.get_mut(account) {
            Some(pile) if pile.of == key => pile.bytes += bytes,
            Some(pile) => (pile.of, pile.bytes) = (key, bytes),
            None => {
                let pile = Pile { of: key, bytes, waiting: VecDeque::new() };
                self.0.insert(account.clone(), pile);
            }
        }
    }

    /// Whether this connection's turn has come, and it hasn't written yet.
    pub(crate) fn has_turn(&self, account: &Account, key: u64) -> bool {
        self.0.get(account).is_some_and(|pile| pile.of == key && pile.bytes == 0)
    }

    /// All that this connection wrote was read, or it had nothing to write, or it has ended: who has the next turn, and is to be
    /// woken.
    pub(crate) fn next(&mut self, account: &Account, key: u64) -> Option<u64> {
        let pile = self.0.get_mut(account)?;
        if pile.of != key {
            return None;
        }
        match pile.waiting.pop_front() {
            Some(next) => {
                (pile.of, pile.bytes) = (next, 0);
                Some(next)
            }
            None => {
                self.0.remove(account);
                None
            }
        }
    }

    /// Whether bytes of this connection may lie there.
    pub(crate) fn are_of(&self, account: &Account, key: u64) -> bool {
        self.0.get(account).is_some_and(|pile| pile.of == key)
    }

    /// This connection has ended. Who has the next turn, if it had this one.
    pub(crate) fn forget(&mut self, account: &Account, key: u64) -> Option<u64> {
        self.0.get_mut(account)?.waiting.retain(|&waiting| waiting != key);
        self.next(account, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_an_account_has_bytes_there_and_the_others_come_in_order() {
        let (flood, quiet): (Account, Account) = ("flood".into(), "quiet".into());
        let mut unread = Unread::default();
        assert_eq!(unread.room(&flood, 1, 10), 10);
        unread.wrote(&flood, 1, 4);
        assert_eq!(unread.room(&flood, 1, 10), 6, "nobody else wants to");
        assert_eq!([2, 3, 1, 2].map(|key| unread.room(&flood, key, 10)), [0; 4]);
        assert_eq!(unread.room(&quiet, 4, 10), 10, "another account");
        assert_eq!(unread.next(&flood, 2), None, "nothing lies there of it");
        assert_eq!(unread.next(&flood, 1), Some(2));
        assert!(unread.has_turn(&flood, 2) && !unread.has_turn(&flood, 1));
        assert_eq!([3, 2].map(|key| unread.room(&flood, key, 10)), [0, 10]);
        unread.wrote(&flood, 2, 1);
        assert!(unread.are_of(&flood, 2) && !unread.has_turn(&flood, 2));
        assert_eq!(unread.room(&flood, 2, 10), 0, "others wait");
        // One that ends keeps nobody waiting, neither with bytes there nor without.
        assert_eq!(unread.forget(&flood, 1), None);
        assert_eq!(unread.forget(&flood, 2), Some(3));
        assert_eq!(unread.next(&flood, 3), None);
        assert!(unread.0.is_empty());
    }

    #[test]
    fn one_alone_goes_on_until_so_much_is_unread_and_again_once_it_is_read() {
        let work: Account = "work".into();
        let mut unread = Unread::default();
        for (wrote, left) in [(4, 6), (5, 1), (1, 0)] {
            unread.wrote(&work, 1, wrote);
            assert_eq!(unread.room(&work, 1, 10), left);
        }
        // It waits for itself.
        assert_eq!(unread.next(&work, 1), Some(1));
        assert_eq!(unread.room(&work, 1, 5), 5);
        unread.wrote(&work, 1, 5);
        assert_eq!(unread.room(&work, 1, 4), 0, "it may have less now");
        assert_eq!(unread.next(&work, 1), Some(1));
        assert_eq!(unread.next(&work, 1), None, "it had nothing to write");
        assert!(unread.0.is_empty());
    }
}
