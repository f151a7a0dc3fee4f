//! Which messages concern whom. The host looks at each, and most concern nobody: so whom, it finds by a message's number,
//! and all the names that it knows messages by stand here.

use crate::policy::Kind;
use std::sync::LazyLock;
use wlproxy_protocol::wayland::numbers::{self, Known};
use wlproxy_protocol::wayland::{Call, Interface};

/// Whom a message concerns.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Concern {
    /// What the quotas count by it.
    pub(crate) count: Option<Count>,
    /// Which of the objects that it names is a wl_region, and which one a wl_surface of which it makes something that can be
    /// destroyed.
    pub(crate) region: Option<u8>,
    pub(crate) surface: Option<u8>,
    /// How it names a window.
    pub(crate) naming: Option<Naming>,
    /// A number of it that not every compositor survives.
    pub(crate) number: Option<Number>,
    /// It makes or destroys a relative pointer.
    pub(crate) relative: bool,
    /// It is of something that is copied or dragged.
    pub(crate) selection: bool,
}

/// What the quotas count by a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Bind,
    CreateSurface,
    DestroySurface,
    Attach,
    Damage,
    Frame,
    Commit,
    Rectangle,
    MakeSubsurface,
    DestroySubsurface,
    Synchronise,
    Desynchronise,
    Queue,
    Window,
    ShellWindow,
    DestroyWindow,
    CreatePool,
    DestroyPool,
    PoolBuffer,
    OtherBuffer,
    DestroyBuffer,
    IconBuffer,
    SetIcon,
    OfferType,
    DestroySource,
    Release,
    Done,
}

/// How a message names a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Title,
    AppId,
    /// It makes one, whose app id is set by this request.
    Window(&'static str),
}

/// Numbers that can't be, of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    NewPool,
    Pool,
    Geometry,
}

/// What an object is for, of those by which something is copied or dragged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It gives and takes.
    Device,
    /// Something to be given.
    Source,
    /// Something to be taken.
    Offer,
}

/// Messages by their interfaces and names.
type Named<T> = (T, &'static [&'static str], &'static [&'static str]);

const COUNTED: &[Named<Count>] = &[
    (Count::Bind, &["wl_registry"], &["bind"]),
    (Count::CreateSurface, &["wl_compositor"], &["create_surface"]),
    (Count::DestroySurface, &["wl_surface"], &["destroy"]),
    (Count::Attach, &["wl_surface"], &["attach"]),
    (Count::Damage, &["wl_surface"], &["damage", "damage_buffer"]),
    (Count::Frame, &["wl_surface"], &["frame"]),
    (Count::Commit, &["wl_surface"], &["commit"]),
    (Count::Rectangle, &["wl_region"], &["add", "subtract"]),
    (Count::MakeSubsurface, &["wl_subcompositor"], &["get_subsurface"]),
    (Count::DestroySubsurface, &["wl_subsurface"], &["destroy"]),
    (Count::Synchronise, &["wl_subsurface"], &["set_sync"]),
    (Count::Desynchronise, &["wl_subsurface"], &["set_desync"]),
    (Count::Queue, &["wp_fifo_manager_v1"], &["get_fifo"]),
    (Count::Queue, &["wp_commit_timing_manager_v1"], &["get_timer"]),
    (Count::Window, &["xdg_surface"], &["get_toplevel"]),
    (Count::ShellWindow, &["wl_shell"], &["get_shell_surface"]),
    (Count::DestroyWindow, &["xdg_toplevel"], &["destroy"]),
    (Count::CreatePool, &["wl_shm"], &["create_pool"]),
    (Count::DestroyPool, &["wl_shm_pool"], &["destroy"]),
    (Count::PoolBuffer, &["wl_shm_pool"], &["create_buffer"]),
    (Count::OtherBuffer, &["wp_single_pixel_buffer_manager_v1"], &["create_u32_rgba_buffer"]),
    (Count::DestroyBuffer, &["wl_buffer"], &["destroy"]),
    (Count::IconBuffer, &["xdg_toplevel_icon_v1"], &["add_buffer"]),
    (Count::SetIcon, &["xdg_toplevel_icon_manager_v1"], &["set_icon"]),
    // Events.
    (Count::Release, &["wl_buffer"], &["release"]),
    (Count::Done, &["wl_callback"], &["done"]),
];

const NAMING: &[Named<Naming>] = &[
    (Naming::Window("set_app_id"), &["xdg_surface"], &["get_toplevel"]),
    (Naming::Window("set_class"), &["wl_shell"], &["get_shell_surface"]),
    (Naming::Title, &["xdg_toplevel", "wl_shell_surface"], &["set_title"]),
    (Naming::Title, &["xdg_toplevel_tag_manager_v1"], &["set_toplevel_description"]),
    (Naming::AppId, &["xdg_toplevel", "xdg_activation_token_v1"], &["set_app_id"]),
    // Compositors' rules are about tags, too.
    (Naming::AppId, &["xdg_toplevel_tag_manager_v1"], &["set_toplevel_tag"]),
    (Naming::AppId, &["wl_shell_surface"], &["set_class"]),
];

const NUMBERS: &[Named<Number>] = &[
    (Number::NewPool, &["wl_shm"], &["create_pool"]),
    (Number::Pool, &["wl_shm_pool"], &["resize"]),
    (Number::Geometry, &["xdg_surface"], &["set_window_geometry"]),
];

const RELATIVE: &[Named<()>] = &[
    ((), &["zwp_relative_pointer_manager_v1"], &["get_relative_pointer"]),
    ((), &["zwp_relative_pointer_v1"], &["destroy"]),
];

/// What an interface is for, and of which kind its sources and offers may be; the first is what `set_selection` means.
pub(crate) fn role(interface: &str) -> Option<(Role, &'static [Kind])> {
    const SEAT: &[Kind] = &[Kind::Clipboard, Kind::Drag];
    const PRIMARY: &[Kind] = &[Kind::Primary];
    const CONTROL: &[Kind] = &[Kind::Clipboard, Kind::Primary];
    Some(match interface {
        "wl_data_device" => (Role::Device, SEAT),
        "wl_data_source" => (Role::Source, SEAT),
        "wl_data_offer" => (Role::Offer, SEAT),
        "zwp_primary_selection_device_v1" | "gtk_primary_selection_device" => {
            (Role::Device, PRIMARY)
        }
        "zwp_primary_selection_source_v1" | "gtk_primary_selection_source" => {
            (Role::Source, PRIMARY)
        }
        "zwp_primary_selection_offer_v1" | "gtk_primary_selection_offer" => (Role::Offer, PRIMARY),
        "zwlr_data_control_device_v1" | "ext_data_control_device_v1" => (Role::Device, CONTROL),
        "zwlr_data_control_source_v1" | "ext_data_control_source_v1" => (Role::Source, CONTROL),
        "zwlr_data_control_offer_v1" | "ext_data_control_offer_v1" => (Role::Offer, CONTROL),
        _ => return None,
    })
}

/// By number.
static CONCERNS: LazyLock<Vec<Concern>> =
    LazyLock::new(|| numbers::messages().iter().map(Concern::new).collect());

impl Concern {
    /// Whom this message concerns.
    pub(crate) fn of(call: &Call<'_>) -> Self {
        CONCERNS.get(usize::from(call.number)).copied().unwrap_or_default()
    }

    fn new(known: &Known) -> Self {
        let named = |interface: &str| {
            let place = known.desc.arg_interfaces.iter().position(|of| of.name == interface)?;
            u8::try_from(place).ok().filter(|_| !known.is_event)
        };
        let can_end = |of: &Interface| of.requests.iter().any(|request| request.is_destructor);
        let makes = known.desc.child_interface.is_some_and(can_end);
        let role = role(known.interface.name).map(|(role, _)| role);
        let of_source = match known.desc.name {
            "offer" => Some(Count::OfferType),
            "destroy" => Some(Count::DestroySource),
            _ => None,
        };
        Self {
            count: of_source.filter(|_| role == Some(Role::Source)).or(find(known, COUNTED)),
            region: named("wl_region"),
            surface: named("wl_surface").filter(|_| makes),
            naming: find(known, NAMING),
            number: find(known, NUMBERS),
            relative: find(known, RELATIVE).is_some(),
            selection: role.is_some(),
        }
    }
}

fn find<T: Copy>(known: &Known, named: &[Named<T>]) -> Option<T> {
    let is = |(_, interfaces, names): &&Named<T>| {
        interfaces.contains(&known.interface.name) && names.contains(&known.desc.name)
    };
    named.iter().find(is).map(|&(what, ..)| what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    /// Each name is one of a request, or for those of `events` of an event, and of nothing else.
    fn check<T: Copy + PartialEq + Debug>(named: &[Named<T>], events: &[T]) {
        for (what, interfaces, names) in named {
            for interface in *interfaces {
                for name in *names {
                    let is = |known: &&Known| {
                        (known.interface.name, known.desc.name) == (*interface, *name)
                    };
                    let all: Vec<_> = numbers::messages().iter().filter(is).collect();
                    assert_eq!(all.len(), 1, "{interface}.{name}");
                    assert_eq!(all[0].is_event, events.contains(what), "{interface}.{name}");
                    assert_eq!(find(all[0], named), Some(*what), "{interface}.{name} is twice");
                }
            }
        }
    }

    #[test]
    fn what_has_a_name_is_there() {
        check(COUNTED, &[Count::Release, Count::Done]);
        check(NAMING, &[]);
        check(NUMBERS, &[]);
        check(RELATIVE, &[]);
    }

    #[test]
    fn all_roles_are_there() {
        let mut found: Vec<_> = numbers::messages()
            .iter()
            .filter(|known| known.desc.name == "offer" || known.desc.name == "set_selection")
            .filter_map(|known| Some((role(known.interface.name)?.0, Concern::new(known).count)))
            .collect();
        found.sort_unstable_by_key(|&(role, _)| role as u8);
        let device = [(Role::Device, None); 5];
        let source = [(Role::Source, Some(Count::OfferType)); 5];
        let offer = [(Role::Offer, None); 5];
        assert_eq!(found, [device, source, offer].concat());
    }

    #[test]
    fn who_names_others_is_found_by_the_tables() {
        let all = |has: fn(Concern) -> bool| {
            let all = numbers::messages().iter().filter(move |known| has(Concern::new(known)));
            all.map(|known| (known.interface.name, known.desc.name)).collect::<Vec<_>>()
        };
        let (regions, surfaces) = (all(|of| of.region.is_some()), all(|of| of.surface.is_some()));
        for (interface, name) in [
            ("wl_surface", "set_opaque_region"),
            ("zwp_pointer_constraints_v1", "lock_pointer"),
            ("zwp_locked_pointer_v1", "set_region"),
        ] {
            assert!(regions.contains(&(interface, name)), "{interface}.{name}");
        }
        for (interface, name) in [
            ("wl_subcompositor", "get_subsurface"),
            ("xdg_wm_base", "get_xdg_surface"),
            ("zwp_pointer_constraints_v1", "lock_pointer"),
        ] {
            assert!(surfaces.contains(&(interface, name)), "{interface}.{name}");
        }
        // Nothing that comes with each frame.
        assert!(!surfaces.contains(&("wp_presentation", "feedback")));
    }
}
