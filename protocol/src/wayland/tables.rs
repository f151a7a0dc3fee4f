//! The globals that we know. Everything else is reached from them: their tables name the interfaces of what their
//! requests and events make.
//!
//! A global that isn't listed is never offered to a client: its messages couldn't be understood, so nobody could tell
//! how many fds they take or which objects they make.

use std::collections::HashMap;
use std::sync::LazyLock;
use wayland_backend::protocol::Interface;
use wayland_client::Proxy;

/// A global's interface, and whether it works between two VMs.
#[derive(Debug, Clone, Copy)]
pub struct Global {
    /// The interface, with the newest version that we know.
    pub interface: &'static Interface,
    /// `Err` says why it can't cross.
    pub crosses: Result<(), &'static str>,
}

const DMABUF: &str = "dmabufs don't cross yet";
const SYNC: &str = "DRM synchronisation objects don't cross";
const LEASE: &str = "DRM devices don't cross";
const SOCKET: &str = "listening sockets don't cross";
const READS: &str =
    "the compositor would read the client's file, and memory of another VM can only be mapped";
const WRITES: &str = "the compositor would write into the client's memory, which doesn't cross yet";

/// Builds the map from `=> reason` groups of interfaces.
macro_rules! globals {
    ($($crosses:expr => [$($module:path: $name:ident,)*])*) => {{
        let mut map = HashMap::new();
        $($({
            use $module as module;
            let interface = module::$name::interface();
            map.insert(interface.name, Global { interface, crosses: $crosses });
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
        Ok(()) => [
            core::wl_compositor: WlCompositor,
            core::wl_data_device_manager: WlDataDeviceManager,
            core::wl_fixes: WlFixes,
            core::wl_output: WlOutput,
            core::wl_seat: WlSeat,
            core::wl_shell: WlShell,
            core::wl_shm: WlShm,
            core::wl_subcompositor: WlSubcompositor,

            ext::background_effect::v1::client::ext_background_effect_manager_v1: ExtBackgroundEffectManagerV1,
            ext::data_control::v1::client::ext_data_control_manager_v1: ExtDataControlManagerV1,
            ext::foreign_toplevel_list::v1::client::ext_foreign_toplevel_list_v1: ExtForeignToplevelListV1,
            ext::idle_notify::v1::client::ext_idle_notifier_v1: ExtIdleNotifierV1,
            ext::session_lock::v1::client::ext_session_lock_manager_v1: ExtSessionLockManagerV1,
            ext::transient_seat::v1::client::ext_transient_seat_manager_v1: ExtTransientSeatManagerV1,
            ext::workspace::v1::client::ext_workspace_manager_v1: ExtWorkspaceManagerV1,

            wp::alpha_modifier::v1::client::wp_alpha_modifier_v1: WpAlphaModifierV1,
            wp::color_management::v1::client::wp_color_manager_v1: WpColorManagerV1,
            wp::color_representation::v1::client::wp_color_representation_manager_v1: WpColorRepresentationManagerV1,
            wp::commit_timing::v1::client::wp_commit_timing_manager_v1: WpCommitTimingManagerV1,
            wp::content_type::v1::client::wp_content_type_manager_v1: WpContentTypeManagerV1,
            wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1: WpCursorShapeManagerV1,
            wp::fifo::v1::client::wp_fifo_manager_v1: WpFifoManagerV1,
            wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1: WpFractionalScaleManagerV1,
            wp::fullscreen_shell::zv1::client::zwp_fullscreen_shell_v1: ZwpFullscreenShellV1,
            wp::idle_inhibit::zv1::client::zwp_idle_inhibit_manager_v1: ZwpIdleInhibitManagerV1,
            wp::input_method::zv1::client::zwp_input_method_v1: ZwpInputMethodV1,
            wp::input_method::zv1::client::zwp_input_panel_v1: ZwpInputPanelV1,
            wp::input_timestamps::zv1::client::zwp_input_timestamps_manager_v1: ZwpInputTimestampsManagerV1,
            wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1:
                ZwpKeyboardShortcutsInhibitManagerV1,
            wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1: ZwpPointerConstraintsV1,
            wp::pointer_gestures::zv1::client::zwp_pointer_gestures_v1: ZwpPointerGesturesV1,
            wp::pointer_warp::v1::client::wp_pointer_warp_v1: WpPointerWarpV1,
            wp::presentation_time::client::wp_presentation: WpPresentation,
            wp::primary_selection::zv1::client::zwp_primary_selection_device_manager_v1:
                ZwpPrimarySelectionDeviceManagerV1,
            wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1: ZwpRelativePointerManagerV1,
            wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1: WpSinglePixelBufferManagerV1,
            wp::tablet::zv1::client::zwp_tablet_manager_v1: ZwpTabletManagerV1,
            wp::tablet::zv2::client::zwp_tablet_manager_v2: ZwpTabletManagerV2,
            wp::tearing_control::v1::client::wp_tearing_control_manager_v1: WpTearingControlManagerV1,
            wp::text_input::zv1::client::zwp_text_input_manager_v1: ZwpTextInputManagerV1,
            wp::text_input::zv3::client::zwp_text_input_manager_v3: ZwpTextInputManagerV3,
            wp::viewporter::client::wp_viewporter: WpViewporter,

            xdg::activation::v1::client::xdg_activation_v1: XdgActivationV1,
            xdg::decoration::zv1::client::zxdg_decoration_manager_v1: ZxdgDecorationManagerV1,
            xdg::dialog::v1::client::xdg_wm_dialog_v1: XdgWmDialogV1,
            xdg::foreign::zv1::client::zxdg_exporter_v1: ZxdgExporterV1,
            xdg::foreign::zv1::client::zxdg_importer_v1: ZxdgImporterV1,
            xdg::foreign::zv2::client::zxdg_exporter_v2: ZxdgExporterV2,
            xdg::foreign::zv2::client::zxdg_importer_v2: ZxdgImporterV2,
            xdg::shell::client::xdg_wm_base: XdgWmBase,
            xdg::system_bell::v1::client::xdg_system_bell_v1: XdgSystemBellV1,
            xdg::toplevel_drag::v1::client::xdg_toplevel_drag_manager_v1: XdgToplevelDragManagerV1,
            xdg::toplevel_icon::v1::client::xdg_toplevel_icon_manager_v1: XdgToplevelIconManagerV1,
            xdg::toplevel_tag::v1::client::xdg_toplevel_tag_manager_v1: XdgToplevelTagManagerV1,
            xdg::xdg_output::zv1::client::zxdg_output_manager_v1: ZxdgOutputManagerV1,

            xwayland::keyboard_grab::zv1::client::zwp_xwayland_keyboard_grab_manager_v1:
                ZwpXwaylandKeyboardGrabManagerV1,
            xwayland::shell::v1::client::xwayland_shell_v1: XwaylandShellV1,

            misc::gtk_primary_selection::client::gtk_primary_selection_device_manager:
                GtkPrimarySelectionDeviceManager,
            misc::server_decoration::client::org_kde_kwin_server_decoration_manager:
                OrgKdeKwinServerDecorationManager,
            misc::zwp_input_method_v2::client::zwp_input_method_manager_v2: ZwpInputMethodManagerV2,
            misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1: ZwpVirtualKeyboardManagerV1,

            wlr::data_control::v1::client::zwlr_data_control_manager_v1: ZwlrDataControlManagerV1,
            wlr::foreign_toplevel::v1::client::zwlr_foreign_toplevel_manager_v1: ZwlrForeignToplevelManagerV1,
            wlr::input_inhibitor::v1::client::zwlr_input_inhibit_manager_v1: ZwlrInputInhibitManagerV1,
            wlr::layer_shell::v1::client::zwlr_layer_shell_v1: ZwlrLayerShellV1,
            wlr::output_management::v1::client::zwlr_output_manager_v1: ZwlrOutputManagerV1,
            wlr::output_power_management::v1::client::zwlr_output_power_manager_v1: ZwlrOutputPowerManagerV1,
            wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_manager_v1: ZwlrVirtualPointerManagerV1,
        ]
        Err(DMABUF) => [
            wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1: ZwpLinuxDmabufV1,
            wlr::export_dmabuf::v1::client::zwlr_export_dmabuf_manager_v1: ZwlrExportDmabufManagerV1,
        ]
        Err(SYNC) => [
            wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1: WpLinuxDrmSyncobjManagerV1,
            wp::linux_explicit_synchronization::zv1::client::zwp_linux_explicit_synchronization_v1:
                ZwpLinuxExplicitSynchronizationV1,
        ]
        Err(LEASE) => [
            wp::drm_lease::v1::client::wp_drm_lease_device_v1: WpDrmLeaseDeviceV1,
        ]
        Err(SOCKET) => [
            wp::security_context::v1::client::wp_security_context_manager_v1: WpSecurityContextManagerV1,
        ]
        Err(READS) => [
            wlr::gamma_control::v1::client::zwlr_gamma_control_manager_v1: ZwlrGammaControlManagerV1,
        ]
        Err(WRITES) => [
            ext::image_capture_source::v1::client::ext_output_image_capture_source_manager_v1:
                ExtOutputImageCaptureSourceManagerV1,
            ext::image_capture_source::v1::client::ext_foreign_toplevel_image_capture_source_manager_v1:
                ExtForeignToplevelImageCaptureSourceManagerV1,
            ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1: ExtImageCopyCaptureManagerV1,
            wlr::screencopy::v1::client::zwlr_screencopy_manager_v1: ZwlrScreencopyManagerV1,
        ]
    }
});

/// The global of this name, if we know it.
pub fn global(name: &str) -> Option<Global> {
    GLOBALS.get(name).copied()
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
    fn globals_that_cannot_cross_say_why() {
        for name in [
            "zwp_linux_dmabuf_v1",
            "wp_linux_drm_syncobj_manager_v1",
            "wp_drm_lease_device_v1",
            "zwlr_gamma_control_manager_v1",
            "zwlr_screencopy_manager_v1",
        ] {
            assert!(global(name).unwrap().crosses.is_err(), "{name}");
        }
        assert!(global("wl_shm").unwrap().crosses.is_ok());
        assert!(global("wl_drm").is_none());
    }
}
