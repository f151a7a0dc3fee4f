//! Archives that the kernel unpacks as its first file system: the format "newc" of cpio(5), also described in the
//! kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::path::{Component, Path};

/// Before each entry.
const MAGIC: &str = "070701";

/// The name of the last entry.
const TRAILER: &str = "TRAILER!!!";

/// Names and contents begin at multiples of this, in bytes.
const ALIGNMENT: usize = 4;

/// The kinds of entries, as in stat(2).
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// An archive. Several after each other are one to the kernel.
#[derive(Debug, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    /// Entries until now; each has its number as its inode, so that none is another's hard link.
    entries: u32,
    folders: Vec<String>,
}

impl Cpio {
    /// Adds a file that everybody may read, after the folders that it is in.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.folders_of(path);
        self.entry(path, FILE | 0o644, content);
    }

    /// Adds a program.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.folders_of(path);
        self.entry(path, FILE | 0o755, content);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    /// The folders on the way to a file, each once.
    fn folders_of(&mut self, path: &str) {
        let above = Path::new(path).parent().unwrap_or(Path::new(""));
        let mut folder = String::new();
        for component in above.components() {
            let Component::Normal(name) = component else { continue };
            if !folder.is_empty() {
                folder.push('/');
            }
            folder.push_str(&name.to_string_lossy());
            if !self.folders.contains(&folder) {
                self.folders.push(folder.clone());
                self.entry(&folder, FOLDER | 0o755, &[]);
            }
        }
    }

    /// A header of hexadecimal numbers, the name with a zero, the content. Everything is root's, and of no time.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("files in archives are below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let (links, device, checksum) = (1, 0, 0);
        let (uid, gid, time) = (0, 0, 0);
        let fields = [
            self.entries,
            mode,
            uid,
            gid,
            links,
            time,
            size,
            device,
            device,
            device,
            device,
            name_size,
            checksum,
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of each entry, read as the kernel does.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let all = bytes.len();
        while !bytes.is_empty() {
            let field = |i: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * i..14 + 8 * i]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&bytes[..6], b"070701", "at {}", all - bytes.len());
            let (mode, size, name_size) = (field(1) as u32, field(6), field(11));
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            entries.push((name, mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
        entries
    }

    #[test]
    fn what_went_in_comes_out_after_its_folders() {
        let mut cpio = Cpio::default();
        cpio.program("usr/bin/it", b"\x7fELF!");
        cpio.file("usr/bin/other", b"");
        cpio.program("init", b"#!");
        let entry = |name: &str, mode, content: &[u8]| (name.to_owned(), mode, content.to_vec());
        assert_eq!(
            read(&cpio.finish()),
            [
                entry("usr", 0o040_755, b""),
                entry("usr/bin", 0o040_755, b""),
                entry("usr/bin/it", 0o100_755, b"\x7fELF!"),
                entry("usr/bin/other", 0o100_644, b""),
                entry("init", 0o100_755, b"#!"),
                entry("TRAILER!!!", 0, b""),
            ]
        );
    }
}
