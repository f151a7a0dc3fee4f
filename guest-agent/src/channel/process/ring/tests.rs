use super::super::ram;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 8;
const BUFFERS: usize = 0x4000;

/// A ring, and `virtio-queue` on the other side of the same memory.
struct Lab {
    ring: Ring,
    ram: Arc<Ram>,
    queue: Queue,
    memory: GuestMemoryMmap,
}

impl Lab {
    fn new(event_idx: bool) -> Self {
        let layout = Layout::new(0x1000, SIZE);
        assert!(layout.end <= BUFFERS);
        let ram = Arc::new(Ram::new(0x8000).unwrap());
        let ring = Ring::new(ram.clone(), layout, SIZE, event_idx);
        let file =
            FileOffset::new(File::from(super::super::duplicate::duplicate(&ram.fd()).unwrap()), 0);
        let range = (GuestAddress(ram::BASE), 0x8000, Some(file));
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        let mut queue = Queue::new(SIZE).unwrap();
        let low = |offset| Some(Ram::address(offset) as u32);
        queue.set_desc_table_address(low(layout.descriptors), Some(0));
        queue.set_avail_ring_address(low(layout.available), Some(0));
        queue.set_used_ring_address(low(layout.used), Some(0));
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        assert!(queue.is_valid(&memory));
        Self { ring, ram, queue, memory }
    }

    /// As after `index` chains.
    fn begin_at(&mut self, index: u16) {
        let layout = self.ring.layout;
        for part in [layout.available, layout.used] {
            self.ram.store(part + INDEX, index.to_le(), Ordering::Relaxed);
        }
        (self.ring.available, self.ring.kicked, self.ring.used) = (index, index, index);
        self.queue.set_next_avail(index);
        self.queue.set_next_used(index);
    }

    /// The device takes one chain: its head, and the (length, writable) of its parts.
    fn take(&mut self) -> Option<(u16, Vec<(u32, bool)>)> {
        let chain = self.queue.pop_descriptor_chain(&self.memory)?;
        let head = chain.head_index();
        Some((head, chain.map(|part| (part.len(), part.is_write_only())).collect()))
    }

    fn give(&mut self, head: u16, len: u32) {
        self.queue.add_used(&self.memory, head, len).unwrap();
    }

    /// Writes an element of the used ring, as a device with a fault would.
    fn forge(&mut self, id: u32, len: u32, index: u16) {
        let used = Layout::new(0x1000, SIZE).used;
        let element = [id.to_le_bytes(), len.to_le_bytes()].concat();
        self.memory.write_slice(&element, GuestAddress(Ram::address(used + ELEMENTS))).unwrap();
        self.ram.store(used + INDEX, index.to_le(), Ordering::Release);
    }
}

fn part(len: u32) -> Part {
    Part { offset: BUFFERS, len }
}

#[test]
fn a_chain_goes_there_and_back() {
    for event_idx in [false, true] {
        let mut lab = Lab::new(event_idx);
        lab.ram.write(BUFFERS, b"request");
        assert!(lab.ring.add(77, &[part(7)], &[Part { offset: BUFFERS + 64, len: 16 }]));
        let chain = lab.queue.pop_descriptor_chain(&lab.memory).unwrap();
        let head = chain.head_index();
        let parts: Vec<_> = chain.collect();
        let mut bytes = [0; 7];
        lab.memory.read_slice(&mut bytes, parts[0].addr()).unwrap();
        assert_eq!(&bytes, b"request");
        lab.memory.write_slice(b"response", parts[1].addr()).unwrap();
        assert_eq!(lab.ring.pop(), Ok(None));
        lab.give(head, 8);
        assert_eq!(lab.ring.pop(), Ok(Some(Used { token: 77, written: 8 })));
        assert_eq!(lab.ring.pop(), Ok(None));
        let mut bytes = [0; 8];
        lab.ram.read(BUFFERS + 64, &mut bytes);
        assert_eq!(&bytes, b"response");
    }
}

#[test]
fn the_device_is_kicked_when_it_asked_for_it() {
    let mut lab = Lab::new(false);
    assert!(!lab.ring.needs_kick(), "nothing was added");
    lab.ring.add(0, &[part(1)], &[]);
    assert!(lab.ring.needs_kick() && !lab.ring.needs_kick());
    lab.queue.disable_notification(&lab.memory).unwrap();
    lab.ring.add(0, &[part(1)], &[]);
    assert!(!lab.ring.needs_kick());
    assert!(lab.queue.enable_notification(&lab.memory).unwrap(), "there is something already");
    lab.ring.add(0, &[part(1)], &[]);
    assert!(lab.ring.needs_kick());
}

#[test]
fn with_event_idx_the_device_is_kicked_at_its_index() {
    let mut lab = Lab::new(true);
    lab.ring.add(0, &[part(1)], &[]);
    assert!(lab.ring.needs_kick(), "a fresh device waits for the first");
    lab.ring.add(0, &[part(1)], &[]);
    assert!(!lab.ring.needs_kick(), "it hasn't asked again");
    while lab.take().is_some() {}
    assert!(!lab.queue.enable_notification(&lab.memory).unwrap());
    lab.ring.add(0, &[part(1)], &[]);
    lab.ring.add(0, &[part(1)], &[]);
    assert!(lab.ring.needs_kick(), "its index is among the two");
}

#[test]
fn with_event_idx_the_driver_is_called_for_the_next_after_it_asked() {
    let mut lab = Lab::new(true);
    (0..4).for_each(|token| assert!(lab.ring.add(token, &[], &[part(1)])));
    let heads: Vec<u16> = std::iter::from_fn(|| lab.take()).map(|(head, _)| head).collect();
    lab.give(heads[0], 0);
    assert!(
        lab.queue.needs_notification(&lab.memory).unwrap(),
        "a fresh driver waits for the first"
    );
    lab.give(heads[1], 0);
    assert!(!lab.queue.needs_notification(&lab.memory).unwrap(), "it was called already");
    assert!(lab.ring.want_calls(), "there are two");
    while lab.ring.pop().unwrap().is_some() {}
    lab.give(heads[2], 0);
    assert!(!lab.queue.needs_notification(&lab.memory).unwrap(), "it hasn't asked");
    assert_eq!(lab.ring.pop().unwrap().unwrap().token, 2);
    assert!(!lab.ring.want_calls());
    lab.give(heads[3], 0);
    assert!(lab.queue.needs_notification(&lab.memory).unwrap());
    assert!(lab.ring.want_calls(), "it doesn't wait for what is there");
    assert_eq!(lab.ring.pop().unwrap().unwrap().token, 3);
}

#[test]
fn what_a_device_may_not_do_breaks_the_ring() {
    let fresh = || {
        let mut lab = Lab::new(false);
        assert!(
            lab.ring.add(1, &[part(4)], &[part(16)]) && lab.ring.add(2, &[part(4)], &[part(16)])
        );
        lab
    };
    let broken = |id, len, index| {
        let mut lab = fresh();
        lab.forge(id, len, index);
        lab.ring.pop().unwrap_err()
    };
    assert_eq!(broken(0, 0, 3), Broken::Index(3, 2));
    assert_eq!(broken(0, 0, u16::MAX), Broken::Index(u16::MAX, 2));
    assert_eq!(broken(1, 0, 1), Broken::Chain(1), "the second descriptor of a chain isn't one");
    assert_eq!(broken(u32::from(SIZE), 0, 1), Broken::Chain(SIZE.into()));
    assert_eq!(broken(0, 17, 1), Broken::Length(17, 16));
    let mut lab = fresh();
    lab.forge(0, 16, 2);
    assert_eq!(lab.ring.pop(), Ok(Some(Used { token: 1, written: 16 })));
    lab.ram.store(
        Layout::new(0x1000, SIZE).used + ELEMENTS + USED_ELEMENT,
        0u32,
        Ordering::Relaxed,
    );
    assert_eq!(lab.ring.pop(), Err(Broken::Chain(0)), "given back twice");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Add(usize, usize),
    Take,
    /// Gives back one of those that the device has.
    Give(usize),
    Pop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, 0..3usize)
            .prop_filter_map("a part", |(r, w)| (r + w > 0).then_some(Step::Add(r, w))),
        Just(Step::Take),
        any::<usize>().prop_map(Step::Give),
        Just(Step::Pop),
    ]
}

proptest! {
    /// In any order of steps, each chain arrives as it was, and comes back once; also where the indices wrap.
    #[test]
    fn nothing_is_lost_in_any_order(steps in prop::collection::vec(step(), 0..400), event_idx: bool, start in prop_oneof![Just(0), any::<u16>(), 0xffc0..=u16::MAX]) {
        let mut lab = Lab::new(event_idx);
        lab.begin_at(start);
        let (mut available, mut taken, mut used) = (VecDeque::new(), Vec::new(), VecDeque::new());
        let mut free = usize::from(SIZE);
        for (number, step) in steps.into_iter().enumerate() {
            let token = number as u16;
            match step {
                Step::Add(readable, writable) => {
                    let (r, w) = (vec![part(token.into()); readable], vec![part(9); writable]);
                    let added = lab.ring.add(token, &r, &w);
                    prop_assert_eq!(added, free >= readable + writable);
                    if added {
                        free -= readable + writable;
                        available.push_back((token, readable, writable));
                    }
                }
                Step::Take => match (lab.take(), available.pop_front()) {
                    (None, None) => {}
                    (Some((head, parts)), Some(chain @ (token, readable, writable))) => {
                        let mut expected = vec![(u32::from(token), false); readable];
                        expected.extend(vec![(9, true); writable]);
                        prop_assert_eq!(parts, expected);
                        taken.push((head, chain));
                    }
                    other => prop_assert!(false, "{other:?}"),
                },
                Step::Give(which) if !taken.is_empty() => {
                    let (head, chain) = taken.swap_remove(which % taken.len());
                    lab.give(head, 9 * chain.2 as u32);
                    used.push_back(chain);
                }
                Step::Give(_) => {}
                Step::Pop => {
                    let expected = used.pop_front().map(|(token, readable, writable)| {
                        free += readable + writable;
                        Used { token, written: 9 * writable as u32 }
                    });
                    prop_assert_eq!(lab.ring.pop().unwrap(), expected);
                }
            }
        }
    }
}
