//! How much memory processes use.

use std::fs;

/// Memory of a process, in bytes: its own, and its share of what it has in common with others (Linux, `Pss` of
/// `smaps_rollup`). 0 if it is gone.
pub fn footprint(id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// Memory of a process that is its own, in bytes.
///
/// # Panics
/// If it doesn't run.
pub fn anonymous(id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it is there");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("kB") << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_what_is_used() {
        const SIZE: usize = 8 << 20;
        let id = std::process::id();
        let before = footprint(id);
        let used = vec![1u8; SIZE];
        let grown = footprint(id).saturating_sub(before);
        assert!(grown > SIZE as u64 / 2, "{grown} bytes for {}", used.len());
        assert_eq!(footprint(u32::MAX), 0);
    }
}
