//! What the clients of a VM may give to others, and take from them: by clipboard, primary selection, drag and drop.
//!
//! The host knows one side of each transfer only: which VM's client stands at the other, the compositor decides. But each
//! stream has the policy of its own VM, so what is given passes one, and what is taken the other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Most patterns of types. There are a dozen kinds of things that people paste; and a policy has to fit into a packet.
pub const MAX_PATTERNS: usize = 32;

/// Longest pattern, in bytes: that of a MIME type of which each half is as long as RFC 6838 recommends (64 characters).
pub const MAX_PATTERN: usize = 129;

/// What X11's clients call text, and Xwayland and toolkits on Wayland offer beside text/plain (ICCCM, section 2.6.2, and
/// freedesktop.org's UTF8_STRING).
const LEGACY_TEXT: [&str; 4] = ["UTF8_STRING", "STRING", "TEXT", "COMPOUND_TEXT"];

/// What they mean.
const TEXT: &str = "text/plain";

/// A way for data from one client to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What is copied.
    Clipboard,
    /// What is marked, and pasted with the middle button.
    Primary,
    /// What is dragged.
    Drag,
}

impl Kind {
    /// All of them, and their names in the configuration.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Clipboard, "clipboard"), (Self::Primary, "primary"), (Self::Drag, "drag")];

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == name).map(|&(kind, _)| kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = Self::ALL.iter().find(|(kind, _)| kind == self);
        f.write_str(own.map_or("", |&(_, name)| name))
    }
}

/// The way that data go, seen from the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To others.
    Give,
    /// From others.
    Take,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Give => "give",
            Self::Take => "take",
        })
    }
}

/// Types of data: one, or with `*` at the end all that begin so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It has too many bytes, or none.
    #[error("it has {0} bytes, and must have 1 to {MAX_PATTERN}")]
    Length(usize),
    /// It has a character in it that no type has.
    #[error("{0:?} is in no type; a type is like \"text/plain\", and may end in *")]
    Character(char),
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        if !(1..=MAX_PATTERN).contains(&text.len()) {
            return Err(PatternError::Length(text.len()));
        }
        let beginning = text.strip_suffix('*').unwrap_or(&text);
        // No character that JSON would have to escape, so a packet's length can be told.
        let is_of_type = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '"' | '\\');
        match beginning.chars().find(|&c| !is_of_type(c)) {
            Some(c) => Err(PatternError::Character(c)),
            None => Ok(Self(text)),
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl Pattern {
    /// Whether this type is one of those that are meant. Upper and lower case are the same, as MIME has it (RFC 2045,
    /// section 5.1); parameters, as in `text/plain;charset=utf-8`, matter only where the pattern has some.
    fn is_of(&self, kind: &[u8]) -> bool {
        let without = kind.split(|&b| b == b';').next().unwrap_or(kind).trim_ascii_end();
        let is = |kind: &[u8]| match self.0.as_bytes().strip_suffix(b"*") {
            Some(beginning) => kind
                .get(..beginning.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(beginning)),
            None => kind.eq_ignore_ascii_case(self.0.as_bytes()),
        };
        let is_text = LEGACY_TEXT.iter().any(|name| name.as_bytes() == kind);
        is(kind) || is(without) || is_text && is(TEXT.as_bytes())
    }
}

/// What a VM's clients may give and take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selections {
    /// By which ways others get something from them.
    pub give: BTreeSet<Kind>,
    /// By which ways they get something from others.
    pub take: BTreeSet<Kind>,
    /// Of which types that may be; `None`: of all.
    pub types: Option<Vec<Pattern>>,
    /// Bytes of one transfer.
    pub bytes: u64,
    /// Transfers that begin in a minute, of all of the VM's clients together: as many as they may take, and as many of those
    /// that they give as are told.
    pub rate: u32,
}

impl Default for Selections {
    fn default() -> Self {
        let all: BTreeSet<Kind> = Kind::ALL.iter().map(|&(kind, _)| kind).collect();
        Self {
            give: all.clone(),
            take: all,
            types: None,
            // A picture of 100 megapixels that nothing has compressed has less than half; files are dragged by their names.
            bytes: 1 << 30,
            // Ten a second. A manager of clipboards that takes all of twenty types does so every two seconds at most; and
            // each transfer is a line in the log.
            rate: 600,
        }
    }
}

impl Selections {
    /// Whether data may go this way.
    pub fn allows(&self, direction: Direction, kind: Kind) -> bool {
        match direction {
            Direction::Give => self.give.contains(&kind),
            Direction::Take => self.take.contains(&kind),
        }
    }

    /// Whether data may be of this type.
    pub fn allows_type(&self, kind: &[u8]) -> bool {
        self.types.as_ref().is_none_or(|all| all.iter().any(|pattern| pattern.is_of(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(patterns: &[&str]) -> Selections {
        let patterns = patterns.iter().map(|&text| text.to_owned().try_into().unwrap());
        Selections { types: Some(patterns.collect()), ..Selections::default() }
    }

    #[test]
    fn types_are_those_that_are_meant() {
        let text = of(&["text/*"]);
        for kind in ["text/plain", "Text/HTML", "text/plain;charset=utf-8", "UTF8_STRING", "TEXT"] {
            assert!(text.allows_type(kind.as_bytes()), "{kind}");
        }
        for kind in ["image/png", "text", "xtext/plain", "utf8_string", "", "TARGETS"] {
            assert!(!text.allows_type(kind.as_bytes()), "{kind}");
        }
        let plain = of(&["image/png", "text/plain"]);
        for kind in
            ["text/plain", "text/plain; charset=x", "text/plain ;a=b", "STRING", "image/PNG"]
        {
            assert!(plain.allows_type(kind.as_bytes()), "{kind}");
        }
        for kind in ["text/html", "text/plainer", "text/plain/x", "image/png2"] {
            assert!(!plain.allows_type(kind.as_bytes()), "{kind}");
        }
        let utf8 = of(&["text/plain;charset=utf-8"]);
        assert!(utf8.allows_type(b"text/plain;charset=UTF-8"));
        assert!(!utf8.allows_type(b"text/plain") && !utf8.allows_type(b"text/plain;charset=x"));
        assert!(of(&["*"]).allows_type(b"\xff\xfe") && !of(&[]).allows_type(b"text/plain"));
        assert!(Selections::default().allows_type(b"anything"));
    }

    #[test]
    fn a_pattern_is_checked() {
        let new = |text: &str| Pattern::try_from(text.to_owned());
        assert_eq!(new(""), Err(PatternError::Length(0)));
        assert_eq!(new(&"x".repeat(130)), Err(PatternError::Length(130)));
        for (text, c) in [
            ("te*t", '*'),
            ("**", '*'),
            ("a b", ' '),
            ("a\"", '"'),
            ("a\n", '\n'),
            ("\u{e9}", '\u{e9}'),
        ] {
            assert_eq!(new(text), Err(PatternError::Character(c)));
        }
        let text = r#"{"give":[],"take":["drag"],"types":["te*t"],"bytes":1,"rate":1}"#;
        let error = serde_json::from_str::<Selections>(text).unwrap_err().to_string();
        assert!(error.contains("is in no type"), "{error}");
    }

    #[test]
    fn kinds_have_names() {
        for (kind, name) in Kind::ALL {
            assert_eq!((Kind::from_name(name), kind.to_string().as_str()), (Some(kind), name));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{name:?}"));
        }
        assert_eq!(Kind::from_name("selection"), None);
    }

    proptest! {
        /// A type is matched by itself and by each of its beginnings, and by no other that has nothing of it.
        #[test]
        fn a_type_is_of_its_beginnings(kind in "[a-z]{1,9}/[a-z.+-]{1,20}", cut in 0..30usize) {
            let cut = cut.min(kind.len());
            let beginning = format!("{}*", &kind[..cut]);
            prop_assert!(of(&[&beginning]).allows_type(kind.as_bytes()));
            prop_assert!(of(&[&kind]).allows_type(kind.to_uppercase().as_bytes()));
            let longer = format!("{kind}x");
            prop_assert!(!of(&[&kind]).allows_type(longer.as_bytes()));
            let other = format!("#{beginning}");
            prop_assert!(!of(&[&other]).allows_type(kind.as_bytes()));
        }

        /// Whatever a client calls it, to look at it is harmless.
        #[test]
        fn any_bytes_can_be_looked_at(kind in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&["text/*", "a/b;c"]).allows_type(&kind);
        }
    }
}
