//! The globals that we know, what each lets a client do, and whether it works between two VMs. Everything else is reached
//! from them: their tables name the interfaces of what their requests and events make.
//!
//! A global that isn't listed is never offered to a client: its messages couldn't be understood, so nobody could tell
//! how many fds they take or which objects they make. None can be listed without a [`Class`] and a reason.

use std::collections::HashMap;
use std::sync::LazyLock;
use wayland_backend::protocol::Interface;
use wayland_client::Proxy;

/// What a global lets a client do, as seen by everybody else on the same compositor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It concerns the client's own windows, and what the user does with them.
    Safe,
    /// It concerns other clients, the screens or the seat: only for a VM that is trusted with it.
    Privileged,
    /// It doesn't work between two VMs, whoever may use it.
    CannotCross,
}

/// A global's interface, and what is to be known of it.
#[derive(Debug, Clone, Copy)]
pub struct Global {
    /// The interface.
    pub interface: &'static Interface,
    /// The newest version that somebody has read and put into its class. The tables may know newer ones, if their crate was
    /// updated: a test tells.
    pub version: u32,
    /// What it lets a client do.
    pub class: Class,
    /// Why it is of that class.
    pub reason: &'static str,
}

const DRAWS: &str = "the client draws and arranges its own windows";
const SCREENS: &str = "the client learns how large and how dense the screens are";
const INPUT: &str = "the client gets what the user does in its own windows";
const AWAKE: &str = "the screen stays on while the client shows a window";
const SELECTION: &str = "the client gets what was copied or dragged when the user turns to it";
const HANDLE: &str =
    "the client reaches another's window only with a secret that the other has given away";

const CLIPBOARD: &str = "the client reads and replaces what any client copies, at any time";
const WINDOWS: &str =
    "the client learns of all windows or workspaces, and may switch or close them";
const IDLE: &str = "the client learns when the user does something in any window";
const TYPES: &str = "the client types and points in place of the user, in any window";
const METHOD: &str = "the client reads what is typed in any window, and writes into it";
const KEYS: &str =
    "the client takes keys or other input away from the compositor or from other clients";
const DESKTOP: &str =
    "the client puts itself above or below all windows, at the edges of the screens";
const SCREEN: &str = "the client takes the whole screen, and may pretend to be the lock of it";
const OUTPUTS: &str = "the client sets up the screens, and may switch them off";
const XWAYLAND: &str = "the compositor offers it to an Xwayland of its own";

const DMABUF: &str = "dmabufs don't cross yet";
const SYNC: &str = "DRM synchronisation objects don't cross";
const LEASE: &str = "DRM devices don't cross";
const SOCKET: &str = "listening sockets don't cross";
const READS: &str =
    "the compositor would read the client's file, and memory of another VM can only be mapped";
const WRITES: &str = "the compositor would write into the client's memory, which doesn't cross yet";

/// Builds the map from `class, reason` groups of interfaces, each with its version.
macro_rules! globals {
    ($($class:ident, $reason:ident => [$($module:path: $name:ident = $version:literal,)*])*) => {{
        let mut map = HashMap::new();
        $($({
            use $module as module;
            let interface = module::$name::interface();
            let (version, class, reason) = ($version, Class::$class, $reason);
            map.insert(interface.name, Global { interface, version, class, reason });
        })*)*
        map
    }};
}

static GLOBALS: LazyLock<HashMap<&'static str, Global>> = LazyLock::new(|| {
    use wayland_client::protocol as core;
    use wayland_protocols::{ext, wp, xdg, xwayland};
    use wayland_protocols_misc as misc;
    use wayland_protocols_wlr as wlr;
    globals! {
        Safe, DRAWS => [
            core::wl_compositor: WlCompositor = 7,
            core::wl_fixes: WlFixes = 2,
            core::wl_shell: WlShell = 1,
            core::wl_shm: WlShm = 3,
            core::wl_subcompositor: WlSubcompositor = 1,
            ext::background_effect::v1::client::ext_background_effect_manager_v1: ExtBackgroundEffectManagerV1 = 1,
            wp::alpha_modifier::v1::client::wp_alpha_modifier_v1: WpAlphaModifierV1 = 1,
            wp::color_management::v1::client::wp_color_manager_v1: WpColorManagerV1 = 3,
            wp::color_representation::v1::client::wp_color_representation_manager_v1:
                WpColorRepresentationManagerV1 = 1,
            wp::commit_timing::v1::client::wp_commit_timing_manager_v1: WpCommitTimingManagerV1 = 1,
            wp::content_type::v1::client::wp_content_type_manager_v1: WpContentTypeManagerV1 = 1,
            wp::fifo::v1::client::wp_fifo_manager_v1: WpFifoManagerV1 = 1,
            wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1: WpFractionalScaleManagerV1 = 1,
            wp::presentation_time::client::wp_presentation: WpPresentation = 2,
            wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1: WpSinglePixelBufferManagerV1 = 1,
            wp::tearing_control::v1::client::wp_tearing_control_manager_v1: WpTearingControlManagerV1 = 1,
            wp::viewporter::client::wp_viewporter: WpViewporter = 1,
            misc::server_decoration::client::org_kde_kwin_server_decoration_manager:
                OrgKdeKwinServerDecorationManager = 1,
            xdg::system_bell::v1::client::xdg_system_bell_v1: XdgSystemBellV1 = 1,
            xdg::toplevel_icon::v1::client::xdg_toplevel_icon_manager_v1: XdgToplevelIconManagerV1 = 1,
            xdg::toplevel_tag::v1::client::xdg_toplevel_tag_manager_v1: XdgToplevelTagManagerV1 = 1,
            xdg::shell::client::xdg_wm_base: XdgWmBase = 7,
            xdg::dialog::v1::client::xdg_wm_dialog_v1: XdgWmDialogV1 = 1,
            xdg::decoration::zv1::client::zxdg_decoration_manager_v1: ZxdgDecorationManagerV1 = 2,
        ]
        Safe, SCREENS => [
            core::wl_output: WlOutput = 4,
            xdg::xdg_output::zv1::client::zxdg_output_manager_v1: ZxdgOutputManagerV1 = 3,
        ]
        Safe, INPUT => [
            core::wl_seat: WlSeat = 11,
            wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1: WpCursorShapeManagerV1 = 2,
            wp::pointer_warp::v1::client::wp_pointer_warp_v1: WpPointerWarpV1 = 1,
            wp::input_timestamps::zv1::client::zwp_input_timestamps_manager_v1: ZwpInputTimestampsManagerV1 = 1,
            wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1: ZwpPointerConstraintsV1 = 1,
            wp::pointer_gestures::zv1::client::zwp_pointer_gestures_v1: ZwpPointerGesturesV1 = 3,
            wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1: ZwpRelativePointerManagerV1 = 1,
            wp::tablet::zv1::client::zwp_tablet_manager_v1: ZwpTabletManagerV1 = 1,
            wp::tablet::zv2::client::zwp_tablet_manager_v2: ZwpTabletManagerV2 = 2,
            wp::text_input::zv1::client::zwp_text_input_manager_v1: ZwpTextInputManagerV1 = 1,
            wp::text_input::zv3::client::zwp_text_input_manager_v3: ZwpTextInputManagerV3 = 2,
        ]
        Safe, AWAKE => [
            wp::idle_inhibit::zv1::client::zwp_idle_inhibit_manager_v1: ZwpIdleInhibitManagerV1 = 1,
        ]
        Safe, SELECTION => [
            core::wl_data_device_manager: WlDataDeviceManager = 4,
            misc::gtk_primary_selection::client::gtk_primary_selection_device_manager:
                GtkPrimarySelectionDeviceManager = 1,
            wp::primary_selection::zv1::client::zwp_primary_selection_device_manager_v1:
                ZwpPrimarySelectionDeviceManagerV1 = 1,
            xdg::toplevel_drag::v1::client::xdg_toplevel_drag_manager_v1: XdgToplevelDragManagerV1 = 1,
        ]
        Safe, HANDLE => [
            xdg::activation::v1::client::xdg_activation_v1: XdgActivationV1 = 1,
            xdg::foreign::zv1::client::zxdg_exporter_v1: ZxdgExporterV1 = 1,
            xdg::foreign::zv2::client::zxdg_exporter_v2: ZxdgExporterV2 = 1,
            xdg::foreign::zv1::client::zxdg_importer_v1: ZxdgImporterV1 = 1,
            xdg::foreign::zv2::client::zxdg_importer_v2: ZxdgImporterV2 = 1,
        ]
        Privileged, CLIPBOARD => [
            ext::data_control::v1::client::ext_data_control_manager_v1: ExtDataControlManagerV1 = 1,
            wlr::data_control::v1::client::zwlr_data_control_manager_v1: ZwlrDataControlManagerV1 = 2,
        ]
        Privileged, WINDOWS => [
            ext::foreign_toplevel_list::v1::client::ext_foreign_toplevel_list_v1: ExtForeignToplevelListV1 = 1,
            ext::workspace::v1::client::ext_workspace_manager_v1: ExtWorkspaceManagerV1 = 1,
            wlr::foreign_toplevel::v1::client::zwlr_foreign_toplevel_manager_v1: ZwlrForeignToplevelManagerV1 = 3,
        ]
        Privileged, IDLE => [
            ext::idle_notify::v1::client::ext_idle_notifier_v1: ExtIdleNotifierV1 = 2,
        ]
        Privileged, TYPES => [
            ext::transient_seat::v1::client::ext_transient_seat_manager_v1: ExtTransientSeatManagerV1 = 1,
            wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_manager_v1: ZwlrVirtualPointerManagerV1 = 2,
            misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1: ZwpVirtualKeyboardManagerV1 = 1,
        ]
        Privileged, METHOD => [
            wp::input_method::zv1::client::zwp_input_method_v1: ZwpInputMethodV1 = 1,
            wp::input_method::zv1::client::zwp_input_panel_v1: ZwpInputPanelV1 = 1,
            misc::zwp_input_method_v2::client::zwp_input_method_manager_v2: ZwpInputMethodManagerV2 = 1,
        ]
        Privileged, KEYS => [
            wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1:
                ZwpKeyboardShortcutsInhibitManagerV1 = 1,
            xwayland::keyboard_grab::zv1::client::zwp_xwayland_keyboard_grab_manager_v1:
                ZwpXwaylandKeyboardGrabManagerV1 = 1,
            wlr::input_inhibitor::v1::client::zwlr_input_inhibit_manager_v1: ZwlrInputInhibitManagerV1 = 1,
        ]
        Privileged, DESKTOP => [
            wlr::layer_shell::v1::client::zwlr_layer_shell_v1: ZwlrLayerShellV1 = 5,
        ]
        Privileged, SCREEN => [
            ext::session_lock::v1::client::ext_session_lock_manager_v1: ExtSessionLockManagerV1 = 1,
            wp::fullscreen_shell::zv1::client::zwp_fullscreen_shell_v1: ZwpFullscreenShellV1 = 1,
        ]
        Privileged, OUTPUTS => [
            wlr::output_management::v1::client::zwlr_output_manager_v1: ZwlrOutputManagerV1 = 4,
            wlr::output_power_management::v1::client::zwlr_output_power_manager_v1: ZwlrOutputPowerManagerV1 = 1,
        ]
        Privileged, XWAYLAND => [
            xwayland::shell::v1::client::xwayland_shell_v1: XwaylandShellV1 = 1,
        ]
        CannotCross, DMABUF => [
            wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1: ZwpLinuxDmabufV1 = 6,
            wlr::export_dmabuf::v1::client::zwlr_export_dmabuf_manager_v1: ZwlrExportDmabufManagerV1 = 1,
        ]
        CannotCross, SYNC => [
            wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1: WpLinuxDrmSyncobjManagerV1 = 1,
            wp::linux_explicit_synchronization::zv1::client::zwp_linux_explicit_synchronization_v1:
                ZwpLinuxExplicitSynchronizationV1 = 2,
        ]
        CannotCross, LEASE => [
            wp::drm_lease::v1::client::wp_drm_lease_device_v1: WpDrmLeaseDeviceV1 = 1,
        ]
        CannotCross, SOCKET => [
            wp::security_context::v1::client::wp_security_context_manager_v1: WpSecurityContextManagerV1 = 1,
        ]
        CannotCross, READS => [
            wlr::gamma_control::v1::client::zwlr_gamma_control_manager_v1: ZwlrGammaControlManagerV1 = 1,
        ]
        CannotCross, WRITES => [
            ext::image_capture_source::v1::client::ext_output_image_capture_source_manager_v1:
                ExtOutputImageCaptureSourceManagerV1 = 1,
            ext::image_capture_source::v1::client::ext_foreign_toplevel_image_capture_source_manager_v1:
                ExtForeignToplevelImageCaptureSourceManagerV1 = 1,
            ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1: ExtImageCopyCaptureManagerV1 = 1,
            wlr::screencopy::v1::client::zwlr_screencopy_manager_v1: ZwlrScreencopyManagerV1 = 3,
        ]
    }
});

/// The global of this name, if we know it.
pub fn global(name: &str) -> Option<Global> {
    GLOBALS.get(name).copied()
}

/// All globals that we know.
pub fn globals() -> impl Iterator<Item = Global> {
    GLOBALS.values().copied()
}

/// The table of `wl_display`, which no registry lists.
pub fn wl_display() -> &'static Interface {
    wayland_client::protocol::wl_display::WlDisplay::interface()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Every interface that can be reached from the globals.
    fn reachable() -> HashSet<&'static str> {
        let mut seen = HashSet::new();
        let mut todo: Vec<_> = GLOBALS.values().map(|global| global.interface).collect();
        todo.push(wl_display());
        while let Some(interface) = todo.pop() {
            if seen.insert(interface.name) {
                todo.extend(
                    interface
                        .requests
                        .iter()
                        .chain(interface.events)
                        .filter_map(|m| m.child_interface),
                );
            }
        }
        seen
    }

    #[test]
    fn the_tables_reach_what_desktops_use() {
        let seen = reachable();
        for name in [
            "wl_registry",
            "wl_buffer",
            "xdg_popup",
            "wp_viewport",
            "zwp_locked_pointer_v1",
            "wl_data_offer",
        ] {
            assert!(seen.contains(name), "{name}");
        }
        assert!(seen.len() > 150, "{}", seen.len());
    }

    #[test]
    fn newer_tables_are_read_before_they_are_offered() {
        for Global { interface, version, .. } in globals() {
            let (name, newest) = (interface.name, interface.version);
            assert_eq!(
                version, newest,
                "{name}: read what is new in version {newest}, and see whether its class still holds"
            );
        }
    }

    #[test]
    fn what_reaches_beyond_a_clients_own_windows_is_not_safe() {
        use Class::{CannotCross, Privileged, Safe};
        for (class, names) in [
            (Safe, &["wl_shm", "xdg_wm_base", "wl_seat", "zxdg_output_manager_v1"][..]),
            (
                Privileged,
                &[
                    "ext_data_control_manager_v1",
                    "ext_foreign_toplevel_list_v1",
                    "ext_session_lock_manager_v1",
                    "ext_workspace_manager_v1",
                    "zwlr_foreign_toplevel_manager_v1",
                    "zwlr_layer_shell_v1",
                    "zwlr_output_manager_v1",
                    "zwlr_virtual_pointer_manager_v1",
                    "zwp_input_method_manager_v2",
                    "zwp_virtual_keyboard_manager_v1",
                ],
            ),
            (
                CannotCross,
                &[
                    "zwp_linux_dmabuf_v1",
                    "wp_linux_drm_syncobj_manager_v1",
                    "wp_drm_lease_device_v1",
                    "wp_security_context_manager_v1",
                    "zwlr_gamma_control_manager_v1",
                    "zwlr_screencopy_manager_v1",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(global(name).unwrap().class, class, "{name}");
            }
        }
        assert!(global("wl_drm").is_none());
    }
}
