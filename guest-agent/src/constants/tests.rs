use super::*;
use crate::channel::Arrived;
use crate::channel::fake::Fake;
use std::fs::File;
use std::io::Read;

#[derive(Default)]
struct Desk {
    constants: Constants,
    memory: Recycler,
    stats: Stats,
}

impl Desk {
    fn out(&mut self, fake: &mut Fake, content: &[u8], peer: &str) -> VfdId {
        let Self { constants, memory, stats } = self;
        let vfd = constants.allocation_of(content.to_vec(), peer, fake, memory, stats).unwrap();
        memory.close_retired(fake, |queued| queued == vfd);
        vfd
    }

    fn file(&mut self, fake: &Fake, content: &[u8]) -> File {
        let Arrived::Allocation(allocation) = fake.arriving_memory(content) else {
            unreachable!("it is memory")
        };
        self.constants.file_of(&allocation, content.len() as u64).unwrap().into()
    }
}

#[test]
fn equal_contents_share_memory_within_a_peer_only() {
    let (mut desk, mut fake) = (Desk::default(), Fake::new());
    let first = desk.out(&mut fake, b"keymap", "work");
    assert_eq!(desk.out(&mut fake, b"keymap", "work"), first);
    assert_ne!(desk.out(&mut fake, b"another", "work"), first);
    assert_ne!(desk.out(&mut fake, b"keymap", "play"), first, "VMs could write to one another");
    assert_eq!(desk.stats.allocations, 3);
}

#[test]
fn equal_contents_share_a_file() {
    let (mut desk, fake) = (Desk::default(), Fake::new());
    let (first, mut second) = (desk.file(&fake, b"keymap"), desk.file(&fake, b"keymap"));
    assert!(wlproxy_unix::memory::same_file(&first, &second));
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    assert_eq!(text, "keymap");
    assert!(!wlproxy_unix::memory::same_file(&first, desk.file(&fake, b"other")));
}

#[test]
fn nothing_is_a_content_too() {
    let (mut desk, mut fake) = (Desk::default(), Fake::new());
    let vfd = desk.out(&mut fake, b"", "work");
    assert_eq!(fake.state.borrow().open[&vfd], 4096);
    let Arrived::Allocation(page) = fake.arriving_memory(b"?") else { unreachable!() };
    let file = File::from(desk.constants.file_of(&page, 0).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn what_is_kept_is_bounded_in_number() {
    let (mut desk, mut fake) = (Desk::default(), Fake::new());
    for number in 0..1000u32 {
        let vfd = desk.out(&mut fake, &number.to_ne_bytes(), "work");
        assert!(fake.is_open(vfd));
        desk.file(&fake, &number.to_ne_bytes());
        assert!(desk.constants.files.kept.len() <= MAX_CONTENTS);
    }
    assert!(desk.stats.allocations <= MAX_CONTENTS as u64);
    assert_eq!(desk.constants.allocations.kept.len() as u64, desk.stats.allocations);
}

#[test]
fn what_is_kept_is_bounded_in_bytes() {
    let (mut desk, mut fake) = (Desk::default(), Fake::new());
    let mut content = vec![0; MAX_CONSTANT as usize];
    for number in 0..5 {
        content[0] = number;
        desk.out(&mut fake, &content, "work");
        assert!(desk.stats.allocation_bytes <= MAX_BYTES);
        assert!(desk.constants.allocations.bytes <= MAX_BYTES);
    }
}
