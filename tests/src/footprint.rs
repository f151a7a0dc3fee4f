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
