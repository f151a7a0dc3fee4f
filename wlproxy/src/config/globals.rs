//! Which globals a VM's clients are offered: the table [vm.NAME.globals].

use super::Error;
use super::error::Place;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;
use wlproxy_protocol::wayland::Offer;
use wlproxy_protocol::wayland::offer::OfferError;
use wlproxy_protocol::wayland::tables::{self, Class};

/// How many interfaces an error names that may have been meant.
const NEAREST: usize = 3;

/// The table as it is in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalsTable {
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    #[serde(default)]
    max_version: BTreeMap<Spanned<String>, Spanned<i64>>,
}

/// What is offered: what is safe, with what `table` allows, without what it denies. `key` is the table's name.
pub(super) fn offer(place: &Place<'_>, key: &str, table: &GlobalsTable) -> Result<Offer, Error> {
    let mut offer = Offer::safe();
    for name in &table.allow {
        let wrong = |why| place.error(name.span(), format!("{key}.allow: {why}"));
        offer.add(name.get_ref(), None).map_err(|error| wrong(tell(name.get_ref(), error)))?;
    }
    for name in &table.deny {
        let wrong = |why| place.error(name.span(), format!("{key}.deny: {why}"));
        if tables::global(name.get_ref()).is_none() {
            return Err(wrong(unknown(name.get_ref())));
        }
        if table.allow.iter().any(|allowed| allowed.get_ref() == name.get_ref()) {
            return Err(wrong(format!("{} is also in allow; delete one of them", name.get_ref())));
        }
        offer.remove(name.get_ref());
    }
    for (name, version) in &table.max_version {
        let interface = name.get_ref();
        let key = format!("{key}.max_version");
        let wrong = |why| place.error(name.span(), format!("{key}: {why}"));
        if tables::global(interface).is_none() {
            return Err(wrong(unknown(interface)));
        }
        if offer.version(interface).is_none() {
            return Err(wrong(format!(
                "{interface} is not offered in any version; add it to allow, or delete this"
            )));
        }
        // What is too large for a version is too large for any interface's.
        let number = u32::try_from(*version.get_ref()).unwrap_or(0);
        offer.add(interface, Some(number)).map_err(|error| {
            let why = tell(interface, error);
            place.error(version.span(), format!("{key}.{interface}: {why}"))
        })?;
    }
    Ok(offer)
}

fn tell(interface: &str, error: OfferError) -> String {
    match error {
        OfferError::Unknown => unknown(interface),
        OfferError::CannotCross(reason) => {
            format!("{interface} doesn't work between VMs: {reason}; delete it")
        }
        OfferError::Version(newest) => format!(
            "there is no such version; write 1 to {newest}, or add {interface} to deny instead"
        ),
    }
}

fn unknown(interface: &str) -> String {
    let near = nearest(interface).join(", ");
    format!("there is no interface {interface:?}; near are {near}")
}

/// The interfaces that are most like this: those whose name it is part of, then those with the fewest other letters.
fn nearest(interface: &str) -> Vec<&'static str> {
    let rank = |name: &&'static str| {
        let is_part = !interface.is_empty() && name.contains(interface);
        (!is_part, distance(interface, name), *name)
    };
    let offered = tables::globals().filter(|global| global.class != Class::CannotCross);
    let mut names: Vec<_> = offered.map(|global| global.interface.name).collect();
    names.sort_by_key(rank);
    names.truncate(NEAREST);
    names
}

/// How many letters have to be put in, taken out or replaced to make one text of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "b", 1),
        ] {
            assert_eq!(
                (distance(from, to), distance(to, from)),
                (expected, expected),
                "{from} {to}"
            );
        }
    }

    #[test]
    fn the_nearest_is_what_was_meant() {
        for (typed, meant) in [
            ("layer_shell", "zwlr_layer_shell_v1"),
            ("wl_ouptut", "wl_output"),
            ("zwlr_layer_shell_v2", "zwlr_layer_shell_v1"),
            ("virtual_keyboard", "zwp_virtual_keyboard_manager_v1"),
        ] {
            assert_eq!(nearest(typed)[0], meant);
        }
        assert_eq!(nearest("").len(), NEAREST);
    }
}
