//! What a VM's clients may have together, and how fast they may be: the rest of the table [vm.NAME.quota].

use super::Error;
use super::error::Place;
use super::quota::{QuotaTable, number};
use crate::quota::vm::{MAX_CONNECTIONS, MAX_VFDS, MAX_WAITING_KIB, VmQuota};

/// Most MiB that a VM's memory may have: as large as a window may be.
const MAX_MEMORY_MIB: u32 = 256 << 10;

/// Most of anything in a second: more than that, no machine passes on.
const MAX_PER_SECOND: u32 = 1_000_000_000;

/// The default with what `table` says. `key` is the table's name.
pub(super) fn vm_quota(
    place: &Place<'_>,
    key: &str,
    table: &QuotaTable,
    default: VmQuota,
) -> Result<VmQuota, Error> {
    let number = |name: &str, given, default: u32, most: u32| {
        Ok::<_, Error>(number(place, key, name, given, most)?.unwrap_or(default))
    };
    Ok(VmQuota {
        connections: number(
            "connections",
            &table.connections,
            default.connections,
            MAX_CONNECTIONS,
        )?,
        connections_per_second: number(
            "connections_per_second",
            &table.connections_per_second,
            default.connections_per_second,
            MAX_PER_SECOND,
        )?,
        vfds: number("vfds", &table.vfds, default.vfds, MAX_VFDS)?,
        memory_mib: number("memory_mib", &table.memory_mib, default.memory_mib, MAX_MEMORY_MIB)?,
        requests_kib: number(
            "requests_kib",
            &table.requests_kib,
            default.requests_kib,
            MAX_WAITING_KIB,
        )?,
        events_kib: number("events_kib", &table.events_kib, default.events_kib, MAX_WAITING_KIB)?,
        messages_per_second: number(
            "messages_per_second",
            &table.messages_per_second,
            default.messages_per_second,
            MAX_PER_SECOND,
        )?,
        client_messages_per_second: number(
            "client_messages_per_second",
            &table.client_messages_per_second,
            default.client_messages_per_second,
            MAX_PER_SECOND,
        )?,
    })
}

/// The same of the compositor VM, which has few of the keys.
pub(super) fn of_compositor(
    place: &Place<'_>,
    key: &str,
    table: &QuotaTable,
) -> Result<VmQuota, Error> {
    if let Some(other) = table.foreign_to_compositor() {
        let why = format!(
            "{key}: that of the compositor VM has only the key events_kib; delete this one"
        );
        return Err(place.error(other.span(), why));
    }
    vm_quota(place, key, table, VmQuota::of_compositor())
}

/// The default of a VM whose window has so many bytes.
pub(super) fn default(window: u64) -> VmQuota {
    // A window has whole MiB, and no more than fit.
    VmQuota { memory_mib: u32::try_from(window >> 20).unwrap_or(u32::MAX), ..VmQuota::default() }
}
