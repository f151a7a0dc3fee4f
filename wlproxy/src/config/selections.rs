//! What a VM's clients may copy to others, and paste from them: the table [vm.NAME.selections].

use super::error::Place;
use super::{Error, window};
use crate::policy::{Kind, MAX_PATTERNS, Pattern, Selections};
use serde::Deserialize;
use std::collections::BTreeSet;
use toml::Spanned;

/// Fewest bytes that a transfer may be allowed: what fits into a pipe anyway is a page.
const MIN_BYTES: u64 = 4096;

/// Most transfers that may begin in a minute: a thousand a second.
const MAX_RATE: u32 = 60_000;

/// The table as it is in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectionsTable {
    give: Option<Vec<Spanned<String>>>,
    take: Option<Vec<Spanned<String>>>,
    types: Option<Vec<Spanned<String>>>,
    bytes: Option<Spanned<String>>,
    rate: Option<Spanned<i64>>,
}

/// The default with what `table` says. `key` is the table's name.
pub(super) fn selections(
    place: &Place<'_>,
    key: &str,
    table: &SelectionsTable,
) -> Result<Selections, Error> {
    let default = Selections::default();
    let kinds = |name: &str, given: &Option<Vec<Spanned<String>>>, default: BTreeSet<Kind>| {
        let Some(given) = given else { return Ok(default) };
        let kind = |text: &Spanned<String>| {
            Kind::from_name(text.get_ref()).ok_or_else(|| {
                let names = Kind::ALL.map(|(_, name)| format!("{name:?}")).join(", ");
                let why = format!("there is no {:?}; write some of {names}", text.get_ref());
                place.error(text.span(), format!("{key}.{name}: {why}"))
            })
        };
        given.iter().map(kind).collect::<Result<BTreeSet<_>, _>>()
    };
    let types = table.types.as_ref().map(|all| types(place, key, all)).transpose()?;
    let bytes = match &table.bytes {
        None => default.bytes,
        Some(given) => {
            window::bytes(given.get_ref()).filter(|&bytes| bytes >= MIN_BYTES).ok_or_else(|| {
                let why = format!(
                    "{:?} is no size of at least 4 KiB; write e.g. \"64 KiB\" or \"1 GiB\"",
                    given.get_ref()
                );
                place.error(given.span(), format!("{key}.bytes: {why}"))
            })?
        }
    };
    let rate = match &table.rate {
        None => default.rate,
        Some(given) => {
            let rate = u32::try_from(*given.get_ref()).ok();
            rate.filter(|rate| (1..=MAX_RATE).contains(rate)).ok_or_else(|| {
                let why = format!("{} is not between 1 and {MAX_RATE}", given.get_ref());
                let cure = "for no transfers at all, write give = [] and take = []";
                place.error(given.span(), format!("{key}.rate: {why}; {cure}"))
            })?
        }
    };
    Ok(Selections {
        give: kinds("give", &table.give, default.give)?,
        take: kinds("take", &table.take, default.take)?,
        types,
        bytes,
        rate,
    })
}

fn types(place: &Place<'_>, key: &str, all: &[Spanned<String>]) -> Result<Vec<Pattern>, Error> {
    if let Some(first) = all.get(MAX_PATTERNS) {
        let why = format!("more than {MAX_PATTERNS}; write one for several, like \"image/*\"");
        return Err(place.error(first.span(), format!("{key}.types: {why}")));
    }
    let pattern = |text: &Spanned<String>| {
        Pattern::try_from(text.get_ref().clone()).map_err(|error| {
            place.error(text.span(), format!("{key}.types: {:?}: {error}", text.get_ref()))
        })
    };
    all.iter().map(pattern).collect()
}
