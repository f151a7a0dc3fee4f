//! Sizes of windows: "8 GiB".

/// Size of a window that the configuration doesn't mention, in bytes. Windows above 4 GiB of a VM's address space are
/// cached on all hosts, and address space is all that they cost.
pub(super) const DEFAULT: u64 = 8 << 30;

/// Smallest window, in bytes: room for two buffers of a 1080p screen.
const MIN: u64 = 16 << 20;

/// Largest window, in bytes: what 40 bits of physical address space leave beside a VM's memory.
const MAX: u64 = 256 << 30;

const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// The bytes of `text`, or why it is no size for a window, with the cure.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let bytes = bytes(text).ok_or_else(|| {
        format!(
            "{text:?} is no size; write a whole number and a unit, like \"512 MiB\" or \"8 GiB\""
        )
    })?;
    if bytes.is_power_of_two() && (MIN..=MAX).contains(&bytes) {
        return Ok(bytes);
    }
    let near = bytes.clamp(MIN, MAX).next_power_of_two();
    Err(format!(
        "{text:?} is no power of two from {} to {}; write e.g. \"{}\"",
        show(MIN),
        show(MAX),
        show(near)
    ))
}

/// The bytes of a size, for windows and what else has one.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (unit, shift) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let digits = text.strip_suffix(unit)?.trim_end();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn show(bytes: u64) -> String {
    let fits = |&&(_, shift): &&(&str, u32)| bytes >> shift << shift == bytes && bytes >> shift > 0;
    let (unit, shift) = UNITS.iter().rev().find(fits).expect("windows are whole MiB");
    format!("{} {unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse("16 MiB"), Ok(16 << 20));
        assert_eq!(parse("8GiB"), Ok(DEFAULT));
        assert_eq!(parse("256 GiB"), Ok(MAX));
    }

    #[test]
    fn refused_sizes_come_with_a_better_one() {
        for (text, cure) in [
            ("7 GiB", "\"8 GiB\""),
            ("8 MiB", "\"16 MiB\""),
            ("0 MiB", "\"16 MiB\""),
            ("1 TiB", "\"256 GiB\""),
            ("16777215 TiB", "\"256 GiB\""),
            ("99999999999999999999 GiB", "like"),
            ("-8 GiB", "like"),
            ("8", "like"),
            ("GiB", "like"),
            ("8 GB", "like"),
            ("", "like"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(cure), "{text}: {message}");
        }
    }
}
