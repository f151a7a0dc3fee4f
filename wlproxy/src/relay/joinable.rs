//! Which events a later one makes needless, for a client that is slow to read.
//!
//! A position is one: who reads the last has missed nothing that still holds. So are the numbers that a tool's tip has,
//! and distances, which add up. What a person did (a button, a key, a touch that begins or ends) never is, nor is where
//! something begins or ends.
//!
//! Some that look alike are left alone. What a ring or a strip of a tablet's pad tells is a place, of which clients take
//! the differences: of two turns of the ring nothing would remain. A tool's wheel has notches and degrees that a compositor
//! may round by themselves. Nobody turns either for so long that it fills what may wait.
//!
//! All arguments of these events are single words.

use wlproxy_protocol::wayland::wire::HEADER;
use wlproxy_protocol::wayland::{Arg, Call};

/// First version of wl_pointer that has frames (wayland.xml).
const POINTER_FRAMES: u32 = 5;

/// What tells distances.
const RELATIVE: &str = "zwp_relative_pointer_v1";

/// What an event is to a queue that joins some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// It stays as it is and where it is.
    Single,
    /// A later one may take its place, or be added to it.
    Joinable(Key, Join),
    /// It ends a group of its object's events.
    Frame,
}

/// Which events can be joined with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) object: u32,
    opcode: u16,
    /// A touch's id, or an axis.
    part: u32,
}

/// How two are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// The later one stands for both.
    Latest(Theme),
    /// The later one, of which these arguments are the sums. Never of numbers with different signs in a scroll: there and
    /// back again is something else than to stay.
    Sum(Theme, &'static [usize]),
    /// Only if they are the same.
    Same(Theme),
}

/// Groups of one theme are joined, and none with another: a position isn't moved past a scroll, which is meant for what is
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// Where something is.
    Place,
    /// How far something was scrolled.
    Scroll,
    /// How far fingers moved on a touchpad.
    Gesture,
}

impl Join {
    pub(super) fn theme(self) -> Theme {
        let (Self::Latest(theme) | Self::Sum(theme, _) | Self::Same(theme)) = self;
        theme
    }

    /// What stands for both of two with the same key. `None` if they can't be joined.
    pub(super) fn joined(self, earlier: &[u8], mut later: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Latest(_) => {}
            Self::Same(_) => return (earlier == later).then_some(later),
            Self::Sum(theme, arguments) => {
                for at in arguments.iter().map(|argument| HEADER + 4 * argument) {
                    let (before, now) = (number(earlier, at)?, number(&later, at)?);
                    if theme == Theme::Scroll && before.signum() * now.signum() < 0 {
                        return None;
                    }
                    later[at..at + 4].copy_from_slice(&before.checked_add(now)?.to_ne_bytes());
                }
            }
        }
        Some(later)
    }
}

/// The word at `at`, as a number or as one with 8 fractional bits.
fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes)
}

/// What this event is.
pub(super) fn nature(call: &Call<'_>) -> Nature {
    use Join::{Latest, Same, Sum};
    use Theme::{Gesture, Place, Scroll};
    // Which argument is the part, if one is.
    let (join, part) = match call.name() {
        ("wl_pointer" | "wl_touch" | "zwp_tablet_tool_v2", "frame") => return Nature::Frame,
        // time, x, y
        ("wl_pointer" | "wl_data_device", "motion") => (Latest(Place), None),
        // time, id, x, y
        ("wl_touch", "motion") => (Latest(Place), Some(1)),
        // id, major, minor; id, angle
        ("wl_touch", "shape" | "orientation") => (Latest(Place), Some(0)),
        (
            "zwp_tablet_tool_v2",
            "motion" | "pressure" | "distance" | "tilt" | "rotation" | "slider",
        ) => (Latest(Place), None),
        // two words of time, then dx, dy, and both as they were before acceleration
        (RELATIVE, "relative_motion") => (Sum(Place, &[2, 3, 4, 5]), None),
        // time, dx, dy
        ("zwp_pointer_gesture_swipe_v1", "update") => (Sum(Gesture, &[1, 2]), None),
        // time, dx, dy, scale since the beginning, rotation since the last
        ("zwp_pointer_gesture_pinch_v1", "update") => (Sum(Gesture, &[1, 2, 4]), None),
        // time, axis, distance
        ("wl_pointer", "axis") => (Sum(Scroll, &[2]), Some(1)),
        // axis, steps; axis, parts of a step
        ("wl_pointer", "axis_discrete" | "axis_value120") => (Sum(Scroll, &[1]), Some(0)),
        ("wl_pointer", "axis_source") => (Same(Scroll), None),
        // axis, direction
        ("wl_pointer", "axis_relative_direction") => (Same(Scroll), Some(0)),
        _ => return Nature::Single,
    };
    let bytes = call.message.bytes;
    let part = part.and_then(|at| number(bytes, HEADER + 4 * at)).map_or(0, i32::cast_unsigned);
    Nature::Joinable(Key { object: call.object(), opcode: call.message.opcode, part }, join)
}

/// The relative pointer that a request makes, and the pointer whose distances it is to tell: these are in the groups of that
/// pointer.
pub(super) fn pair(call: &Call<'_>) -> Option<(u32, u32)> {
    if call.name() != ("zwp_relative_pointer_manager_v1", "get_relative_pointer") {
        return None;
    }
    let mut args = call.args();
    match (args.next(), args.next()) {
        (Some(Arg::NewId(relative)), Some(Arg::Object(pointer))) => Some((relative, pointer)),
        _ => None,
    }
}

/// The relative pointer that a request destroys.
pub(super) fn unpair(call: &Call<'_>) -> Option<u32> {
    (call.name() == (RELATIVE, "destroy")).then(|| call.object())
}

/// Whether the events of this object come in groups, each with a frame at its end.
pub(super) fn has_frames(call: &Call<'_>) -> bool {
    match call.interface.name {
        "wl_pointer" => call.version >= POINTER_FRAMES,
        "wl_touch" | "zwp_tablet_tool_v2" => true,
        _ => false,
    }
}
