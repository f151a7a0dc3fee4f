//! MIME types of what is copied or dragged.

use super::ids::ById;
use super::{FULL, Quota, within};
use wlproxy_protocol::wayland::objects::Violation;
use wlproxy_protocol::wayland::{Arg, Call};

/// Bytes that a type may have on average, with its NUL: twice what one of a vendor's has, and half of LibreOffice's longest.
///
/// A compositor tells whoever gets the focus all types of the clipboard and of the primary selection in one go, and a socket
/// takes no more than some 100 KiB of that (Linux, `net.core.wmem_default`): who can't be told the rest is disconnected.
const BYTES: u32 = 128;

#[derive(Debug, Default)]
struct Told {
    types: u32,
    bytes: u32,
}

/// The types of a client's sources.
#[derive(Debug, Default)]
pub(super) struct Types {
    /// By source: those that have any.
    of_source: ById<u32, Told>,
    /// Of all of them.
    sum: Told,
}

impl Types {
    /// A source offers one more.
    pub(super) fn offer(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let bytes = call.args().find_map(|arg| match arg {
            // No request has more than 4,096.
            Arg::Str(text) => Some(text.map_or(0, |text| text.count_bytes() as u32 + 1)),
            _ => None,
        });
        let bytes = bytes.unwrap_or(0);
        let of_source = self.of_source.entry(call.object()).or_default();
        for (told, most, types_of, bytes_of) in [
            (of_source, quota.types, "types of one selection", "bytes of types of one selection"),
            (
                &mut self.sum,
                quota.types.saturating_mul(FULL),
                "types of all its sources",
                "bytes of types of all its sources",
            ),
        ] {
            told.types = told.types.saturating_add(1);
            told.bytes = told.bytes.saturating_add(bytes);
            within(call, told.types, most, types_of, "types")?;
            within(call, told.bytes, most.saturating_mul(BYTES), bytes_of, "types")?;
        }
        Ok(())
    }

    /// A source is destroyed.
    pub(super) fn destroy(&mut self, source: u32) {
        if let Some(told) = self.of_source.remove(&source) {
            self.sum.types = self.sum.types.saturating_sub(told.types);
            self.sum.bytes = self.sum.bytes.saturating_sub(told.bytes);
        }
    }
}
