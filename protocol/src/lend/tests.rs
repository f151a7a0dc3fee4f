use super::*;
use proptest::prelude::*;

const PARTING: Parting = Parting { id: 0x0403_0201, sent: 0x0807_0605 };

/// As the module's text says.
#[test]
fn the_bytes_are_these() {
    let expected = b"wlpl\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0";
    assert_eq!(&Request::Lend { size: 65_536 }.to_bytes(), expected);
    let expected = b"wlpl\x02\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\0";
    assert_eq!(&Request::Close(PARTING).to_bytes(), expected);
    let expected = b"wlpl\x04\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(&Answer::Lent { id: 9 }.to_bytes(), expected);
}

#[test]
fn what_is_written_is_read() {
    for request in [
        Request::Lend { size: MIN_LENT },
        Request::Lend { size: MAX_LENT },
        Request::Close(PARTING),
        Request::Demote(PARTING),
    ] {
        assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        assert_eq!(Answer::from_bytes(&request.to_bytes()), None);
    }
    for answer in [Answer::Lent { id: 7 }, Answer::Refused, Answer::Demoted { id: u32::MAX }] {
        assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        assert_eq!(Request::from_bytes(&answer.to_bytes()), None);
    }
}

#[test]
fn what_is_not_exactly_so_is_no_request() {
    for size in [0, MIN_LENT - 1, MAX_LENT + 1, u64::MAX] {
        assert_eq!(Request::from_bytes(&Request::Lend { size }.to_bytes()), None, "{size}");
    }
    let good = Request::Close(PARTING).to_bytes();
    assert_eq!(Request::from_bytes(&good[..RECORD - 1]), None);
    assert_eq!(Request::from_bytes(&[&good[..], &[0]].concat()), None);
    assert_eq!(Request::from_bytes(&[]), None);
    // Magic, kind, the zeros after it, and a size that closing doesn't have.
    for at in [0, 3, 4, 5, 6, 7, 16, 23] {
        let mut bad = good;
        bad[at] ^= 0x40;
        assert_eq!(Request::from_bytes(&bad), None, "byte {at}");
    }
}

proptest! {
    /// Nothing panics, and every record has one form only.
    #[test]
    fn any_bytes_are_a_record_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..40), magic: bool, kind in 0..8u8) {
        if magic && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&[b'w', b'l', b'p', b'l', kind, 0, 0, 0]);
        }
        if let Some(request) = Request::from_bytes(&bytes) {
            prop_assert_eq!(&request.to_bytes()[..], &bytes);
        }
        if let Some(answer) = Answer::from_bytes(&bytes) {
            prop_assert_eq!(&answer.to_bytes()[..], &bytes);
        }
    }
}
