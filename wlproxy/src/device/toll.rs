//! What a pipe carries of a selection: how much of it there has been, and how much there may be.

use crate::counters::Counters;
use crate::relay::Begun;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A transfer, from its beginning to its end, of which the log tells when it is dropped.
#[derive(Debug)]
pub(super) struct Transfer {
    vm: Arc<str>,
    connection: u64,
    begun: Begun,
    counters: Arc<Counters>,
    /// `None` where the host doesn't carry it.
    bytes: Option<u64>,
    why: Option<String>,
}

impl Transfer {
    /// One that begins now, over this connection of the VM's.
    pub(super) fn new(
        vm: &Arc<str>,
        connection: u64,
        begun: &Begun,
        counters: Arc<Counters>,
    ) -> Self {
        counters.transfers.add(1);
        Self {
            vm: vm.clone(),
            connection,
            begun: begun.clone(),
            counters,
            bytes: Some(0),
            why: None,
        }
    }

    /// Ends it: its bytes go another way.
    pub(super) fn go_elsewhere(mut self, why: &str) {
        (self.bytes, self.why) = (None, Some(why.to_owned()));
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let Begun { direction, kind, of, is_told: true, .. } = &self.begun else { return };
        let kind = kind.map_or_else(|| "unknown".to_owned(), |kind| kind.to_string());
        let why = self.why.as_deref().unwrap_or("the VM has closed it, or is gone");
        tracing::info!(
            vm = &*self.vm,
            connection = self.connection,
            %direction,
            kind,
            r#type = of,
            bytes = self.bytes,
            "a transfer ends: {why}"
        );
    }
}

/// What a pipe carries. Most carry one transfer; before it was sent, none. Both ends of it know the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Toll(Arc<Mutex<Vec<Transfer>>>);

impl Toll {
    /// It carries this one, too: a guest may use a pipe for two.
    pub(super) fn begin(&self, transfer: Transfer) {
        self.transfers().push(transfer);
    }

    /// Bytes that may still go through.
    pub(super) fn left(&self) -> usize {
        let left = |one: &Transfer| one.begun.bytes.saturating_sub(one.bytes.unwrap_or(0));
        let left = self.transfers().iter().map(left).min().unwrap_or(u64::MAX);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// `bytes` are to go through. Returns how many may; they have.
    pub(super) fn add(&self, bytes: usize) -> usize {
        let bytes = bytes.min(self.left());
        for one in &mut *self.transfers() {
            one.counters.transfer_bytes.add(bytes as u64);
            one.bytes = one.bytes.map(|before| before + bytes as u64);
        }
        bytes
    }

    /// It carries nothing any more, and `unsent` bytes never went through.
    pub(super) fn end(&self, unsent: usize, why: &str) {
        for mut one in std::mem::take(&mut *self.transfers()) {
            one.bytes = one.bytes.map(|bytes| bytes.saturating_sub(unsent as u64));
            one.why = Some(why.to_owned());
        }
    }

    /// What it was to carry goes another way.
    pub(super) fn go_elsewhere(&self, why: &str) {
        let all = std::mem::take(&mut *self.transfers());
        all.into_iter().for_each(|one| one.go_elsewhere(why));
    }

    /// Nothing that holds the lock can leave it half-way.
    fn transfers(&self) -> MutexGuard<'_, Vec<Transfer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
