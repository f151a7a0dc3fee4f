//! The keys of the file, and what may stand behind each.

use super::Error;
use super::error::Place;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What stands behind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A table.
    Table,
}

/// One key of the file.
#[derive(Debug)]
pub struct Key {
    /// Its whole name, with `NAME` for the name of a VM.
    pub name: &'static str,
    /// What stands behind it.
    pub kind: Kind,
    /// A line that is right.
    pub example: &'static str,
}

const fn text(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Text, example }
}

const fn table(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Table, example }
}

/// Every key there is. A table stands before what is in it.
pub const KEYS: &[Key] = &[
    text("runtime_dir", "runtime_dir = \"/run/wlproxy\""),
    text("isolation", "isolation = \"process\""),
    text("metrics", "metrics = \"/run/wlproxy/metrics.sock\""),
    table("compositor", "[compositor]"),
    text("compositor.vm", "vm = \"gui\""),
    text("compositor.socket", "socket = \"/run/user/1000/wayland-0\""),
    table("vm", "[vm.work]"),
    table("vm.NAME", "[vm.work]"),
    text("vm.NAME.socket", "socket = \"/run/wlproxy/work.sock\""),
    text("vm.NAME.window", "window = \"8 GiB\""),
    text("vm.NAME.device", "device = \"virtgpu\""),
];

/// The key of this whole name, with a VM's own name in it.
pub(super) fn find(path: &[&str]) -> Option<&'static Key> {
    let same = |(known, &word): (&str, &&str)| known == "NAME" || known == word;
    KEYS.iter().find(|key| {
        key.name.split('.').count() == path.len() && key.name.split('.').zip(path).all(same)
    })
}

/// Checks that all keys of `document` are known, and that behind each stands what should.
pub(super) fn check(place: &Place<'_>, document: &DeTable<'_>) -> Result<(), Error> {
    check_table(place, document, &[])
}

fn check_table(place: &Place<'_>, table: &DeTable<'_>, path: &[&str]) -> Result<(), Error> {
    for (name, value) in table {
        let path = [path, &[name.get_ref().as_ref()]].concat();
        let Some(key) = find(&path) else {
            return Err(place.error(name.span(), unknown(&path, value.get_ref())));
        };
        match (key.kind, value.get_ref()) {
            (Kind::Text, DeValue::String(_)) => {}
            (Kind::Table, DeValue::Table(table)) => check_table(place, table, &path)?,
            _ => return Err(place.error(place_of(key, name, value), wrong(key, &path, value))),
        }
    }
    Ok(())
}

/// The value is what is wrong. But that of `[[vm]]` has no place of its own.
fn place_of<K, V>(key: &Key, name: &Spanned<K>, value: &Spanned<V>) -> std::ops::Range<usize> {
    if key.kind == Kind::Table { name.span() } else { value.span() }
}

fn wrong(key: &Key, path: &[&str], value: &Spanned<DeValue<'_>>) -> String {
    let wanted = match key.kind {
        Kind::Text => "a text in quotes",
        Kind::Table => "a table",
    };
    let found = value.get_ref().type_str();
    format!("{}: is of type {found}, not {wanted}; write e.g. {}", show(path), key.example)
}

fn unknown(path: &[&str], value: &DeValue<'_>) -> String {
    let (name, parent) = path.split_last().expect("every key has a name");
    let known: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| match key.name.rsplit_once('.') {
            Some((_, "NAME")) => None,
            Some((_, last)) => is_in(key, parent).then_some(last),
            None => parent.is_empty().then_some(key.name),
        })
        .collect();
    let known = known.join(", ");
    let mut text = format!("{}: unknown key; known ones here are {known}", show(path));
    if let ["vm", vm] = *parent
        && matches!(value, DeValue::Table(_))
    {
        text += &format!("; if this is one name, quote it: [vm.\"{vm}.{name}\"]");
    } else if find(&[name]).is_some_and(|key| key.kind == Kind::Text) {
        text += &format!("; {name} belongs above the first [table]");
    }
    text
}

fn is_in(key: &Key, parent: &[&str]) -> bool {
    let (above, _) = key.name.rsplit_once('.').unwrap_or_default();
    find(parent).is_some_and(|parent| parent.name == above)
}

/// A name as TOML has it.
fn show(path: &[&str]) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let is_bare = |word: &str| !word.is_empty() && word.bytes().all(bare);
    let words =
        path.iter().map(|&word| if is_bare(word) { word.to_owned() } else { format!("{word:?}") });
    words.collect::<Vec<_>>().join(".")
}
