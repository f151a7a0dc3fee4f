//! Whose a window is, and how that is shown.

use compositor_shim::smithay::peer;
use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;

/// What local windows are called.
const LOCAL: &str = "local";

/// The colour of local windows, as 0xRRGGBB.
const GREY: u32 = 0x80_8080;

/// The largest and the smallest of red, green and blue in a VM's colour.
const LIGHT: u32 = 208;
const DARK: u32 = 64;

/// Whose a window is: a VM's, or local.
///
/// It is asked for once, when there is a window: a client that has just left has no data any more, and a window that is
/// taken for a local one, if only for a moment, is what borders are there to prevent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    vm: Option<String>,
}

impl Owner {
    /// The owner of a surface, if its client is there.
    pub(crate) fn of(surface: &WlSurface) -> Option<Self> {
        // This is the only question to the shim: who is the client? The host has told, and no client can.
        let client = surface.client()?;
        Some(Self { vm: peer(&client).map(|peer| peer.vm.clone()) })
    }

    /// The VM, unless it is local.
    pub(crate) fn vm(&self) -> Option<&str> {
        self.vm.as_deref()
    }

    /// What stands in the title bar. Not the window's title: its client says that, and may say "local".
    pub(crate) fn name(&self) -> &str {
        self.vm().unwrap_or(LOCAL)
    }

    /// The colour of the border as 0xRRGGBB.
    ///
    /// A VM's follows from its name, so it is the same wherever the VM is shown: the hue in degrees is the FNV-1a hash of 32
    /// bits, modulo 360, and the colour is a full one between [`LIGHT`] and [`DARK`].
    pub(crate) fn colour(&self) -> u32 {
        let Some(vm) = self.vm() else { return GREY };
        let hue = fnv1a(vm) % 360;
        let between = |degrees| DARK + (LIGHT - DARK) * degrees / 60;
        let (rising, falling) = (between(hue % 60), between(60 - hue % 60));
        let (red, green, blue) = match hue / 60 {
            0 => (LIGHT, rising, DARK),
            1 => (falling, LIGHT, DARK),
            2 => (DARK, LIGHT, rising),
            3 => (DARK, falling, LIGHT),
            4 => (rising, DARK, LIGHT),
            _ => (LIGHT, DARK, falling),
        };
        red << 16 | green << 8 | blue
    }
}

/// The hash of Fowler, Noll and Vo, whose constants these are (RFC 9923).
fn fnv1a(text: &str) -> u32 {
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_standard() {
        // Test vectors of the RFC.
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn a_colour_follows_from_the_name() {
        let colour = |vm: &str| Owner { vm: Some(vm.to_owned()) }.colour();
        // 264, 97 and 340 degrees.
        assert_eq!(["work", "untrusted", "a"].map(colour), [0x79_40d0, 0x77_d040, 0xd0_4070]);
        let local = Owner { vm: None };
        assert_eq!((local.name(), local.colour()), ("local", 0x80_8080));
    }
}
