//! The backlog beside a naive model: what was said, whole, and a look at both for what has to be the same.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wlproxy_protocol::wayland::{Arg, Interface, Message, tables};

/// Objects: a pointer with frames and one without, two touch devices' worth of ids, and what goes with a pointer.
const POINTER: u32 = 3;
const OLD_POINTER: u32 = 4;
const TOUCH: u32 = 5;
const OTHER_POINTER: u32 = 6;
const DATA_DEVICE: u32 = 7;
const KEYBOARD: u32 = 8;
/// What tells of distances: of the pointer with frames, and of that without.
const RELATIVE: u32 = 9;
const OLD_RELATIVE: u32 = 10;
const SWIPE: u32 = 11;
const PINCH: u32 = 12;

/// Most bytes that are to wait.
const MOST: usize = 256 << 10;

const LEAVE: u16 = 1;
const MOTION: u16 = 2;
const BUTTON: u16 = 3;
const AXIS: u16 = 4;
const FRAME: u16 = 5;
const AXIS_SOURCE: u16 = 6;
const AXIS_STOP: u16 = 7;
const VALUE120: u16 = 9;

const TOUCH_DOWN: u16 = 0;
const TOUCH_MOTION: u16 = 2;
const TOUCH_FRAME: u16 = 3;

const DATA_MOTION: u16 = 3;

const DISTANCE: u16 = 0;
const GESTURE_UPDATE: u16 = 1;
const GESTURE_END: u16 = 2;

fn child(interface: &'static Interface, request: &str) -> &'static Interface {
    let request = interface.requests.iter().find(|desc| desc.name == request).unwrap();
    request.child_interface.unwrap()
}

fn relatives() -> &'static Interface {
    tables::global("zwp_relative_pointer_manager_v1").unwrap().interface
}

fn gestures() -> &'static Interface {
    tables::global("zwp_pointer_gestures_v1").unwrap().interface
}

/// One whose client has asked for distances of these pointers.
fn backlog() -> Backlog<usize> {
    let mut backlog = None;
    for (relative, pointer) in [(RELATIVE, POINTER), (OLD_RELATIVE, OLD_POINTER)] {
        let mut bytes = Vec::new();
        wire::encode(99, 1, &[Arg::NewId(relative), Arg::Object(pointer)], &mut bytes);
        let (interface, message) = (relatives(), split(&bytes)[0]);
        let desc = &interface.requests[usize::from(message.opcode)];
        Backlog::note(&mut backlog, &Call { message, interface, version: 1, desc, number: 0 });
    }
    *backlog.unwrap()
}

/// What an object is, and its version.
fn interface(object: u32) -> (&'static Interface, u32) {
    let seat = tables::global("wl_seat").unwrap().interface;
    let pointer = child(seat, "get_pointer");
    match object {
        POINTER | OTHER_POINTER => (pointer, 8),
        OLD_POINTER => (pointer, 4),
        TOUCH => (child(seat, "get_touch"), 8),
        KEYBOARD => (child(seat, "get_keyboard"), 8),
        DATA_DEVICE => {
            let manager = tables::global("wl_data_device_manager").unwrap().interface;
            (child(manager, "get_data_device"), 3)
        }
        RELATIVE | OLD_RELATIVE => (child(relatives(), "get_relative_pointer"), 1),
        SWIPE => (child(gestures(), "get_swipe_gesture"), 3),
        PINCH => (child(gestures(), "get_pinch_gesture"), 3),
        _ => unreachable!(),
    }
}

fn call(message: Message<'_>) -> Call<'_> {
    let (interface, version) = interface(message.object);
    let desc = &interface.events[usize::from(message.opcode)];
    Call { message, interface, version, desc, number: 0 }
}

fn event(object: u32, opcode: u16, words: &[i32]) -> Vec<u8> {
    let (interface, _) = interface(object);
    let signature = interface.events[usize::from(opcode)].signature;
    let words: Vec<_> = words.iter().map(|&word| Arg::Int(word)).collect();
    let mut bytes = Vec::new();
    wire::encode(object, opcode, &words, &mut bytes);
    let fds = signature.iter().filter(|&&kind| kind == wlproxy_protocol::wayland::ArgumentType::Fd);
    assert_eq!(signature.len() - fds.count(), words.len(), "{}", interface.name);
    bytes
}

fn split(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut all = Vec::new();
    while let Some(message) = wire::split(&mut bytes, MAX_EVENT).unwrap() {
        all.push(message);
    }
    assert!(bytes.is_empty());
    all
}

fn push(backlog: &mut Backlog<usize>, bytes: &[u8], fds: Vec<usize>) {
    for message in split(bytes) {
        backlog.push(&call(message), message.bytes, fds.clone().into_iter());
    }
}

fn take_all(backlog: &mut Backlog<usize>) -> Batch<usize> {
    let mut out = Batch::default();
    while backlog.bytes() > 0 {
        backlog.take(64, &mut out);
    }
    out
}

/// What comes out of these, after a frame of each pointer, so that all is known of their groups.
fn through(events: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut backlog = backlog();
    let frames = [event(POINTER, FRAME, &[]), event(OTHER_POINTER, FRAME, &[])];
    let frames = [&frames[0][..], &frames[1], &event(TOUCH, TOUCH_FRAME, &[])].concat();
    push(&mut backlog, &frames, Vec::new());
    push(&mut backlog, &events.concat(), Vec::new());
    let out = take_all(&mut backlog);
    let rest = out.bytes.strip_prefix(&frames[..]).expect("these are first, and never joined");
    split(rest).into_iter().map(|message| message.bytes.to_vec()).collect()
}

fn motion(x: i32) -> Vec<u8> {
    event(POINTER, MOTION, &[x, x, x])
}

fn frame() -> Vec<u8> {
    event(POINTER, FRAME, &[])
}

fn button() -> Vec<u8> {
    event(POINTER, BUTTON, &[1, 2, 3, 1])
}

#[test]
fn of_motions_the_last_remains() {
    let said = [motion(1), frame(), motion(2), frame(), motion(3), frame()];
    assert_eq!(through(&said), [motion(3), frame()]);
    let old = |x| event(OLD_POINTER, MOTION, &[x, x, x]);
    assert_eq!(through(&[old(1), old(2)]), [old(2)]);
    let dragged = |x| event(DATA_DEVICE, DATA_MOTION, &[x, x, x]);
    assert_eq!(through(&[dragged(1), dragged(2)]), [dragged(2)]);
}

fn distance(x: i32) -> Vec<u8> {
    event(RELATIVE, DISTANCE, &[0, x, x, 2 * x, 3 * x, -x])
}

fn sum(of: &[i32]) -> Vec<u8> {
    let (x, last) = (of.iter().sum::<i32>(), of.last().unwrap());
    event(RELATIVE, DISTANCE, &[0, *last, x, 2 * x, 3 * x, -x])
}

/// A game's mouse moves nothing: there is a frame after each distance, and no motion.
#[test]
fn distances_of_a_locked_pointer_add_up() {
    let said = [distance(1), frame(), distance(2), frame(), distance(-5), frame()];
    assert_eq!(through(&said), [sum(&[1, 2, -5]), frame()]);
    // As do those beside motion.
    let said = |x| [distance(x), motion(x), frame()];
    let joined = [sum(&[1, 2]), motion(2), frame()];
    assert_eq!(through(&[said(1), said(2)].concat()), joined);
    // Those that are in a group with something else stay in it.
    let said = [distance(1), frame(), distance(2), button(), frame(), distance(3), frame()];
    assert_eq!(through(&said), said);
    let said = [&said[..], &[button(), distance(4), frame(), distance(5), frame()]].concat();
    assert_eq!(through(&said), said);
    // Each pointer of a client has a frame.
    let (other, first) = (|| event(OTHER_POINTER, FRAME, &[]), [distance(1), distance(2)]);
    let said = [&first[..], &[frame(), other(), distance(3), frame(), other()]].concat();
    assert_eq!(through(&said), [sum(&[1, 2, 3]), frame(), other()]);
    let said = [distance(1), other(), frame(), distance(2), other(), frame()];
    assert_eq!(through(&said), [sum(&[1, 2]), other(), frame()]);
    // One without frames.
    let old = |x| event(OLD_RELATIVE, DISTANCE, &[0, 9, x, x, x, x]);
    assert_eq!(through(&[old(1), old(2), old(3)]), [old(6)]);
    // No more room for the sum.
    let said = [distance(i32::MAX / 4), frame(), distance(i32::MAX / 4), frame()];
    assert_eq!(through(&said), said);
}

#[test]
fn a_frame_of_nothing_alone_stays() {
    let said = [frame(), frame(), button(), frame(), frame()];
    assert_eq!(through(&said), said);
    // It isn't known what it ends.
    let mut backlog = backlog();
    let said = [distance(1), frame(), distance(2), frame()].concat();
    push(&mut backlog, &said, Vec::new());
    assert_eq!(take_all(&mut backlog).bytes, said);
}

#[test]
fn gestures_add_up_between_their_beginning_and_their_end() {
    let swipe = |time, x| event(SWIPE, GESTURE_UPDATE, &[time, x, -x]);
    let pinch = |time, x, scale| event(PINCH, GESTURE_UPDATE, &[time, x, 2 * x, scale, 3 * x]);
    assert_eq!(through(&[swipe(1, 5), swipe(2, -3), swipe(3, 7)]), [swipe(3, 9)]);
    assert_eq!(through(&[pinch(1, 5, 300), pinch(2, 6, 280)]), [pinch(2, 11, 280)]);
    let end = || event(SWIPE, GESTURE_END, &[1, 2, 0]);
    let said = [swipe(1, 5), end(), swipe(2, 5), motion(1), frame(), swipe(3, 5)];
    assert_eq!(through(&said), said);
    let said = |x| [swipe(1, x), frame()];
    assert_eq!(through(&[said(1), said(2)].concat()), said(3));
}

#[test]
fn a_group_with_a_button_stays_as_it_is() {
    let whole = [motion(2), button(), frame()];
    let said = [&[motion(0), frame(), motion(1), frame()], &whole[..], &[motion(3), frame()]];
    let said = [&said.concat()[..], &[motion(4), frame()]].concat();
    let expected = [&[motion(1), frame()], &whole[..], &[motion(4), frame()]].concat();
    assert_eq!(through(&said), expected);
}

#[test]
fn what_belongs_to_a_group_that_began_before_stays_in_it() {
    // The button went on when the client was not slow yet.
    let mut backlog = Backlog::default();
    let said = [motion(1), frame(), motion(2), frame(), motion(3), frame()].concat();
    push(&mut backlog, &said, Vec::new());
    let expected = [motion(1), frame(), motion(3), frame()].concat();
    assert_eq!(take_all(&mut backlog).bytes, expected);
}

#[test]
fn pointers_of_one_client_are_joined_beside_each_other() {
    let other = |x| event(OTHER_POINTER, MOTION, &[x, x, x]);
    let other_frame = || event(OTHER_POINTER, FRAME, &[]);
    let said = |x| [motion(x), other(x), frame(), other_frame()];
    assert_eq!(through(&[said(1), said(2), said(3)].concat()), said(3));
}

#[test]
fn each_finger_has_a_place() {
    let touch = |id, x| event(TOUCH, TOUCH_MOTION, &[x, id, x, x]);
    let frame = || event(TOUCH, TOUCH_FRAME, &[]);
    let said = [touch(1, 1), touch(2, 1), frame(), touch(2, 5), frame(), touch(3, 6), frame()];
    assert_eq!(through(&said), [touch(1, 1), touch(2, 5), touch(3, 6), frame()]);
    let down = event(TOUCH, TOUCH_DOWN, &[1, 2, 3, 4, 5, 6]);
    let said = [touch(1, 1), frame(), down.clone(), frame(), touch(1, 2), frame()];
    assert_eq!(through(&said), said);
}

#[test]
fn scrolls_add_up_unless_they_turn_back_or_stop() {
    const WHEEL: i32 = 0;
    let axis = |distance| event(POINTER, AXIS, &[7, 0, distance]);
    let source = |source| event(POINTER, AXIS_SOURCE, &[source]);
    let step = |parts| event(POINTER, VALUE120, &[0, parts]);
    let wheel = |n: i32| [source(WHEEL), step(120 * n), axis(256 * n), frame()];
    assert_eq!(through(&[wheel(1), wheel(1), wheel(2)].concat()), wheel(4));
    let there_and_back = [wheel(1), wheel(-1)].concat();
    assert_eq!(through(&there_and_back), there_and_back);
    // Another source; another axis; the end; no more room for the sum.
    let finger = [source(1), axis(256), frame()];
    let other = [source(WHEEL), event(POINTER, AXIS, &[7, 1, 256]), frame()];
    let stop = [source(WHEEL), event(POINTER, AXIS_STOP, &[7, 0]), frame()];
    let far = [source(1), axis(i32::MAX), frame()];
    for next in [&finger[..], &other, &stop] {
        let said = [&wheel(1)[..], next].concat();
        assert_eq!(through(&said), said);
    }
    let said = [&finger[..], &far].concat();
    assert_eq!(through(&said), said);
    // It is meant for the place where it is done.
    let said = [&[motion(1), frame()], &wheel(1)[..], &[motion(2), frame()], &wheel(1)].concat();
    assert_eq!(through(&said), said);
}

#[test]
fn fds_stay_with_their_messages() {
    let mut backlog = Backlog::default();
    let keymap = event(KEYBOARD, 0, &[1, 100]);
    for fd in 0..5 {
        push(&mut backlog, &[frame(), motion(1), frame()].concat(), Vec::new());
        push(&mut backlog, &keymap, vec![fd]);
    }
    let mut out = Batch::default();
    backlog.take(0, &mut out);
    assert_eq!((&out.bytes[..], out.fds.len()), (&frame()[..], 0));
    let mut seen = 0;
    while backlog.bytes() > 0 {
        let before = out.bytes.len();
        backlog.take(0, &mut out);
        assert_eq!(split(&out.bytes[before..]).len(), 1, "one at a time");
        seen += usize::from(out.bytes[before..] == keymap);
        assert_eq!(out.fds, (0..seen).collect::<Vec<_>>());
    }
    assert_eq!(seen, 5);
}

#[test]
fn it_is_full_at_its_bounds_and_motion_never_fills_it() {
    let mut backlog = backlog();
    for x in 0..100_000 {
        push(&mut backlog, &[motion(x), frame()].concat(), Vec::new());
    }
    assert!(backlog.bytes() < 200, "{} bytes", backlog.bytes());
    for x in 0..100_000 {
        push(&mut backlog, &[distance(x % 100), frame()].concat(), Vec::new());
    }
    assert!(backlog.bytes() < 200, "{} bytes", backlog.bytes());
    while backlog.has_room(MOST) {
        push(&mut backlog, &button(), Vec::new());
    }
    assert!((MOST..MOST + 100).contains(&backlog.bytes()));
    let mut backlog = Backlog::default();
    while backlog.has_room(MOST) {
        push(&mut backlog, &event(KEYBOARD, 0, &[1, 100]), vec![0]);
    }
    assert_eq!(take_all(&mut backlog).fds.len(), MAX_HELD_FDS);
}

#[test]
fn objects_without_end_cost_no_more_than_a_run() {
    // A compositor may make as many touch points as it likes.
    let mut backlog = Backlog::default();
    push(&mut backlog, &event(TOUCH, TOUCH_FRAME, &[]), Vec::new());
    for id in 0..10_000 {
        push(&mut backlog, &event(TOUCH, TOUCH_MOTION, &[1, id, 1, 1]), Vec::new());
        assert!(backlog.open.len() <= MAX_RUN && backlog.run.len() <= MAX_RUN);
    }
    for id in 0..10_000 {
        let whole = [event(TOUCH, TOUCH_MOTION, &[1, id, 1, 1]), event(TOUCH, TOUCH_FRAME, &[])];
        push(&mut backlog, &whole.concat(), Vec::new());
        assert!(backlog.open.len() <= MAX_RUN && backlog.run.len() <= MAX_RUN);
    }
}

/// Some event, and a number that is in it.
fn any_event() -> impl Strategy<Value = Vec<u8>> {
    let pointer = prop_oneof![Just(POINTER), Just(OTHER_POINTER), Just(OLD_POINTER)];
    let number = prop_oneof![9 => -4..5i32, 1 => any::<i32>()];
    (0..34u8, pointer, number, 0..2i32).prop_map(|(which, pointer, n, part)| match which {
        0..7 => event(pointer, MOTION, &[n, n, n]),
        7..12 if pointer == OLD_POINTER => event(pointer, MOTION, &[n, n, n]),
        7..12 => event(pointer, FRAME, &[]),
        12..14 => event(pointer, AXIS, &[n, part, n]),
        14 => event(pointer, AXIS_SOURCE, &[part]),
        15 => event(pointer, VALUE120, &[part, n]),
        16..18 => event(TOUCH, TOUCH_MOTION, &[n, part, n, n]),
        18..20 => event(TOUCH, TOUCH_FRAME, &[]),
        20 => event(DATA_DEVICE, DATA_MOTION, &[n, n, n]),
        21 => event(TOUCH, TOUCH_DOWN, &[1, 2, 3, n, 5, 6]),
        22 => event(pointer, BUTTON, &[1, 2, n, 1]),
        23..27 => event(RELATIVE, DISTANCE, &[0, n, n, 1, n, -1]),
        27 => event(OLD_RELATIVE, DISTANCE, &[0, n, n, 1, n, -1]),
        28 => event(SWIPE, GESTURE_UPDATE, &[n, n, 1]),
        29 => event(PINCH, GESTURE_UPDATE, &[n, n, 1, n, n]),
        30 => event(SWIPE, GESTURE_END, &[1, 2, part]),
        31..33 => event(POINTER, FRAME, &[]),
        _ => event(pointer, LEAVE, &[n, 9]),
    })
}

/// Where a stream begins again: what may not be joined, as it is.
fn is_single(message: &Message<'_>) -> bool {
    nature(&call(*message)) == Nature::Single
}

/// What has to be the same between two singles: of each place the last, of each scroll the sum.
fn meaning(part: &[Message<'_>]) -> BTreeMap<(u32, u16, u32), Vec<i64>> {
    let mut all: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for message in part {
        let word = |at: usize| {
            i64::from(i32::from_ne_bytes(message.bytes[at..at + 4].try_into().unwrap()))
        };
        let words: Vec<_> = (8..message.bytes.len()).step_by(4).map(word).collect();
        // The part, and which words are added up.
        let (part, sums): (_, &[usize]) = match (message.object, message.opcode) {
            (TOUCH, TOUCH_FRAME) => continue,
            (TOUCH, _) => (words[1], &[]),
            (DATA_DEVICE, _) => (0, &[]),
            (RELATIVE | OLD_RELATIVE, _) => (0, &[2, 3, 4, 5]),
            (SWIPE, _) => (0, &[1, 2]),
            (PINCH, _) => (0, &[1, 2, 4]),
            (_, FRAME) => continue,
            (_, MOTION) => (0, &[]),
            (_, AXIS) => (words[1], &[2]),
            (_, VALUE120) => (words[0], &[1]),
            (_, AXIS_SOURCE) => (0, &[]),
            other => unreachable!("{other:?}"),
        };
        let key = (message.object, message.opcode, part as u32);
        let mut words = words;
        if let Some(before) = all.get(&key) {
            sums.iter().for_each(|&at| words[at] += before[at]);
        }
        all.insert(key, words);
    }
    all
}

/// What an object's distances are told by.
fn relative(pointer: u32) -> u32 {
    if pointer == POINTER { RELATIVE } else { 0 }
}

/// A group: as it was said, and the distances in it.
type Eventful = (Vec<Vec<u8>>, BTreeMap<(u32, u16, u32), Vec<i64>>);

/// The groups of an object with frames in which something happens that is never joined. The last may have no frame.
fn eventful_groups(messages: &[Message<'_>], object: u32) -> Vec<Eventful> {
    let is_distance = |message: &Message<'_>| message.object == relative(object);
    let is_ours = |message: &&Message<'_>| message.object == object || is_distance(message);
    let ours: Vec<_> = messages.iter().copied().filter(|message| is_ours(&message)).collect();
    let groups = ours.split_inclusive(|message| nature(&call(*message)) == Nature::Frame);
    let eventful = groups.filter(|group| group.iter().any(is_single));
    let told = eventful.map(|group| {
        let (distances, own): (Vec<_>, Vec<_>) = group.iter().copied().partition(is_distance);
        (own.iter().map(|message| message.bytes.to_vec()).collect(), meaning(&distances))
    });
    told.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_joined_means_the_same(
        said in prop::collection::vec((any_event(), prop::option::weighted(0.05, 1..200usize)), 0..120),
    ) {
        let (mut backlog, mut out) = (backlog(), Batch::default());
        let mut whole = Vec::new();
        for (bytes, take) in &said {
            push(&mut backlog, bytes, Vec::new());
            whole.extend(bytes);
            if let Some(limit) = *take {
                backlog.take(limit, &mut out);
            }
            let loose = backlog.run.iter().map(|entry| entry.bytes.len());
            let loose = loose.chain(backlog.frames.iter().map(|(_, bytes)| bytes.len()));
            let loose = loose.chain(backlog.open.iter().map(|part| part.bytes.len()));
            prop_assert_eq!(backlog.loose, loose.sum::<usize>());
        }
        while backlog.bytes() > 0 {
            backlog.take(100, &mut out);
        }
        let (said, heard) = (split(&whole), split(&out.bytes));
        prop_assert!(heard.len() <= said.len());
        let singles = |all: &[Message<'_>]| {
            all.iter().filter(|m| is_single(m)).map(|m| m.bytes.to_vec()).collect::<Vec<_>>()
        };
        prop_assert_eq!(singles(&said), singles(&heard));
        let parts = |all| -> Vec<_> {
            let parts: Vec<&[Message<'_>]> = <[Message<'_>]>::split(all, is_single).collect();
            parts.into_iter().map(meaning).collect()
        };
        prop_assert_eq!(parts(&said[..]), parts(&heard[..]));
        for object in [POINTER, OTHER_POINTER, TOUCH] {
            prop_assert_eq!(eventful_groups(&said, object), eventful_groups(&heard, object));
            // No group is left without its frame that had one.
            let ends = |all: &[Message<'_>]| {
                all.iter().rfind(|m| m.object == object).map(|m| nature(&call(*m)) == Nature::Frame)
            };
            prop_assert_eq!(ends(&said), ends(&heard));
        }
        let objects: BTreeSet<_> = heard.iter().map(|m| m.object).collect();
        prop_assert!(objects.is_subset(&said.iter().map(|m| m.object).collect()));
    }
}
