use super::*;
use crate::channel::fake::Fake;
use proptest::prelude::*;

const CONTEXT: VfdId = VfdId(1);

/// A channel with a context and so many further vfds.
fn channel(count: usize) -> (Fake, Vec<VfdId>) {
    let mut fake = Fake::new();
    assert_eq!(fake.connect().unwrap(), CONTEXT);
    let vfds = (0..count).map(|_| fake.connect().unwrap()).collect();
    (fake, vfds)
}

#[test]
fn more_than_28_vfds_follow_a_byte_later() {
    let (mut fake, vfds) = channel(60);
    let mut out = Outbox::default();
    out.queue(b"abcdefgh", vfds.iter().copied());
    assert!(out.flush(&mut fake, CONTEXT).unwrap());
    let sizes: Vec<_> =
        fake.state.borrow().sent.iter().map(|m| (m.bytes.len(), m.vfds.len())).collect();
    assert_eq!(sizes, [(1, 28), (1, 28), (6, 4)]);
    assert_eq!((fake.bytes_to(CONTEXT), fake.vfds_to(CONTEXT)), (b"abcdefgh".to_vec(), vfds));
}

#[test]
fn vfds_without_bytes_go_with_the_next() {
    let (mut fake, vfds) = channel(1);
    let mut out = Outbox::default();
    out.queue(&[], [vfds[0]]);
    assert!(out.flush(&mut fake, CONTEXT).unwrap());
    assert!(fake.state.borrow().sent.is_empty() && out.holds(vfds[0]));
    out.queue(b"x", []);
    assert!(out.flush(&mut fake, CONTEXT).unwrap());
    assert_eq!(fake.vfds_to(CONTEXT), vfds);
    assert!(!out.holds(vfds[0]));
}

#[test]
fn what_a_busy_channel_does_not_take_stays() {
    let (mut fake, vfds) = channel(1);
    fake.set_credit(Some(1));
    let mut out = Outbox::default();
    out.queue(&[7; MAX_SEND], []);
    out.queue(b"tail", [vfds[0]]);
    assert!(!out.flush(&mut fake, CONTEXT).unwrap());
    assert_eq!((out.queued(), fake.bytes_to(CONTEXT).len()), (4, MAX_SEND));
    assert_eq!(out.drain_vfds().collect::<Vec<_>>(), vfds);
}

proptest! {
    /// Messages of Wayland have at least 8 bytes and few fds.
    #[test]
    fn all_arrives_in_order_and_no_vfd_later_than_its_byte(
        messages in prop::collection::vec((8..9000usize, 0..5usize), 1..40),
        credits in prop::collection::vec(0..4usize, 0..40),
    ) {
        let (mut fake, mut vfds) = channel(messages.iter().map(|m| m.1).sum());
        let all = vfds.clone();
        let (mut out, mut bytes, mut positions) = (Outbox::default(), Vec::new(), Vec::new());
        let mut credits = credits.into_iter();
        for (len, count) in messages {
            let message: Vec<u8> = (0..len).map(|i| (bytes.len() + i) as u8).collect();
            positions.extend(std::iter::repeat_n(bytes.len(), count));
            out.queue(&message, vfds.drain(..count));
            bytes.extend(message);
            fake.set_credit(Some(credits.next().unwrap_or(0)));
            out.flush(&mut fake, CONTEXT).unwrap();
        }
        fake.set_credit(None);
        prop_assert!(out.flush(&mut fake, CONTEXT).unwrap());
        prop_assert_eq!(fake.bytes_to(CONTEXT), bytes);
        prop_assert_eq!(fake.vfds_to(CONTEXT), all);
        let (mut start, mut positions) = (0, positions.into_iter());
        for message in &fake.state.borrow().sent {
            for position in positions.by_ref().take(message.vfds.len()) {
                prop_assert!(start <= position, "sent with byte {start}, belongs to {position}");
            }
            start += message.bytes.len();
        }
    }
}
