//! Messages as text, as libwayland's `WAYLAND_DEBUG` shows them.
//!
//! Everything in them was chosen by a peer. So what is shown is short and printable: a terminal takes nothing of it for a
//! command.

use super::objects::{Call, Objects};
use super::wire::Arg;
use std::fmt::{self, Write as _};
use wayland_backend::protocol::{ANONYMOUS_INTERFACE, Interface, same_interface};

/// Longest string that is shown whole, in bytes: longer than most titles and MIME types.
const MAX_STRING: usize = 200;

/// A message, to be shown: `wl_surface@5.attach(wl_buffer@9, 0, 0)`.
#[derive(Debug)]
pub struct Text<'a> {
    call: &'a Call<'a>,
    objects: &'a Objects,
}

impl<'a> Text<'a> {
    /// The text of `call`, which was just fed to `objects`.
    pub fn new(call: &'a Call<'a>, objects: &'a Objects) -> Self {
        Self { call, objects }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, objects } = self;
        write!(f, "{}@{}.{}(", call.interface.name, call.object(), call.desc.name)?;
        let mut interfaces = call.desc.arg_interfaces.iter();
        for (at, arg) in call.args().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match arg {
                Arg::Int(value) => write!(f, "{value}")?,
                Arg::Uint(value) => write!(f, "{value}")?,
                Arg::Fixed(value) => write!(f, "{}", f64::from(value) / 256.0)?,
                Arg::Str(None) => f.write_str("nil")?,
                Arg::Str(Some(text)) => string(f, text.to_bytes())?,
                Arg::Object(id) => {
                    let declared = interfaces.next().copied();
                    let declared = declared.filter(|i| !same_interface(i, &ANONYMOUS_INTERFACE));
                    match id {
                        0 => f.write_str("nil")?,
                        id => object(f, declared.or_else(|| objects.interface(id)), id)?,
                    }
                }
                Arg::NewId(id) => {
                    f.write_str("new id ")?;
                    object(f, call.desc.child_interface.or_else(|| objects.interface(id)), id)?;
                }
                Arg::Array(bytes) => write!(f, "array[{}]", bytes.len())?,
                Arg::Fd => f.write_str("fd")?,
            }
        }
        f.write_char(')')
    }
}

fn object(f: &mut fmt::Formatter<'_>, interface: Option<&Interface>, id: u32) -> fmt::Result {
    write!(f, "{}@{id}", interface.map_or("[unknown]", |interface| interface.name))
}

fn string(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_char('"')?;
    let shown = &bytes[..bytes.len().min(MAX_STRING)];
    for chunk in shown.utf8_chunks() {
        // It escapes control characters, and those that change the direction of text or show as nothing.
        for c in chunk.valid().chars() {
            match c {
                '\'' => f.write_char(c)?,
                c => write!(f, "{}", c.escape_debug())?,
            }
        }
        chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
    }
    f.write_char('"')?;
    match bytes.len() - shown.len() {
        0 => Ok(()),
        more => write!(f, " and {more} bytes more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_EVENT, MAX_REQUEST};
    use crate::wayland::objects::Event;
    use crate::wayland::wire;
    use std::ffi::CStr;

    fn encoded(object: u32, opcode: u16, args: &[Arg<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::encode(object, opcode, args, &mut bytes);
        bytes
    }

    fn request(objects: &mut Objects, object: u32, opcode: u16, args: &[Arg<'_>]) -> String {
        let bytes = encoded(object, opcode, args);
        let message = wire::split(&mut &bytes[..], MAX_REQUEST).unwrap().unwrap();
        let call = objects.request(message).unwrap();
        Text::new(&call, objects).to_string()
    }

    fn event(objects: &mut Objects, object: u32, opcode: u16, args: &[Arg<'_>]) -> String {
        let bytes = encoded(object, opcode, args);
        let message = wire::split(&mut &bytes[..], MAX_EVENT).unwrap().unwrap();
        let (Event::Pass(call) | Event::Hide(call) | Event::Replace(call, _)) =
            objects.event(message).unwrap();
        Text::new(&call, objects).to_string()
    }

    /// A connection that has bound this as object 3.
    fn bound(interface: &CStr, version: u32) -> Objects {
        let mut objects = Objects::new();
        request(&mut objects, 1, 1, &[Arg::NewId(2)]);
        event(&mut objects, 2, 0, &[Arg::Uint(7), Arg::Str(Some(interface)), Arg::Uint(version)]);
        let args = [Arg::Uint(7), Arg::Str(Some(interface)), Arg::Uint(version), Arg::NewId(3)];
        request(&mut objects, 2, 0, &args);
        objects
    }

    #[test]
    fn every_kind_of_argument_is_shown() {
        let mut objects = Objects::new();
        let sync = request(&mut objects, 1, 0, &[Arg::NewId(2)]);
        assert_eq!(sync, "wl_display@1.sync(new id wl_callback@2)");
        let error = [Arg::Object(2), Arg::Uint(1), Arg::Str(Some(c"no"))];
        let error = event(&mut objects, 1, 0, &error);
        assert_eq!(error, "wl_display@1.error(wl_callback@2, 1, \"no\")");

        let mut objects = bound(c"wl_compositor", 4);
        let bind = [Arg::Uint(7), Arg::Str(Some(c"wl_compositor")), Arg::Uint(4), Arg::NewId(4)];
        let bind = request(&mut objects, 2, 0, &bind);
        assert_eq!(bind, "wl_registry@2.bind(7, \"wl_compositor\", 4, new id wl_compositor@4)");
        request(&mut objects, 3, 0, &[Arg::NewId(5)]);
        let attach = request(&mut objects, 5, 1, &[Arg::Object(0), Arg::Int(-1), Arg::Int(0)]);
        assert_eq!(attach, "wl_surface@5.attach(nil, -1, 0)");

        let mut objects = bound(c"wl_shm", 1);
        let pool = request(&mut objects, 3, 0, &[Arg::NewId(4), Arg::Fd, Arg::Int(4096)]);
        assert_eq!(pool, "wl_shm@3.create_pool(new id wl_shm_pool@4, fd, 4096)");

        let mut objects = bound(c"wl_seat", 5);
        request(&mut objects, 3, 1, &[Arg::NewId(4)]);
        request(&mut objects, 3, 0, &[Arg::NewId(5)]);
        let enter = [Arg::Uint(1), Arg::Object(9), Arg::Array(&[0; 8])];
        let enter = event(&mut objects, 4, 1, &enter);
        assert_eq!(enter, "wl_keyboard@4.enter(1, wl_surface@9, array[8])");
        let motion = event(&mut objects, 5, 2, &[Arg::Uint(1), Arg::Fixed(384), Arg::Fixed(-64)]);
        assert_eq!(motion, "wl_pointer@5.motion(1, 1.5, -0.25)");
    }

    #[test]
    fn a_terminal_takes_nothing_for_a_command() {
        let shown = |bytes: &CStr| {
            let mut objects = Objects::new();
            event(&mut objects, 1, 0, &[Arg::Object(1), Arg::Uint(0), Arg::Str(Some(bytes))])
        };
        let hostile = c"\x1b]0;owned\x07\x1b[2J\r\n\"\\ \x7f\xc2\x9b31m \xe2\x80\xae \xff\xfe";
        let text = shown(hostile);
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
        assert!(text.contains(r#""\u{1b}]0;owned"#) && text.contains(r"\xff\xfe"), "{text}");
        assert!(shown(c"ünï 日本, isn't it").contains("\"ünï 日本, isn't it\""));
    }

    #[test]
    fn long_strings_are_cut() {
        let long = std::ffi::CString::new("é".repeat(1000)).unwrap();
        let mut objects = Objects::new();
        let args = [Arg::Object(1), Arg::Uint(0), Arg::Str(Some(&long))];
        let text = event(&mut objects, 1, 0, &args);
        assert!(text.ends_with("\" and 1800 bytes more)"), "{text}");
    }
}
