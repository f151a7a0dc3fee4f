//! Which connection of an account has bytes that its local peer hasn't read: one at a time.
//!
//! A compositor reads some KiB of each socket in its turn. So where several of an account's sockets are full, the account has
//! several turns, and others wait for all of them.

use crate::turns::Account;
use std::collections::HashMap;

/// Who may write to the local peer.
#[derive(Debug, Default)]
pub(crate) struct Unread(HashMap<Account, Pile>);

/// What an account has there.
#[derive(Debug)]
struct Pile {
    /// The connection whose bytes lie there, as far as is known.
    of: u64,
    /// Connections that wait until they are read, first come first.
    waiting: Vec<u64>,
}

impl Unread {
    /// Whether this connection may write. If not, it waits until [`Unread::take_waiting`] has it. `is_read` tells whether the
    /// local peer has read all of a connection.
    pub(crate) fn may_write(
        &mut self,
        account: &Account,
        key: u64,
        is_read: impl FnOnce(u64) -> bool,
    ) -> bool {
        let Some(pile) = self.0.get_mut(account) else { return true };
        // Who has written before may go on, unless somebody waits for that to end.
        if pile.of == key && pile.waiting.is_empty() || is_read(pile.of) {
            return true;
        }
        if !pile.waiting.contains(&key) {
            pile.waiting.push(key);
        }
        false
    }

    /// This connection has written.
    pub(crate) fn wrote(&mut self, account: &Account, key: u64) {
        match self.0.get_mut(account) {
            Some(pile) => pile.of = key,
            None => {
                self.0.insert(account.clone(), Pile { of: key, waiting: Vec::new() });
            }
        }
    }

    /// The local peer has read something of this connection, or it has ended. Takes those that may try again.
    pub(crate) fn take_waiting(
        &mut self,
        account: &Account,
        key: u64,
        is_read: impl FnOnce(u64) -> bool,
    ) -> Vec<u64> {
        let Some(pile) = self.0.get_mut(account) else { return Vec::new() };
        if pile.of != key || !is_read(key) {
            return Vec::new();
        }
        self.0.remove(account).map(|pile| pile.waiting).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_an_account_has_bytes_there_and_the_others_come_in_order() {
        let (flood, quiet): (Account, Account) = ("flood".into(), "quiet".into());
        let mut unread = Unread::default();
        let is_read = |_| true;
        let isnt_read = |_| false;
        assert!(unread.may_write(&flood, 1, isnt_read));
        unread.wrote(&flood, 1);
        assert!(unread.may_write(&flood, 1, isnt_read), "nobody else wants to");
        assert!(!unread.may_write(&flood, 2, isnt_read) && !unread.may_write(&flood, 3, isnt_read));
        assert!(!unread.may_write(&flood, 1, isnt_read), "others wait");
        assert!(unread.may_write(&quiet, 4, isnt_read), "another account");
        assert!(unread.take_waiting(&flood, 1, isnt_read).is_empty());
        assert!(unread.take_waiting(&flood, 2, is_read).is_empty());
        assert_eq!(unread.take_waiting(&flood, 1, is_read), [2, 3, 1]);
        assert!(unread.may_write(&flood, 2, isnt_read));
        unread.wrote(&flood, 2);
        assert!(!unread.may_write(&flood, 3, isnt_read) && unread.may_write(&flood, 3, is_read));
    }
}
