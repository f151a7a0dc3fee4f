//! Whose a window is, by what its client calls it.
//!
//! A client names each of its windows by a title and an app id. The relay puts the VM's prefix before both, whatever they
//! are, and gives a window that has neither the bare prefix. No VM's prefix begins with another's, so a name has the prefix
//! of its own VM and of no other: what a client writes stands behind it.

use crate::concern::Naming;
use crate::harmless::is_harmful;
use std::ffi::{CStr, CString};
use wlproxy_protocol::limits::MAX_REQUEST;
use wlproxy_protocol::wayland::wire::HEADER;
use wlproxy_protocol::wayland::{Arg, Call, wire};

/// Most characters of a client's own that a name has behind the prefix. No screen shows more of a title.
pub const MAX_NAME: usize = 256;

/// Longest prefix, in bytes: room for the name of any VM, and more than goes around it by default.
pub const MAX_PREFIX: usize = 80;

/// Bytes of a request that names a window, beside the text: an object before it, its length, its NUL and padding.
const AROUND: usize = HEADER + 4 + 4 + 4;

/// Bytes of the longest character (UTF-8).
const MAX_CHAR: usize = 4;

const _: () = assert!(AROUND + MAX_PREFIX + MAX_CHAR * MAX_NAME <= MAX_REQUEST);

/// What stands before the names of a VM's windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    title: String,
    app_id: String,
}

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It is too long.
    #[error("it has {0} bytes, and may have {MAX_PREFIX}")]
    Long(usize),
    /// It has a character in it that would be taken out of a name.
    #[error("it has the character U+{:04X}, which does something else than to be seen", u32::from(*.0))]
    Harmful(char),
}

impl Identity {
    /// These prefixes of titles and of app ids. An empty one is none.
    pub fn new(title: String, app_id: String) -> Result<Self, PrefixError> {
        check(&title)?;
        check(&app_id)?;
        Ok(Self { title, app_id })
    }

    /// What a VM has if the configuration says nothing: `[work] ` and `work.`.
    pub fn of(vm: &str) -> Self {
        Self { title: format!("[{vm}] "), app_id: format!("{vm}.") }
    }

    /// The prefix of titles.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The prefix of app ids.
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// What the compositor gets in the place of a request that names a window or makes one: whole requests.
    pub(crate) fn rewrite(&self, call: &Call<'_>, naming: Naming) -> Option<Vec<u8>> {
        let prefix = match naming {
            Naming::Window(set_app_id) => return self.introduce(call, set_app_id),
            Naming::Title => &self.title,
            Naming::AppId => &self.app_id,
        };
        // Each of these requests has one text, and it isn't null.
        let text = call.args().find_map(|arg| match arg {
            Arg::Str(text) => Some(name(prefix, text.map_or(&[], CStr::to_bytes))),
            _ => None,
        })?;
        let replaced = |arg| if let Arg::Str(_) = arg { Arg::Str(Some(&text)) } else { arg };
        let args: Vec<Arg<'_>> = call.args().map(replaced).collect();
        let mut bytes = Vec::new();
        wire::encode(call.object(), call.message.opcode, &args, &mut bytes);
        Some(bytes)
    }

    /// Names a window as soon as it is there: a client need not do it.
    fn introduce(&self, call: &Call<'_>, set_app_id: &str) -> Option<Vec<u8>> {
        let requests = call.desc.child_interface?.requests;
        let window = call.args().find_map(|arg| match arg {
            Arg::NewId(id) => Some(id),
            _ => None,
        })?;
        let mut bytes = call.message.bytes.to_vec();
        for (request, prefix) in [("set_title", &self.title), (set_app_id, &self.app_id)] {
            if prefix.is_empty() {
                continue;
            }
            let opcode = requests.iter().position(|desc| desc.name == request)?;
            let text = name(prefix, b"");
            wire::encode(window, opcode as u16, &[Arg::Str(Some(&text))], &mut bytes);
        }
        Some(bytes)
    }
}

fn check(prefix: &str) -> Result<(), PrefixError> {
    if prefix.len() > MAX_PREFIX {
        return Err(PrefixError::Long(prefix.len()));
    }
    match prefix.chars().find(|&c| is_harmful(c)) {
        Some(c) => Err(PrefixError::Harmful(c)),
        None => Ok(()),
    }
}

/// A window's name: the prefix, and of the client's text what can be seen, as far as it isn't too long.
fn name(prefix: &str, text: &[u8]) -> CString {
    let text = String::from_utf8_lossy(text);
    let seen = text.chars().filter(|&c| !is_harmful(c)).take(MAX_NAME);
    let name: String = prefix.chars().chain(seen).collect();
    // A NUL is harmful.
    CString::new(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(prefix: &str, text: &str) -> String {
        name(prefix, text.as_bytes()).into_string().unwrap()
    }

    #[test]
    fn what_a_client_writes_stands_behind_the_prefix() {
        for (text, expected) in [
            ("Bank", "[work] Bank"),
            ("[gui] Bank", "[work] [gui] Bank"),
            ("[work] Bank", "[work] [work] Bank"),
            ("", "[work] "),
            ("a\u{202e}b\u{2066}c\u{200f}", "[work] abc"),
            ("\r\n\t\u{1b}[31m\u{9b}red\u{7f}\u{2028}", "[work] [31mred"),
            ("gr\u{fc}n \u{5d0}\u{5d1} \u{1f600}", "[work] gr\u{fc}n \u{5d0}\u{5d1} \u{1f600}"),
        ] {
            assert_eq!(named("[work] ", text), expected);
        }
        assert_eq!(name("w.", b"\xff\xfe").to_str().unwrap(), "w.\u{fffd}\u{fffd}");
        assert_eq!(named("", "x").len(), 1);
        let long = "\u{1f600}".repeat(1100);
        assert_eq!(named("[work] ", &long).chars().count(), 7 + MAX_NAME);
    }

    #[test]
    fn prefixes_are_checked() {
        let new = |title: &str| Identity::new(title.to_owned(), String::new());
        assert_eq!(new("[work] ").unwrap().title(), "[work] ");
        assert_eq!(new(&"x".repeat(81)), Err(PrefixError::Long(81)));
        for harmful in ['\0', '\n', '\u{1b}', '\u{202e}', '\u{2029}'] {
            let error = new(&format!("[{harmful}] ")).unwrap_err();
            assert_eq!(error, PrefixError::Harmful(harmful));
        }
        assert!(new("\u{202e}").unwrap_err().to_string().contains("U+202E"));
        // The longest name of a VM.
        let of = Identity::of(&"w".repeat(wlproxy_protocol::limits::MAX_VM_NAME));
        assert_eq!(Identity::new(of.title.clone(), of.app_id.clone()), Ok(of));
    }

    proptest! {
        /// Whatever a client writes, its name begins with the prefix, has nothing harmful in it, and is short enough.
        #[test]
        fn every_name_is_the_vms(prefix in "[ -~]{0,80}", text in prop::collection::vec(any::<u8>(), 0..4096)) {
            let name = name(&prefix, &text).into_string().unwrap();
            let rest = name.strip_prefix(&prefix).unwrap();
            prop_assert!(!name.chars().any(is_harmful));
            prop_assert!(rest.chars().count() <= MAX_NAME);
            prop_assert!(AROUND + name.len() <= MAX_REQUEST);
        }

        /// Text that does nothing but to be seen stays as it is.
        #[test]
        fn what_is_seen_stays(text in "\\PC{0,256}") {
            prop_assume!(!text.chars().any(is_harmful));
            prop_assert_eq!(named("[w] ", &text), format!("[w] {}", text));
        }

        /// Prefixes of which none begins with another keep VMs apart, whatever their clients write.
        #[test]
        fn no_client_has_the_prefix_of_another_vm(text in any::<String>()) {
            let all = ["[work] ", "[work2] ", "[w.x] ", "[w] "];
            for own in all {
                let name = named(own, &text);
                for other in all.iter().filter(|&&other| other != own) {
                    prop_assert!(!name.starts_with(other));
                }
            }
        }
    }
}
