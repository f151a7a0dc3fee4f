//! Events that wait for a client that is slow to read.
//!
//! A compositor tells a client of each motion, a thousand times a second, and ends one that has too much unread. So
//! somebody has to read on in its place; and what waits here is kept small by joining what a later event makes needless
//! ([`joinable`](super::joinable)). Nothing else is left out, and nothing changes places with it.
//!
//! Events of a pointer, a touch device or a tool come in groups, each with a frame at its end, which a client takes as one.
//! Only whole groups are joined, and only with groups that stand right before them: a *run*. So a group in which anything
//! else happens comes out as it went in. Of a run, the frames come last.
//!
//! Distances that a mouse moved are in the groups of a pointer, too: of one that is locked in place nothing else is. So a
//! frame that ends nothing but such joins with the one before.

use super::joinable::{Join, Key, Nature, Theme, has_frames, nature, pair, unpair};
use std::collections::{HashMap, VecDeque};
use wlproxy_protocol::limits::{MAX_EVENT, MAX_FDS};
use wlproxy_protocol::wayland::{Batch, Call, wire};

/// Most fds that wait here before the compositor isn't read any more: two full messages. What is held back from then on waits
/// in its other places.
pub const MAX_HELD_FDS: usize = 2 * MAX_FDS;

/// Most events of a run, and of the group behind it: those of some pointers, and of more fingers than anybody has. Each
/// event that comes is compared with all of them.
const MAX_RUN: usize = 64;

/// One event that may be joined with a later one.
#[derive(Debug)]
struct Entry {
    key: Key,
    join: Join,
    bytes: Vec<u8>,
}

/// One event of a group that isn't whole yet.
#[derive(Debug)]
struct Part {
    /// A frame can't be joined.
    joins: Option<(Key, Join)>,
    object: u32,
    bytes: Vec<u8>,
}

/// Events that wait, in order. `F` stands for a file descriptor.
#[derive(Debug)]
pub(super) struct Backlog<F> {
    /// What nothing is joined with any more.
    fixed: VecDeque<u8>,
    /// fds and the position behind the message that they are of, in bytes since the beginning.
    fds: VecDeque<(u64, F)>,
    /// Bytes that were taken from `fixed` since the beginning.
    taken: u64,
    /// Comes after `fixed`: whole groups, joined.
    run: Vec<Entry>,
    /// Their frames, by object.
    frames: Vec<(u32, Vec<u8>)>,
    /// Comes after that.
    open: Vec<Part>,
    /// Objects whose groups are in `open`, and have no frame yet.
    awaiting: Vec<u32>,
    /// Objects of which the last that came was a frame. Of others, it isn't known whether something else is in the group.
    clean: Vec<u32>,
    /// By relative pointer: its pointer.
    pointers: HashMap<u32, u32>,
    /// Bytes in `run`, `frames` and `open`.
    loose: usize,
}

impl<F> Default for Backlog<F> {
    fn default() -> Self {
        Self {
            fixed: VecDeque::new(),
            fds: VecDeque::new(),
            taken: 0,
            run: Vec::new(),
            frames: Vec::new(),
            open: Vec::new(),
            awaiting: Vec::new(),
            clean: Vec::new(),
            pointers: HashMap::new(),
            loose: 0,
        }
    }
}

impl<F> Backlog<F> {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.fixed.len() + self.loose
    }

    /// Whether something may be added: neither `most` bytes wait, nor [`MAX_HELD_FDS`].
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.bytes() < most && self.fds.len() < MAX_HELD_FDS
    }

    /// fds that wait.
    pub(super) fn fds(&self) -> usize {
        self.fds.len()
    }

    /// One of them, first to last.
    pub(super) fn fd(&mut self, at: usize) -> Option<&mut F> {
        self.fds.get_mut(at).map(|(_, fd)| fd)
    }

    /// The client says this, which has a backlog, or gets one if that has to be known later: some requests tell which events
    /// belong together.
    pub(super) fn note(backlog: &mut Option<Box<Self>>, call: &Call<'_>) {
        if let Some((relative, pointer)) = pair(call) {
            backlog.get_or_insert_default().pointers.insert(relative, pointer);
        } else if let (Some(backlog), Some(relative)) = (backlog, unpair(call)) {
            backlog.pointers.remove(&relative);
        }
    }

    /// Adds an event, which goes on as `bytes`.
    pub(super) fn push(&mut self, call: &Call<'_>, bytes: &[u8], fds: impl Iterator<Item = F>) {
        if self.bytes() == 0 {
            // What went by meanwhile wasn't seen here.
            self.clean.clear();
            self.awaiting.clear();
        }
        let object = call.object();
        match nature(call) {
            Nature::Joinable(key, join) if self.is_in_whole_group(call) => {
                self.add(Some((key, join)), object, bytes);
            }
            Nature::Frame if self.knows_group(object) => {
                self.awaiting.retain(|&other| other != object);
                self.set_clean(object);
                self.add(None, object, bytes);
            }
            nature => {
                self.settle();
                self.fixed.extend(bytes);
                let end = self.taken + self.fixed.len() as u64;
                self.fds.extend(fds.map(|fd| (end, fd)));
                match nature {
                    Nature::Frame => self.set_clean(object),
                    _ => self.clean.retain(|&other| other != object),
                }
                return;
            }
        }
        if self.awaiting.is_empty() {
            self.close();
        } else if self.open.len() > MAX_RUN {
            self.settle();
        }
    }

    /// Whether an event that may be joined belongs to a group of which all is known, or to none. It is in that from now on.
    fn is_in_whole_group(&mut self, call: &Call<'_>) -> bool {
        // Distances pass no frame of a pointer that has none, or of whose group something isn't known: that is never joined.
        let pointer = self.pointers.get(&call.object()).copied();
        let pointer = pointer.filter(|&pointer| self.knows_group(pointer));
        let Some(object) = has_frames(call).then(|| call.object()).or(pointer) else { return true };
        if self.clean.contains(&object) {
            self.clean.retain(|&other| other != object);
            self.awaiting.push(object);
        }
        self.awaiting.contains(&object)
    }

    /// Whether all is known of the group that the next frame of an object ends.
    fn knows_group(&self, object: u32) -> bool {
        self.awaiting.contains(&object) || self.clean.contains(&object)
    }

    fn set_clean(&mut self, object: u32) {
        // Those of further ones aren't joined.
        if self.clean.len() < MAX_RUN && !self.clean.contains(&object) {
            self.clean.push(object);
        }
    }

    fn add(&mut self, joins: Option<(Key, Join)>, object: u32, bytes: &[u8]) {
        self.loose += bytes.len();
        self.open.push(Part { joins, object, bytes: bytes.to_vec() });
    }

    /// All groups are whole: they become a part of the run, or a new one.
    fn close(&mut self) {
        let mut themes = self.open.iter().flat_map(|part| part.joins).map(|(_, join)| join.theme());
        let theme = match (themes.next(), self.run.first().map(|entry| entry.join.theme())) {
            (Some(theme), _) if themes.all(|other| other == theme) => theme,
            // A frame of nothing, for a pointer beside the one that moves.
            (None, Some(theme)) if theme != Theme::Scroll => theme,
            // There is nothing before that frame; or two in one group, which is left as it is.
            _ => return self.settle(),
        };
        let mut joined = self.joined(theme);
        if joined.is_none() {
            self.settle_run();
            joined = self.joined(theme);
        }
        let Some(joined) = joined else { return self.settle() };
        for (at, entry) in joined {
            match self.run.get_mut(at) {
                Some(earlier) => *earlier = entry,
                None => self.run.push(entry),
            }
        }
        for Part { joins, object, bytes } in self.open.drain(..) {
            if joins.is_none() {
                match self.frames.iter_mut().find(|(other, _)| *other == object) {
                    Some((_, frame)) => *frame = bytes,
                    None => self.frames.push((object, bytes)),
                }
            }
        }
        let frames = self.frames.iter().map(|(_, bytes)| bytes.len());
        self.loose = frames.chain(self.run.iter().map(|entry| entry.bytes.len())).sum();
    }

    /// What is open, joined with what there is of the same key, and where in the run it belongs. `None` if they can't be
    /// joined.
    fn joined(&self, theme: Theme) -> Option<Vec<(usize, Entry)>> {
        if self.run.first().is_some_and(|entry| entry.join.theme() != theme) {
            return None;
        }
        let mut all: Vec<(usize, Entry)> = Vec::new();
        let mut next = self.run.len();
        for Part { joins, bytes, .. } in &self.open {
            let &Some((key, join)) = joins else { continue };
            if let Some((_, entry)) = all.iter_mut().find(|(_, entry)| entry.key == key) {
                entry.bytes = join.joined(&entry.bytes, bytes.clone())?;
                continue;
            }
            let (at, bytes) = match self.run.iter().position(|entry| entry.key == key) {
                Some(at) => (at, join.joined(&self.run[at].bytes, bytes.clone())?),
                // A scroll is one of certain axes by a certain source.
                None if theme == Theme::Scroll && !self.run.is_empty() => return None,
                None => {
                    next += 1;
                    (next - 1, bytes.clone())
                }
            };
            all.push((at, Entry { key, join, bytes }));
        }
        let is_alike = theme != Theme::Scroll || self.run.is_empty() || all.len() == self.run.len();
        (is_alike && next <= MAX_RUN).then_some(all)
    }

    /// Nothing is joined with the run any more.
    fn settle_run(&mut self) {
        let frames = self.frames.drain(..).map(|(_, bytes)| bytes);
        for bytes in self.run.drain(..).map(|entry| entry.bytes).chain(frames) {
            self.loose -= bytes.len();
            self.fixed.extend(bytes);
        }
    }

    /// Nothing is joined any more with anything that is there. Groups that have begun are left as they are.
    fn settle(&mut self) {
        self.settle_run();
        for part in self.open.drain(..) {
            self.fixed.extend(part.bytes);
        }
        self.loose = 0;
        self.awaiting.clear();
    }

    /// Takes what is first: whole messages of about `limit` bytes, at least one, appended to `out`.
    pub(super) fn take(&mut self, limit: usize, out: &mut Batch<F>) {
        if self.fixed.is_empty() {
            self.settle();
        }
        let bytes = self.fixed.make_contiguous();
        let mut rest = &*bytes;
        // They were split before.
        while let Ok(Some(message)) = wire::split(&mut rest, MAX_EVENT) {
            let taken = bytes.len() - rest.len();
            if taken > limit && taken > message.bytes.len() {
                rest = &bytes[taken - message.bytes.len()..];
                break;
            }
        }
        let taken = bytes.len() - rest.len();
        out.bytes.extend(self.fixed.drain(..taken));
        self.taken += taken as u64;
        let due = self.fds.iter().take_while(|(end, _)| *end <= self.taken).count();
        out.fds.extend(self.fds.drain(..due).map(|(_, fd)| fd));
    }
}

#[cfg(test)]
mod tests;
