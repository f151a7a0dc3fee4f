use super::*;
use crate::channel::fake::Fake;

const MIB: u64 = 1 << 20;

fn parts() -> (Recycler, Fake, Stats) {
    (Recycler::default(), Fake::new(), Stats::default())
}

#[test]
fn memory_is_reused_by_its_size_in_pages() {
    let (mut recycler, mut fake, mut stats) = parts();
    let first = recycler.take(5000, &mut fake, &mut stats).unwrap();
    let vfd = first.vfd;
    assert_eq!(first.size(), 8192);
    recycler.give(first, &mut stats);
    let other = recycler.take(4096, &mut fake, &mut stats).unwrap();
    assert_ne!(other.vfd, vfd);
    assert_eq!(recycler.take(8192, &mut fake, &mut stats).unwrap().vfd, vfd);
    assert_eq!((stats.allocations, stats.allocation_bytes), (2, 12_288));
    assert!(recycler.idle.is_empty(), "a size without allocations is forgotten");
}

#[test]
fn what_is_kept_is_bounded_in_bytes_largest_first() {
    let (mut recycler, mut fake, mut stats) = parts();
    let sizes = [30 * MIB, 20 * MIB, 30 * MIB];
    let all = sizes.map(|size| recycler.take(size, &mut fake, &mut stats).unwrap());
    let vfds = all.each_ref().map(|allocation| allocation.vfd);
    all.into_iter().for_each(|allocation| recycler.give(allocation, &mut stats));
    assert!(fake.is_open(vfds[2]), "it is not closed before nothing in a queue names it");
    recycler.close_retired(&mut fake, |_| false);
    assert_eq!(vfds.map(|vfd| fake.is_open(vfd)), [true, true, false]);
    assert_eq!((stats.allocations, stats.allocation_bytes), (2, 50 * MIB));
}

#[test]
fn what_is_kept_is_bounded_in_number() {
    let (mut recycler, mut fake, mut stats) = parts();
    let all: Vec<_> =
        (0..100).map(|_| recycler.take(4096, &mut fake, &mut stats).unwrap()).collect();
    all.into_iter().for_each(|allocation| recycler.give(allocation, &mut stats));
    recycler.close_retired(&mut fake, |_| false);
    assert_eq!((fake.open().len(), stats.allocations), (MAX_IDLE_COUNT, MAX_IDLE_COUNT as u64));
}

#[test]
fn a_vfd_in_a_queue_stays_open() {
    let (mut recycler, mut fake, mut stats) = parts();
    let allocation = recycler.take(4096, &mut fake, &mut stats).unwrap();
    let vfd = allocation.vfd;
    recycler.discard(allocation, &mut stats);
    recycler.close_retired(&mut fake, |queued| queued == vfd);
    assert!(fake.is_open(vfd) && recycler.has_retired());
    recycler.close_retired(&mut fake, |_| false);
    assert!(!fake.is_open(vfd) && !recycler.has_retired());
}

#[test]
fn a_vfd_in_a_queue_stays_open_also_when_there_is_no_more_memory() {
    let (mut recycler, mut fake, mut stats) = parts();
    let all = [1, 2, 3, 4].map(|mib| recycler.take(mib * MIB, &mut fake, &mut stats).unwrap());
    let vfds = all.each_ref().map(|allocation| allocation.vfd);
    let [kept, queued, discarded, other] = all;
    recycler.give(kept, &mut stats);
    recycler.give(queued, &mut stats);
    recycler.discard(discarded, &mut stats);
    recycler.close_retired(&mut fake, |vfd| vfd == vfds[1] || vfd == vfds[2]);
    recycler.discard(other, &mut stats);
    fake.state.borrow_mut().refusals.push_back(Error::OutOfMemory);
    recycler.take(5 * MIB, &mut fake, &mut stats).unwrap();
    assert_eq!(vfds.map(|vfd| fake.is_open(vfd)), [false, true, true, false]);
    recycler.close_retired(&mut fake, |_| false);
    assert_eq!(vfds.map(|vfd| fake.is_open(vfd)), [false; 4]);
    assert!(!recycler.has_retired());
}

#[test]
fn what_is_kept_goes_before_anyone_is_refused() {
    let (mut recycler, mut fake, mut stats) = parts();
    let kept = recycler.take(MIB, &mut fake, &mut stats).unwrap();
    let vfd = kept.vfd;
    recycler.give(kept, &mut stats);
    fake.state.borrow_mut().refusals.push_back(Error::OutOfMemory);
    let taken = recycler.take(2 * MIB, &mut fake, &mut stats).unwrap();
    assert!(!fake.is_open(vfd));
    assert_eq!((stats.allocations, stats.allocation_bytes), (1, taken.size()));
    fake.state.borrow_mut().refusals.push_back(Error::OutOfMemory);
    assert!(matches!(recycler.take(MIB, &mut fake, &mut stats), Err(Error::OutOfMemory)));
}
