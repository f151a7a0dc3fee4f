use super::*;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// Size of the files here, in bytes: eight pages.
const SIZE: usize = 32768;

fn file() -> File {
    let file = File::from(memfd_create("wlproxy-test", MFdFlags::MFD_CLOEXEC).unwrap());
    let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn pool(file: &File, size: usize) -> ClientPool {
    ClientPool::new(file, NonZeroUsize::new(size).unwrap()).unwrap()
}

fn allocation(size: u64) -> (OwnedFd, Mapping) {
    let fd = wlproxy_unix::memory::allocate("wlproxy-test", size).unwrap();
    let mapping = Mapping::new(&fd, size).unwrap();
    (fd, mapping)
}

fn all(pool: &ClientPool) -> Rows {
    Rows { offset: 0, len: pool.size(), stride: pool.size(), count: 1 }
}

#[test]
fn rows_are_copied_and_nothing_between_them() {
    let (mut pool, (fd, mut to)) = (pool(&file(), SIZE), allocation(4096));
    pool.copy(Rows { offset: 1000, len: 3, stride: 10, count: 4 }, &mut to, 50).unwrap();
    let copied = read_allocation(&fd, 4096, 4096).unwrap();
    for (i, &byte) in copied.iter().enumerate() {
        let at = i.wrapping_sub(50);
        let expected = if at < 40 && at % 10 < 3 { (1000 + at) % 251 } else { 0 };
        assert_eq!(usize::from(byte), expected, "byte {i}");
    }
}

#[test]
fn no_rows_are_nothing() {
    let (mut pool, (_, mut to)) = (pool(&file(), SIZE), allocation(4096));
    assert_eq!(
        pool.copy(Rows { offset: SIZE, len: 9, stride: 9, count: 0 }, &mut to, 4096),
        Ok(())
    );
}

#[test]
#[should_panic(expected = "bytes at")]
fn rows_beyond_the_pool_are_a_bug() {
    let (mut pool, (_, mut to)) = (pool(&file(), 4096), allocation(8192));
    let _ = pool.copy(Rows { offset: 4000, len: 10, stride: 90, count: 3 }, &mut to, 0);
}

#[test]
fn what_is_written_can_be_read() {
    let (fd, mut mapping) = allocation(8192);
    mapping.write(4090, b"xkb_keymap");
    assert_eq!(mapping.read(4090, 10), b"xkb_keymap");
    assert_eq!(read_allocation(&fd, 8192, 4100).unwrap()[4090..], *b"xkb_keymap");
}

#[test]
fn a_truncated_file_is_an_error_and_stays_one() {
    let (file, (_, mut to)) = (file(), allocation(SIZE as u64));
    let (mut cut, mut whole) = (pool(&file, SIZE), pool(&self::file(), SIZE));
    file.set_len(SIZE as u64 / 2).unwrap();
    assert_eq!(cut.copy(all(&cut), &mut to, 0), Err(Truncated));
    // What was there was copied, until the first page that is missing.
    assert_eq!(to.read(0, 4), [0, 1, 2, 3]);
    assert_eq!(to.read(SIZE - 4, 4), [0; 4]);
    file.set_len(SIZE as u64).unwrap();
    assert_eq!(
        cut.copy(Rows { offset: 0, len: 1, stride: 1, count: 1 }, &mut to, 0),
        Err(Truncated)
    );
    assert!(cut.grow(NonZeroUsize::new(2 * SIZE).unwrap()).is_ok());
    assert_eq!(cut.copy(all(&whole), &mut to, 0), Err(Truncated));
    assert_eq!(whole.copy(all(&whole), &mut to, 0), Ok(()));
}

#[test]
fn a_file_that_flaps_never_kills_us() {
    let file = file();
    let (_, mut to) = allocation(SIZE as u64);
    let other = file.try_clone().unwrap();
    let stop = AtomicBool::new(false);
    let hits = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                other.set_len(0).unwrap();
                other.set_len(SIZE as u64).unwrap();
            }
        });
        let mut hits = 0;
        for _ in 0..10_000 {
            let mut pool = pool(&file, SIZE);
            let all = all(&pool);
            hits += u32::from(pool.copy(all, &mut to, 0).is_err());
        }
        stop.store(true, Ordering::Relaxed);
        hits
    });
    file.set_len(0).unwrap();
    let mut pool = pool(&file, SIZE);
    assert_eq!(pool.copy(all(&pool), &mut to, 0), Err(Truncated));
    println!("{hits} of 10,000 copies met a truncated file");
}

#[test]
fn a_pool_grows_with_its_file() {
    let file = file();
    let (_, mut to) = allocation(4096);
    let mut pool = pool(&file, 100);
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"far", (64 << 20) - 3).unwrap();
    pool.grow(NonZeroUsize::new(64 << 20).unwrap()).unwrap();
    pool.copy(Rows { offset: (64 << 20) - 3, len: 3, stride: 3, count: 1 }, &mut to, 0).unwrap();
    assert_eq!(to.read(0, 3), b"far");
}

#[test]
fn what_is_no_file_of_pixels_is_refused() {
    let size = NonZeroUsize::new(4096).unwrap();
    let (read, write) = nix::unistd::pipe().unwrap();
    assert!(ClientPool::new(read, size).is_err());
    assert!(ClientPool::new(write, size).is_err());
    assert!(ClientPool::new(File::open("/").unwrap(), size).is_err());
    assert!(ClientPool::new(File::open("/dev/null").unwrap(), size).is_err());
    assert!(
        ClientPool::new(File::options().read(true).write(true).open("/dev/null").unwrap(), size)
            .is_err()
    );
    let readable = tempfile::NamedTempFile::new().unwrap();
    assert!(ClientPool::new(File::open(readable.path()).unwrap(), size).is_err());
    assert!(ClientPool::new(readable.as_file(), size).is_ok());
    if let Ok(huge) = memfd_create("wlproxy-test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB) {
        assert!(ClientPool::new(huge, size).is_err());
    }
}

/// Runs [`crash`] in a process of its own; `how` says what it does there.
fn crashed(how: &str) -> Option<i32> {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::tests::crash", "--ignored", "--test-threads=1"])
        .env("WLPROXY_TEST_CRASH", how)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .signal()
}

#[test]
fn a_fault_elsewhere_ends_the_process_as_ever() {
    assert_eq!(crashed("fault"), Some(libc::SIGBUS));
    assert_eq!(crashed("raise"), Some(libc::SIGBUS));
    assert_eq!(crashed("nothing"), None);
}

#[test]
#[ignore = "ends its process: the test above runs it"]
fn crash() {
    let (file, (_, mut to)) = (file(), allocation(SIZE as u64));
    let mut cut = pool(&file, SIZE);
    let elsewhere = Mapping::new(&file, SIZE as u64).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(cut.copy(all(&cut), &mut to, 0), Err(Truncated));
    match std::env::var("WLPROXY_TEST_CRASH").as_deref() {
        Ok("fault") => drop(elsewhere.read(0, 1)),
        // The standard library's handler takes the first for a fault that will come again.
        Ok("raise") => (0..2).for_each(|_| raise(Signal::SIGBUS).unwrap()),
        _ => {}
    }
}
