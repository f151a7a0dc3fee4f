//! The example of a configuration: every key, after a comment that explains it. Its manual page is made of that.

use roff::{Roff, bold, roman};

/// One paragraph of the example: a comment, and the line that it explains.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// The comment's lines, without their `#`.
    pub(crate) comment: Vec<&'a str>,
    /// The line: a table, or a key with its value, which may be commented out. The first paragraph has none.
    pub(crate) line: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn parse(paragraph: &'a str) -> Self {
        let mut comment: Vec<&str> = paragraph.lines().collect();
        let line = comment.pop_if(|line| *line != "#" && !line.starts_with("# "));
        let text = |line: &'a str| line.trim_start_matches('#').trim();
        Self {
            comment: comment.into_iter().map(text).collect(),
            line: line.map(|line| line.trim_start_matches('#')),
        }
    }

    /// The table that begins here.
    pub(crate) fn table(&self) -> Option<&'a str> {
        self.line?.strip_prefix('[')?.strip_suffix(']')
    }

    /// The key that stands here.
    pub(crate) fn key(&self) -> Option<&'a str> {
        self.line?.split_once(" = ").map(|(key, _)| key)
    }
}

/// The paragraphs of the example.
pub(crate) fn entries(example: &str) -> impl Iterator<Item = Entry<'_>> {
    example.split("\n\n").map(Entry::parse)
}

/// The page wlproxy.toml(5).
pub(crate) fn page(example: &str) -> Vec<u8> {
    let mut page = Roff::new();
    let source = format!("wlproxy {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["wlproxy.toml", "5", "", &source, ""]);
    page.control("SH", ["NAME"]);
    page.text([roman("wlproxy.toml - which virtual machines wlproxy joins, and how")]);
    page.control("SH", ["DESCRIPTION"]);
    for entry in entries(example) {
        match (entry.table(), entry.key()) {
            (Some(table), _) => {
                page.control("SS", [format!("[{table}]").as_str()]);
            }
            (None, Some(_)) => {
                page.control("TP", []).text([bold(entry.line.unwrap_or_default())]);
            }
            (None, None) => {}
        }
        explain(&mut page, &entry.comment);
    }
    page.control("SH", ["EXAMPLE"]).control("nf", []);
    for line in example.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        page.text([roman(line)]);
    }
    page.control("fi", []).control("SH", ["SEE ALSO"]);
    page.text([roman("wlproxy(1), guest-agent(1)")]);
    page.render().into_bytes()
}

fn explain(page: &mut Roff, comment: &[&str]) {
    for line in comment {
        if line.is_empty() {
            page.control("PP", []);
            continue;
        }
        if line.starts_with("Default: ") {
            page.control("br", []);
        }
        page.text([roman(*line)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_the_line_below() {
        let text = "# First.\n#\n# Second.\n\n# A table.\n[a]\n\n# A key.\n#b = 1\n";
        let entries: Vec<_> = entries(text).collect();
        assert_eq!(entries[0], Entry { comment: vec!["First.", "", "Second."], line: None });
        assert_eq!(entries[1], Entry { comment: vec!["A table."], line: Some("[a]") });
        assert_eq!(entries[2], Entry { comment: vec!["A key."], line: Some("b = 1") });
        assert_eq!((entries[1].table(), entries[1].key()), (Some("a"), None));
        assert_eq!((entries[2].table(), entries[2].key()), (None, Some("b")));
    }
}
