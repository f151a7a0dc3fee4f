use super::*;
use std::fs::File;
use wlproxy_unix::memory;

const SIZE: u64 = 16 * PAGE_SIZE;

fn window() -> Window {
    let window = Window::new(SIZE);
    window.start();
    window
}

fn memfd(pages: u64) -> OwnedFd {
    memory::allocate("test", pages * PAGE_SIZE).unwrap()
}

/// A request in pages.
fn request(offset: u64, len: u64) -> VhostUserMMap {
    VhostUserMMap {
        shm_offset: offset * PAGE_SIZE,
        len: len * PAGE_SIZE,
        ..VhostUserMMap::default()
    }
}

fn map(window: &Window, offset: u64, len: u64) -> Result<(), Refused> {
    window.map(&request(offset, len), || Ok(memfd(len)))
}

#[test]
fn a_mapping_is_found_by_its_exact_range() {
    let window = window();
    let fd = memfd(2);
    window.map(&request(3, 2), || fd.try_clone()).unwrap();
    assert!(window.contains(3 * PAGE_SIZE, 2 * PAGE_SIZE));
    assert!(memory::same_file(window.file(3 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap(), &fd));
    for (offset, len) in [(3, 1), (3, 3), (4, 1), (2, 2)] {
        assert!(!window.contains(offset * PAGE_SIZE, len * PAGE_SIZE), "{offset} {len}");
    }
}

#[test]
fn a_part_of_a_file_is_no_allocation() {
    let window = window();
    let part = VhostUserMMap { fd_offset: PAGE_SIZE, ..request(0, 1) };
    window.map(&part, || Ok(memfd(2))).unwrap();
    assert!(!window.contains(0, PAGE_SIZE));
    assert_eq!(window.changed().unwrap()[0].1.file_offset, PAGE_SIZE);
}

#[test]
fn mappings_may_touch_but_not_overlap() {
    let window = window();
    map(&window, 4, 4).unwrap();
    for (offset, len) in [(4, 4), (3, 2), (7, 1), (5, 2), (0, 16), (7, 9)] {
        assert_eq!(map(&window, offset, len), Err(Refused::Overlap), "{offset} {len}");
    }
    map(&window, 0, 4).unwrap();
    map(&window, 8, 8).unwrap();
}

#[test]
fn what_does_not_fit_is_refused() {
    let window = window();
    let refused = |request: VhostUserMMap| window.map(&request, || Ok(memfd(16))).unwrap_err();
    assert_eq!(refused(request(15, 2)), Refused::OutOfRange);
    assert_eq!(refused(request(16, 1)), Refused::OutOfRange);
    let far = VhostUserMMap { shm_offset: u64::MAX - PAGE_SIZE + 1, ..request(0, 1) };
    assert_eq!(refused(far), Refused::OutOfRange);
    assert_eq!(refused(request(0, 0)), Refused::Unaligned);
    assert_eq!(refused(VhostUserMMap { len: 100, ..request(0, 1) }), Refused::Unaligned);
    assert_eq!(refused(VhostUserMMap { shm_offset: 512, ..request(0, 1) }), Refused::Unaligned);
    assert_eq!(refused(VhostUserMMap { fd_offset: 512, ..request(0, 1) }), Refused::Unaligned);
    assert_eq!(refused(VhostUserMMap { shmid: 1, ..request(0, 1) }), Refused::Region);
    assert!(window.changed().is_none());
}

#[test]
fn a_file_that_qemu_could_not_map_is_refused() {
    let window = window();
    let short = window.map(&request(0, 2), || Ok(memfd(1)));
    assert_eq!(short, Err(Refused::Short));
    let behind = VhostUserMMap { fd_offset: PAGE_SIZE, ..request(0, 1) };
    assert_eq!(window.map(&behind, || Ok(memfd(1))), Err(Refused::Short));
    let sealed = memory::constant("test", &[0; PAGE_SIZE as usize]).unwrap();
    assert_eq!(window.map(&request(0, 1), || Ok(sealed)), Err(Refused::NotWritable));
    let null = File::open("/dev/null").unwrap().into();
    assert_eq!(window.map(&request(0, 1), || Ok(null)), Err(Refused::NotWritable));
    let exhausted = window.map(&request(0, 1), || Err(io::Error::from(Errno::EMFILE)));
    assert_eq!(exhausted, Err(Refused::NoFds));
    map(&window, 0, 1).unwrap();
}

#[test]
fn unmap_names_one_mapping_exactly() {
    let window = window();
    map(&window, 0, 2).unwrap();
    map(&window, 2, 2).unwrap();
    for (offset, len) in [(0, 1), (1, 1), (0, 4), (8, 1)] {
        assert_eq!(window.unmap(&request(offset, len)), Err(Refused::NotMapped), "{offset} {len}");
    }
    window.unmap(&request(0, 2)).unwrap();
    assert_eq!(window.unmap(&request(0, 2)), Err(Refused::NotMapped));
    map(&window, 1, 1).unwrap();
}

#[test]
fn outside_of_start_and_stop_nothing_is_mapped() {
    let window = Window::new(SIZE);
    assert_eq!(map(&window, 0, 1), Err(Refused::Stopped));
    window.start();
    map(&window, 0, 1).unwrap();
    window.stop();
    assert!(!window.contains(0, PAGE_SIZE), "the VM's reset drops it");
    assert_eq!(window.unmap(&request(0, 1)), Err(Refused::Stopped));
    assert_eq!(map(&window, 0, 1), Err(Refused::Stopped));
    window.start();
    map(&window, 0, 1).unwrap();
}

#[test]
fn a_change_is_told_once() {
    let window = window();
    map(&window, 0, 1).unwrap();
    map(&window, 1, 1).unwrap();
    assert_eq!(window.changed().unwrap().len(), 2);
    assert!(window.changed().is_none());
    assert!(map(&window, 1, 1).is_err() && window.changed().is_none());
    window.unmap(&request(0, 1)).unwrap();
    assert_eq!(window.changed().unwrap().len(), 1);
}
