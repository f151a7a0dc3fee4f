//! What a VM's clients may have at once: the table [vm.NAME.quota].

use super::Error;
use super::error::Place;
use crate::quota::Quota;
use serde::Deserialize;
use toml::Spanned;
use wlproxy_protocol::wayland::objects::MAX_OBJECTS;

/// The table as it is in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuotaTable {
    objects: Option<Spanned<i64>>,
    binds: Option<Spanned<i64>>,
    surfaces: Option<Spanned<i64>>,
    nesting: Option<Spanned<i64>>,
    windows: Option<Spanned<i64>>,
    buffers: Option<Spanned<i64>>,
    commits: Option<Spanned<i64>>,
    buffer_side: Option<Spanned<i64>>,
    rectangles: Option<Spanned<i64>>,
    damage: Option<Spanned<i64>>,
    types: Option<Spanned<i64>>,
    // The VM's: see `vm_quota`.
    pub(super) connections: Option<Spanned<i64>>,
    pub(super) connections_per_second: Option<Spanned<i64>>,
    pub(super) vfds: Option<Spanned<i64>>,
    pub(super) memory_mib: Option<Spanned<i64>>,
    pub(super) requests_kib: Option<Spanned<i64>>,
    pub(super) events_kib: Option<Spanned<i64>>,
    pub(super) messages_per_second: Option<Spanned<i64>>,
    pub(super) client_messages_per_second: Option<Spanned<i64>>,
}

impl QuotaTable {
    /// Where there is a key that the compositor VM has not.
    pub(super) fn foreign_to_compositor(&self) -> Option<&Spanned<i64>> {
        let Self {
            objects,
            binds,
            surfaces,
            nesting,
            windows,
            buffers,
            commits,
            buffer_side,
            rectangles,
            damage,
            types,
            connections,
            connections_per_second,
            vfds,
            memory_mib,
            requests_kib,
            events_kib: _,
            messages_per_second,
            client_messages_per_second,
        } = self;
        let all = [
            objects,
            binds,
            surfaces,
            nesting,
            windows,
            buffers,
            commits,
            buffer_side,
            rectangles,
            damage,
            types,
            connections,
            connections_per_second,
            vfds,
            memory_mib,
            requests_kib,
            messages_per_second,
            client_messages_per_second,
        ];
        all.into_iter().flatten().next()
    }
}

/// A number of the table, from 1 to `most`, if it is there.
pub(super) fn number(
    place: &Place<'_>,
    key: &str,
    name: &str,
    given: &Option<Spanned<i64>>,
    most: u32,
) -> Result<Option<u32>, Error> {
    let Some(given) = given else { return Ok(None) };
    let number = u32::try_from(*given.get_ref()).ok();
    let number = number.filter(|number| (1..=most).contains(number)).ok_or_else(|| {
        let why = format!("{key}.{name}: {} is not between 1 and {most}", given.get_ref());
        place.error(given.span(), why)
    })?;
    Ok(Some(number))
}

/// The default with what `table` says. `key` is the table's name.
pub(super) fn quota(place: &Place<'_>, key: &str, table: &QuotaTable) -> Result<Quota, Error> {
    let number = |name: &str, given: &Option<Spanned<i64>>, default: u32, most: u32| {
        Ok::<_, Error>(self::number(place, key, name, given, most)?.unwrap_or(default))
    };
    let default = Quota::default();
    let objects = MAX_OBJECTS as u32;
    // Nothing that isn't an object is counted beyond what a wl_buffer's sides can be.
    let sides = i32::MAX as u32;
    Ok(Quota {
        objects: number("objects", &table.objects, default.objects, objects)?,
        binds: number("binds", &table.binds, default.binds, objects)?,
        surfaces: number("surfaces", &table.surfaces, default.surfaces, objects)?,
        nesting: number("nesting", &table.nesting, default.nesting, objects)?,
        windows: number("windows", &table.windows, default.windows, objects)?,
        buffers: number("buffers", &table.buffers, default.buffers, objects)?,
        commits: number("commits", &table.commits, default.commits, sides)?,
        buffer_side: number("buffer_side", &table.buffer_side, default.buffer_side, sides)?,
        rectangles: number("rectangles", &table.rectangles, default.rectangles, sides)?,
        damage: number("damage", &table.damage, default.damage, sides)?,
        types: number("types", &table.types, default.types, sides)?,
    })
}
