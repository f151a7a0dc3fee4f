use super::*;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A frontend as strict as QEMU: no overlap, no map outside the window, unmap only what was mapped.
#[derive(Default, Clone)]
pub(in crate::device) struct FakeFrontend {
    pub(in crate::device) mapped: Arc<Mutex<BTreeMap<u64, u64>>>,
    pub(in crate::device) base: Option<u64>,
    pub(in crate::device) refuse: Arc<Mutex<bool>>,
}

const SIZE: u64 = 64 << 20;
const CONTEXT: u32 = 7;

impl Frontend for FakeFrontend {
    fn map(&self, offset: u64, length: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut mapped = self.mapped.lock().unwrap();
        assert_eq!((offset % PAGE_SIZE, length % PAGE_SIZE), (0, 0));
        assert!(length > 0 && offset + length <= SIZE, "outside the window");
        assert!(mapped.iter().all(|(&o, &l)| o + l <= offset || offset + length <= o), "overlap");
        assert!(fstat(fd).unwrap().st_size as u64 >= length, "file too short");
        if *self.refuse.lock().unwrap() {
            return Err(io::Error::other("refused"));
        }
        mapped.insert(offset, length);
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> io::Result<()> {
        assert_eq!(self.mapped.lock().unwrap().remove(&offset), Some(length));
        Ok(())
    }

    fn window_base(&self, _: u64, _: BorrowedFd<'_>) -> Option<u64> {
        self.base
    }
}

fn window(relative: bool, base: Option<u64>) -> (Window, FakeFrontend, Arc<Counters>) {
    let frontend = FakeFrontend { base, ..Default::default() };
    let counters = Arc::new(Counters::default());
    let window = Window::new("test", Box::new(frontend.clone()), SIZE, relative, counters.clone());
    (window, frontend, counters)
}

fn memfd(size: u64) -> OwnedFd {
    memory::allocate("test", size).unwrap()
}

#[test]
fn vfds_of_the_same_memory_share_a_mapping_that_outlives_them() {
    let (mut window, frontend, counters) = window(true, None);
    let fd = memfd(8192);
    let other = fd.try_clone().unwrap();
    let (a, b) = (
        window.map(fd.as_fd(), Some(CONTEXT)).unwrap(),
        window.map(other.as_fd(), Some(CONTEXT)).unwrap(),
    );
    assert_eq!(window.pfn(&a), window.pfn(&b));
    assert_ne!(window.pfn(&a), 0);
    window.release(a);
    window.release(b);
    let again = window.map(fd.as_fd(), Some(CONTEXT)).unwrap();
    assert_eq!(again.length(), 8192);
    assert_eq!((counters.maps.get(), frontend.mapped.lock().unwrap().len()), (1, 1));
    drop(window);
    assert_eq!(counters.window_bytes.get(), 0);
    assert_eq!(frontend.mapped.lock().unwrap().len(), 1, "nothing is unmapped from clean-up");
}

#[test]
fn idle_mappings_are_few_and_make_room() {
    let (mut window, frontend, counters) = window(true, None);
    for _ in 0..3 * MAX_IDLE {
        let lease = window.map(memfd(4096).as_fd(), Some(CONTEXT)).unwrap();
        window.release(lease);
    }
    assert_eq!(frontend.mapped.lock().unwrap().len(), MAX_IDLE);
    // All but the first page: fits only if every idle mapping goes.
    let lease = window.map(memfd(SIZE - PAGE_SIZE).as_fd(), Some(CONTEXT)).unwrap();
    assert_eq!(frontend.mapped.lock().unwrap().len(), 1);
    assert!(matches!(window.map(memfd(4096).as_fd(), Some(CONTEXT)), Err(MapError::Full)));
    window.release(lease);
    assert!(window.map(memfd(4096).as_fd(), Some(CONTEXT)).is_ok());
    assert_eq!(counters.window_bytes.get(), frontend.mapped.lock().unwrap().values().sum::<u64>());
}

#[test]
fn mappings_are_kept_for_a_context_that_lives() {
    let (mut window, frontend, _) = window(true, None);
    let mapped = || frontend.mapped.lock().unwrap().len();
    let own = window.map(memfd(4096).as_fd(), None).unwrap();
    window.release(own);
    assert_eq!(mapped(), 0, "memory that the VM made and closed never comes again");
    let idle = window.map(memfd(4096).as_fd(), Some(CONTEXT)).unwrap();
    let used = window.map(memfd(4096).as_fd(), Some(CONTEXT)).unwrap();
    let other = window.map(memfd(4096).as_fd(), Some(CONTEXT + 1)).unwrap();
    window.release(idle);
    window.release(other);
    assert_eq!(mapped(), 3);
    window.end_context(CONTEXT);
    assert_eq!(mapped(), 2);
    window.release(used);
    assert_eq!(mapped(), 1);
}

#[test]
fn only_sealed_writable_memory_is_mapped() {
    let (mut window, frontend, _) = window(true, None);
    let unsealed = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&unsealed, 4096).unwrap();
    assert!(matches!(window.map(unsealed.as_fd(), Some(CONTEXT)), Err(MapError::NotSealed)));
    let constant = memory::constant("test", b"keymap").unwrap();
    assert!(matches!(window.map(constant.as_fd(), Some(CONTEXT)), Err(MapError::ReadOnly)));
    assert!(matches!(window.map(memfd(0).as_fd(), Some(CONTEXT)), Err(MapError::Size(0))));
    assert!(matches!(window.map(memfd(3 << 30).as_fd(), Some(CONTEXT)), Err(MapError::Size(_))));
    assert_eq!(frontend.mapped.lock().unwrap().len(), 0);
}

#[test]
fn a_refused_map_costs_nothing() {
    let (mut window, frontend, counters) = window(true, None);
    *frontend.refuse.lock().unwrap() = true;
    assert!(matches!(
        window.map(memfd(SIZE / 2).as_fd(), Some(CONTEXT)),
        Err(MapError::Refused(_))
    ));
    *frontend.refuse.lock().unwrap() = false;
    let _lease = window.map(memfd(SIZE / 2).as_fd(), Some(CONTEXT)).unwrap();
    assert_eq!(counters.window_bytes.get(), SIZE / 2);
}

#[test]
fn absolute_page_frames_need_the_base() {
    let (mut known, ..) = window(false, Some(1 << 40));
    let lease = known.map(memfd(4096).as_fd(), Some(CONTEXT)).unwrap();
    assert_eq!(known.pfn(&lease), (1 << 28) + 1);
    let (mut unknown, frontend, _) = window(false, None);
    assert!(matches!(unknown.map(memfd(4096).as_fd(), Some(CONTEXT)), Err(MapError::NoBase)));
    assert!(matches!(unknown.map(memfd(4096).as_fd(), Some(CONTEXT)), Err(MapError::NoBase)));
    assert_eq!(frontend.mapped.lock().unwrap().len(), 1, "it is tried once");
}
