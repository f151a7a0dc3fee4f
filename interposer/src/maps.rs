//! `/proc/self/maps`: where files are mapped, as the kernel knows it.

use crate::raw::{self, FileId, Range, Result};
use core::ffi::c_int;

/// One mapping of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) range: Range,
    /// `PROT_*`.
    pub(crate) protection: c_int,
    /// `MAP_SHARED`, not `MAP_PRIVATE`.
    pub(crate) shared: bool,
    /// Where it begins in the file, in bytes.
    pub(crate) offset: u64,
    pub(crate) file: FileId,
}

/// Longest beginning of a line that is looked at. What is behind, the file's name, doesn't matter.
const LINE: usize = 128;

/// Calls `each` with every mapping of this process, by address, as long as it returns `true`.
pub(crate) fn each(mut each: impl FnMut(Mapped) -> bool) -> Result<()> {
    let fd = raw::open(c"/proc/self/maps")?;
    let result = read(|bytes| raw::read(fd, bytes), &mut each);
    raw::close(fd);
    result
}

fn read(
    mut more: impl FnMut(&mut [u8]) -> Result<usize>,
    each: &mut impl FnMut(Mapped) -> bool,
) -> Result<()> {
    let mut bytes = [0; 4096];
    let (mut line, mut len) = ([0; LINE], 0);
    loop {
        let count = more(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        for &byte in bytes.iter().take(count) {
            if byte != b'\n' {
                if let Some(at) = line.get_mut(len) {
                    *at = byte;
                    len += 1;
                }
                continue;
            }
            if let Some(mapped) = parse(&line[..len])
                && !each(mapped)
            {
                return Ok(());
            }
            len = 0;
        }
    }
}

/// Takes a line apart (proc_pid_maps(5)): `7f00-7f10 rw-s 00000000 00:01 1042   /memfd:name (deleted)`.
fn parse(line: &[u8]) -> Option<Mapped> {
    let mut rest = line;
    let start = hex(&mut rest, b'-')?;
    let end = hex(&mut rest, b' ')?;
    let (permissions, after) = rest.split_first_chunk::<5>()?;
    rest = after;
    let offset = hex(&mut rest, b' ')?;
    let (major, minor) = (hex(&mut rest, b':')?, hex(&mut rest, b' ')?);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let inode =
        digits.fold(0_u64, |all, digit| all.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    let bit = |at: usize, letter, bit| if permissions[at] == letter { bit } else { 0 };
    Some(Mapped {
        range: Range { start: start as usize, len: end.checked_sub(start)? as usize },
        protection: bit(0, b'r', libc::PROT_READ)
            | bit(1, b'w', libc::PROT_WRITE)
            | bit(2, b'x', libc::PROT_EXEC),
        shared: permissions[3] == b's',
        offset,
        file: FileId { device: libc::makedev(major as u32, minor as u32), inode },
    })
}

/// Takes a number off, and what ends it.
fn hex(rest: &mut &[u8], end: u8) -> Option<u64> {
    let len = rest.iter().position(|&byte| byte == end)?;
    let number = rest[..len].iter().try_fold(0_u64, |all, &digit| {
        let digit = (digit as char).to_digit(16)?;
        Some(all.wrapping_mul(16).wrapping_add(u64::from(digit)))
    })?;
    *rest = &rest[len + 1..];
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn lines_are_taken_apart() {
        let line =
            b"7f19e90ba000-7f19e9300000 rw-s 00001000 00:01 1042     /memfd:gdk-wayland (deleted)";
        let expected = Mapped {
            range: Range { start: 0x7f19_e90b_a000, len: 0x24_6000 },
            protection: libc::PROT_READ | libc::PROT_WRITE,
            shared: true,
            offset: 4096,
            file: FileId { device: libc::makedev(0, 1), inode: 1042 },
        };
        assert_eq!(parse(line), Some(expected));
        let anonymous = parse(b"00400000-00401000 r-xp 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.shared, anonymous.file.inode), (false, 0));
        for bad in
            [&b""[..], b"7f-", b"7f-80 rw-", b"80-7f rw-s 0 00:01 1 ", b"x-80 rw-s 0 00:01 1 "]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    /// However the kernel cuts it, and however long names are.
    #[test]
    fn lines_are_put_together() {
        let name = "/a".repeat(500);
        let line = |i: usize| format!("{i:x}000-{:x}000 rw-s 00000000 fd:12 {i} {name}\n", i + 1);
        let text: String = (1..40).map(line).collect();
        for step in [1, 7, 4096] {
            let (mut rest, mut found) = (text.as_bytes(), Vec::new());
            let more = |bytes: &mut [u8]| {
                let len = step.min(rest.len()).min(bytes.len());
                bytes[..len].copy_from_slice(&rest[..len]);
                rest = &rest[len..];
                Ok(len)
            };
            let each = &mut |mapped: Mapped| {
                found.push(mapped.file.inode);
                found.len() < 30
            };
            read(more, each).unwrap();
            assert_eq!(found, (1..=30).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn a_mapping_of_our_own_is_found() {
        let fd = wlproxy_unix::memory::allocate("wlproxy-test", 8192).unwrap();
        let stat = raw::fstat(fd.as_raw_fd()).unwrap();
        let range = raw::map(fd.as_raw_fd(), 8192, libc::PROT_READ).unwrap();
        let mut found = Vec::new();
        each(|mapped| {
            found.extend((mapped.file == stat.file).then_some(mapped));
            true
        })
        .unwrap();
        let expected =
            Mapped { range, protection: libc::PROT_READ, shared: true, offset: 0, file: stat.file };
        assert_eq!(found, [expected]);
    }
}
