//! Text that comes from somebody else and is shown to a person.

/// Text for a terminal: control characters are commands there, and those for bidirectional text change the order of what
/// stands around them.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Whether a character does something else than to be seen: it is a control character (Unicode's general category Cc), ends a
/// line or a paragraph (Zl, Zp), or has the property Bidi_Control (UAX #9, section 2).
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_bidi(c)
}

/// ALM, LRM, RLM; LRE, RLE, PDF, LRO, RLO; LRI, RLI, FSI, PDI (PropList.txt of the Unicode Character Database).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_command_a_terminal_is_replaced() {
        assert_eq!(harmless("gr\u{fc}n \u{5d0}"), "gr\u{fc}n \u{5d0}");
        let commands = "\u{1b}\u{9b}\u{7f}\n\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";
        assert!(harmless(commands).chars().all(|c| c == char::REPLACEMENT_CHARACTER));
    }
}
