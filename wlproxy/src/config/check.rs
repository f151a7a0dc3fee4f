//! Whether the keys of a file are known, and behind each stands what may.

use super::Error;
use super::error::Place;
use super::keys::{KEYS, Key, Kind, find, is_any};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

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
            (Kind::Text, DeValue::String(_)) | (Kind::Number, DeValue::Integer(_)) => {}
            (Kind::Texts, DeValue::Array(items)) => {
                let is_text =
                    |item: &&Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::String(_));
                if let Some(item) = items.iter().find(|item| !is_text(item)) {
                    return Err(place.error(item.span(), wrong(key, &path, item)));
                }
            }
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
        Kind::Texts => "a list of texts in quotes",
        Kind::Number => "a whole number",
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
            Some((_, last)) if is_any(last) => None,
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
