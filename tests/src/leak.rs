//! What a desk's processes hold, counted: processes, fds, mappings, memfds, files.

use crate::wait::until;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The environment variable by which a desk's processes are known; its value is the desk's folder.
pub(crate) const MARKER: &str = "WLPROXY_TEST_DESK";

/// A count is taken when nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(60);

/// How long what clients have left may take to go. Shorter than [`crate::PATIENCE`]: nothing has to start for it.
pub(crate) const LEAVING: Duration = Duration::from_secs(5);

/// Memory that a client VM keeps for reuse.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The VM's agent. It has each allocation open once, for the window, and mapped once.
    pub(crate) agent: u32,
    /// The VM's worker. It has each open twice: as a vfd, and for the window.
    pub(crate) worker: u32,
    /// How many allocations.
    pub(crate) allocations: usize,
}

/// What one desk holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Processes with their names; also those that nobody has waited for.
    pub processes: BTreeMap<u32, String>,
    /// Sockets and lock files.
    pub files: BTreeSet<PathBuf>,
    /// Open fds by process and kind.
    pub fds: BTreeMap<(u32, String), usize>,
    /// Mappings of memory that can be shared, by process.
    pub mappings: BTreeMap<u32, usize>,
    /// Memfds that are open or mapped anywhere, by inode; the value is the name.
    pub memfds: BTreeMap<u64, String>,
    /// How many of them don't count. Their fds were left out.
    kept: usize,
}

impl Count {
    /// Counts now. `folder` is the desk's, and its marker.
    pub fn take(folder: &Path) -> Self {
        let processes = processes(folder);
        let mut count = Self { files: files(folder), ..Self::default() };
        for &id in processes.keys() {
            count.fds_of(id);
            count.mappings_of(id);
        }
        count.processes = processes;
        count
    }

    /// Counts when it has stopped changing.
    pub fn settled(folder: &Path) -> Self {
        let mut last = Self::take(folder);
        let mut since = Instant::now();
        until("an end of changes", || {
            let now = Self::take(folder);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            (since.elapsed() >= QUIET).then(|| last.clone())
        })
    }

    fn fds_of(&mut self, id: u32) {
        for entry in fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            let kind = if let Some(name) = target.strip_prefix("/memfd:") {
                use std::os::unix::fs::MetadataExt;
                if let Ok(metadata) = fs::metadata(entry.path()) {
                    self.memfds.insert(metadata.ino(), name.to_owned());
                }
                "memfd".to_owned()
            } else if let Some((kind @ ("socket" | "pipe"), _)) = target.split_once(':') {
                kind.to_owned()
            } else if target.ends_with(" (deleted)") {
                // Its name was random.
                "deleted file".to_owned()
            } else {
                target
            };
            *self.fds.entry((id, kind)).or_default() += 1;
        }
    }

    fn mappings_of(&mut self, id: u32) {
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        for line in maps.lines() {
            // address perms offset device inode path
            let mut words = line.split_ascii_whitespace();
            let shared = words.nth(1).is_some_and(|perms| perms.ends_with('s'));
            let inode = words.nth(2).and_then(|inode| inode.parse().ok()).unwrap_or_default();
            let name = words.next().unwrap_or_default().strip_prefix("/memfd:");
            if let Some(name) = name {
                self.memfds.insert(inode, name.to_owned());
            }
            if shared || name.is_some() {
                *self.mappings.entry(id).or_default() += 1;
            }
        }
    }

    /// Leaves out what is kept for reuse.
    fn without(mut self, kept: &[Kept]) -> Self {
        for &Kept { agent, worker, allocations } in kept {
            for (holder, each) in [(agent, 1), (worker, 2)] {
                if let Some(fds) = self.fds.get_mut(&(holder, "memfd".to_owned())) {
                    *fds = fds.saturating_sub(allocations * each);
                }
            }
            if let Some(mappings) = self.mappings.get_mut(&agent) {
                *mappings = mappings.saturating_sub(allocations);
            }
            self.kept += allocations;
        }
        self
    }

    /// What there is in `self` beyond `baseline`; empty if nothing has leaked.
    pub fn beyond(&self, baseline: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, name) in &self.processes {
            if !baseline.processes.contains_key(id) {
                found.push(format!("process {id} ({name})"));
            }
        }
        for file in self.files.difference(&baseline.files) {
            found.push(format!("file {}", file.display()));
        }
        let name = |id: &u32| self.processes.get(id).map_or("?", String::as_str);
        for (key, &now) in &self.fds {
            let before = baseline.fds.get(key).copied().unwrap_or_default();
            if now > before {
                found.push(format!(
                    "{before} -> {now} fds of kind {} in {} ({})",
                    key.1,
                    key.0,
                    name(&key.0)
                ));
            }
        }
        for (id, &now) in &self.mappings {
            let before = baseline.mappings.get(id).copied().unwrap_or_default();
            if now > before {
                found.push(format!("{before} -> {now} mappings in {id} ({})", name(id)));
            }
        }
        // Memory is replaced by memory of the same kind, so here the number counts.
        let number = |count: &Self| count.memfds.len().saturating_sub(count.kept);
        let (before, now) = (number(baseline), number(self));
        if now > before {
            let new = self.memfds.iter().filter(|(inode, _)| !baseline.memfds.contains_key(inode));
            let names: Vec<_> = new.map(|(_, name)| name.as_str()).collect();
            found.push(format!("{before} -> {now} memfds, new: {}", names.join(", ")));
        }
        found
    }
}

/// A baseline to come back to.
#[derive(Debug)]
pub struct Leaks {
    folder: PathBuf,
    baseline: Count,
    /// Processes whose fds and mappings don't count.
    ignored: Vec<u32>,
}

impl Leaks {
    /// Takes the baseline when nothing changes any more.
    pub fn baseline(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), baseline: Count::settled(folder), ignored: Vec::new() }
    }

    /// Whether a process was counted.
    pub(crate) fn counts(&self, id: u32) -> bool {
        // Each has some fd.
        self.baseline.fds.keys().any(|&(holder, _)| holder == id)
    }

    /// The same without what is kept for reuse, for [`Leaks::find_but`].
    pub(crate) fn but(self, kept: &[Kept]) -> Self {
        Self { baseline: self.baseline.without(kept), ..self }
    }

    /// The same without the fds and mappings of some processes.
    pub(crate) fn ignoring(self, ignored: Vec<u32>) -> Self {
        Self { ignored, ..self }
    }

    /// Nothing at all: what a desk leaves behind.
    pub(crate) fn after_all(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), baseline: Count::default(), ignored: Vec::new() }
    }

    /// What there is too much of after a while; empty as soon as there is no more than there was.
    pub fn find(&self) -> Vec<String> {
        self.find_within(LEAVING)
    }

    /// What there is too much of after `patience`.
    pub fn find_within(&self, patience: Duration) -> Vec<String> {
        self.search(patience, Vec::new)
    }

    /// Like [`Leaks::find`], but for what is kept for reuse by then.
    pub(crate) fn find_but(&self, kept: impl FnMut() -> Vec<Kept>) -> Vec<String> {
        self.search(LEAVING, kept)
    }

    fn search(&self, patience: Duration, mut kept: impl FnMut() -> Vec<Kept>) -> Vec<String> {
        let deadline = Instant::now() + patience;
        until("an answer", || {
            let mut count = Count::take(&self.folder);
            count.fds.retain(|(id, _), _| !self.ignored.contains(id));
            count.mappings.retain(|id, _| !self.ignored.contains(id));
            // Asked afterwards: when all clients have left, what they used is kept, or given back.
            let found = count.without(&kept()).beyond(&self.baseline);
            (found.is_empty() || Instant::now() >= deadline).then_some(found)
        })
    }

    /// Fails the test if something has leaked.
    #[track_caller]
    pub fn check(&self) {
        let found = self.find();
        assert!(found.is_empty(), "leaked: {}", found.join("; "));
    }
}

/// The processes that carry the marker, or descend from one that does.
fn processes(folder: &Path) -> BTreeMap<u32, String> {
    let marker = [MARKER.as_bytes(), b"=", folder.as_os_str().as_encoded_bytes()].concat();
    let mut found = BTreeMap::new();
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // "id (name) state parent ...", where the name may hold anything.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'))
        else {
            continue;
        };
        let parent =
            rest.split_ascii_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok());
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == marker) {
            found.insert(id, name.to_owned());
        } else {
            others.push((id, parent.unwrap_or_default(), name.to_owned()));
        }
    }
    loop {
        let (children, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, parent, _)| found.contains_key(parent));
        if children.is_empty() {
            return found;
        }
        found.extend(children.into_iter().map(|(id, _, name)| (id, name)));
        others = rest;
    }
}

/// Kills what is left of a desk whose test has failed.
pub(crate) fn kill(folder: &Path) {
    for id in processes(folder).into_keys() {
        let _ = nix::sys::signal::kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
    }
}

/// Sockets and lock files below `folder`.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type();
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            found.extend(files(&path));
        } else if kind.is_ok_and(|kind| kind.is_socket())
            || path.extension() == Some("lock".as_ref())
        {
            found.insert(path);
        }
    }
    found
}
