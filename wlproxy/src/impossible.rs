//! Numbers that no protocol allows, and that not every compositor survives. Pure: the relay asks at each request.
//!
//! Most errors are the compositor's to tell, which knows more. What is here has ended one for all of its clients.

use crate::concern::Number;
use wlproxy_protocol::wayland::objects::Violation;
use wlproxy_protocol::wayland::{Arg, Call};

/// `wl_shm.error`: the size of a pool is invalid, as libwayland has it (wayland.xml).
const INVALID_FD: u32 = 2;
/// `xdg_surface.error`: the size of a window geometry is invalid (xdg-shell.xml).
const INVALID_SIZE: u32 = 5;

/// A request of a client, which was checked for its form, and has this number.
///
/// # Errors
/// If it can't be meant.
pub(crate) fn check(call: &Call<'_>, number: Number) -> Result<(), Violation> {
    match number {
        // id, fd, size
        Number::NewPool => positive(call, 2, 1, INVALID_FD, "a pool"),
        // smithay 0.7 unwraps that it is positive, after it has sent the error.
        Number::Pool => positive(call, 0, 1, INVALID_FD, "a pool"),
        // x, y, width, height. smithay 0.7 asserts it.
        Number::Geometry => positive(call, 2, 2, INVALID_SIZE, "a window geometry"),
    }
}

/// That the `count` arguments from `first` on are positive. `code` is one of the object's own.
fn positive(
    call: &Call<'_>,
    first: usize,
    count: usize,
    code: u32,
    what: &str,
) -> Result<(), Violation> {
    for argument in call.args().skip(first).take(count) {
        if let Arg::Int(number @ ..=0) = argument {
            let violation = call.violation(code, format!("the size of {what} can't be {number}"));
            return Err(Violation { object: call.object(), ..violation });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concern::Concern;
    use wlproxy_protocol::wayland::objects::Event;
    use wlproxy_protocol::wayland::{Objects, wire};

    const SHM: u32 = 3;
    const POOL: u32 = 4;
    const CREATE_POOL: u16 = 0;
    const RESIZE: u16 = 2;

    fn bytes(object: u32, opcode: u16, args: &[Arg<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::encode(object, opcode, args, &mut bytes);
        bytes
    }

    fn say(objects: &mut Objects, request: &[u8]) -> Result<(), Violation> {
        let message = wire::split(&mut &*request, request.len()).unwrap().unwrap();
        let call = objects.request(message).expect("a right request");
        Concern::of(&call).number.map_or(Ok(()), |number| check(&call, number))
    }

    /// A client with a wl_shm.
    fn client() -> Objects {
        let mut objects = Objects::new();
        say(&mut objects, &bytes(1, 1, &[Arg::NewId(2)])).unwrap();
        let (name, version) = (Arg::Str(Some(c"wl_shm")), Arg::Uint(1));
        let global = bytes(2, 0, &[Arg::Uint(7), name, version]);
        let message = wire::split(&mut &*global, global.len()).unwrap().unwrap();
        assert!(matches!(objects.event(message).unwrap(), Event::Pass(_)));
        say(&mut objects, &bytes(2, 0, &[Arg::Uint(7), name, version, Arg::NewId(SHM)])).unwrap();
        objects
    }

    #[test]
    fn a_pool_has_a_size() {
        let create = |size| bytes(SHM, CREATE_POOL, &[Arg::NewId(POOL), Arg::Fd, Arg::Int(size)]);
        for size in [0, -1, i32::MIN] {
            let violation = say(&mut client(), &create(size)).unwrap_err();
            assert_eq!((violation.object, violation.code), (SHM, INVALID_FD));
            let words = format!("wl_shm@3.create_pool: the size of a pool can't be {size}");
            assert_eq!(violation.to_string(), words);

            let mut client = client();
            say(&mut client, &create(1)).unwrap();
            say(&mut client, &bytes(POOL, RESIZE, &[Arg::Int(i32::MAX)])).unwrap();
            let violation = say(&mut client, &bytes(POOL, RESIZE, &[Arg::Int(size)])).unwrap_err();
            assert_eq!((violation.object, violation.code), (POOL, INVALID_FD));
        }
    }
}
