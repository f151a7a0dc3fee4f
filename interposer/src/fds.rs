//! `/proc/self/fd`: which fds this process has, and what they are called.

use crate::raw::{self, Result};
use crate::table::NAME;
use core::ffi::{CStr, c_int};

/// Calls `each` with every fd of this process but the one that it is read by.
pub(crate) fn each(mut each: impl FnMut(c_int)) -> Result<()> {
    let folder = raw::open(c"/proc/self/fd")?;
    let result = read(folder, &mut |fd| {
        if fd != folder {
            each(fd)
        }
    });
    raw::close(folder);
    result
}

fn read(folder: c_int, each: &mut impl FnMut(c_int)) -> Result<()> {
    let mut bytes = [0; 2048];
    loop {
        let count = raw::getdents(folder, &mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        entries(bytes.get(..count).unwrap_or_default(), each);
    }
}

/// Takes `struct linux_dirent64` apart (getdents(2)): inode, offset, length, type, and a name with a zero.
fn entries(mut bytes: &[u8], each: &mut impl FnMut(c_int)) {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    while let Some((entry, rest)) = bytes.get(LENGTH..LENGTH + 2).and_then(|length| {
        bytes.split_at_checked(usize::from(u16::from_ne_bytes([length[0], length[1]])))
    }) {
        if entry.len() <= NAME {
            return;
        }
        let name = entry[NAME..].split(|&byte| byte == 0).next().unwrap_or_default();
        if let Some(fd) = number(name) {
            each(fd);
        }
        bytes = rest;
    }
}

/// A number in decimal digits, and nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<c_int> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |all: c_int, digit: &u8| all.checked_mul(10)?.checked_add(c_int::from(digit - b'0'));
    is_number.then(|| digits.iter().try_fold(0, add)).flatten()
}

/// What a memfd was called when it was made, with a zero at its end.
pub(crate) fn name(fd: c_int) -> [u8; NAME] {
    const BEFORE: &[u8] = b"/memfd:";
    const AFTER: &[u8] = b" (deleted)";
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = 1;
    while fd / c_int::pow(10, digits) > 0 && digits < 9 {
        digits += 1;
    }
    for i in 0..digits {
        let digit = fd / c_int::pow(10, digits - 1 - i) % 10;
        path[14 + i as usize] = b'0' + digit.unsigned_abs() as u8;
    }
    let (mut link, mut name) = ([0; NAME + BEFORE.len() + AFTER.len()], [0; NAME]);
    let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
    let link = raw::readlink(path, &mut link).unwrap_or_default();
    let called = link.strip_prefix(BEFORE).and_then(|link| link.strip_suffix(AFTER));
    let called = called.unwrap_or_default();
    // One byte less: the zero.
    name.iter_mut().take(NAME - 1).zip(called).for_each(|(to, from)| *to = *from);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn own_fds_are_found() {
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let mut found = Vec::new();
        each(|fd| found.push(fd)).unwrap();
        assert!(files.iter().all(|file| found.contains(&file.as_raw_fd())));
        assert!(found.iter().all(|&fd| found.iter().filter(|&&other| other == fd).count() == 1));
    }

    #[test]
    fn a_memfd_tells_its_name() {
        let longest = std::ffi::CString::new("x".repeat(NAME - 1)).unwrap();
        for called in [c"wlproxy test", c"", &longest] {
            let fd = raw::memfd_create(called, libc::MFD_CLOEXEC).unwrap();
            let name = name(fd);
            assert_eq!(CStr::from_bytes_until_nul(&name), Ok(called));
            raw::close(fd);
        }
        assert_eq!(name(0)[0], 0, "no memfd");
    }

    #[test]
    fn digits_are_a_number() {
        let table = [("0", Some(0)), ("42", Some(42)), ("2147483647", Some(c_int::MAX))];
        let bad = ["", "-1", "1a", "2147483648", ".", "99999999999"].map(|text| (text, None));
        for (text, expected) in table.into_iter().chain(bad) {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
    }
}
