//! What a client copies, pastes, drags and is given, over every protocol that there is for it.

use crate::State;
use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use wayland_client::protocol::wl_data_device_manager::{DndAction, WlDataDeviceManager};
use wayland_client::protocol::{
    wl_data_device::{self, WlDataDevice},
    wl_data_offer::{self, WlDataOffer},
    wl_data_source::{self, WlDataSource},
};
use wayland_client::{
    Connection, Dispatch, Proxy, QueueHandle, WEnum, delegate_noop, event_created_child,
};

/// A protocol for selections, and which of its selections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selection {
    /// `wl_data_device`, for whoever has the focus.
    Clipboard,
    /// `zwp_primary_selection_device_v1`, for whoever has the focus.
    Primary,
    /// `gtk_primary_selection_device`, the older twin of it.
    GtkPrimary,
    /// `zwlr_data_control_device_v1`.
    ControlledClipboard,
    /// The second selection of `zwlr_data_control_device_v1`.
    ControlledPrimary,
    /// `ext_data_control_device_v1`.
    ExtClipboard,
    /// The second selection of `ext_data_control_device_v1`.
    ExtPrimary,
}

/// By these clients copy and paste without the focus; a VM's clients are offered them only where they are allowed.
pub const DATA_CONTROL: &[&str] = &["zwlr_data_control_manager_v1", "ext_data_control_manager_v1"];

impl Selection {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Clipboard,
        Self::Primary,
        Self::GtkPrimary,
        Self::ControlledClipboard,
        Self::ControlledPrimary,
        Self::ExtClipboard,
        Self::ExtPrimary,
    ];

    /// The global that it takes, and the version that it takes of it.
    pub fn global(self) -> (&'static str, u32) {
        match self {
            Self::Clipboard => ("wl_data_device_manager", 3),
            Self::Primary => ("zwp_primary_selection_device_manager_v1", 1),
            Self::GtkPrimary => ("gtk_primary_selection_device_manager", 1),
            Self::ControlledClipboard | Self::ControlledPrimary => {
                ("zwlr_data_control_manager_v1", 2)
            }
            Self::ExtClipboard | Self::ExtPrimary => ("ext_data_control_manager_v1", 1),
        }
    }

    /// Whether only who has the focus may copy and paste.
    pub fn needs_focus(self) -> bool {
        matches!(self, Self::Clipboard | Self::Primary | Self::GtkPrimary)
    }

    /// The other selection of the same protocol, if it has two and this is the first.
    fn second(self) -> Option<Self> {
        match self {
            Self::ControlledClipboard => Some(Self::ControlledPrimary),
            Self::ExtClipboard => Some(Self::ExtPrimary),
            _ => None,
        }
    }
}

/// What the compositor has told of copies, pastes and drags.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What is offered, by protocol; none if nothing is.
    pub offers: HashMap<Selection, Box<dyn Offer>>,
    /// What somebody wants of what this client copied or drags: the type, and where it is to be written.
    pub asked: VecDeque<(String, OwnedFd)>,
    /// Sources of this client that somebody else's has replaced, or whose drag led nowhere.
    pub cancelled: u32,
    /// The drag that it takes part in.
    pub drag: Drag,
}

/// One drag, as both its ends are told of it.
#[derive(Debug, Default)]
pub struct Drag {
    /// The surface under the pointer is this client's: the serial, and what is dragged.
    pub over: Option<(u32, WlDataOffer)>,
    /// Motions over it.
    pub motions: u32,
    /// It was dropped here.
    pub dropped: bool,
    /// Destination: what the source allows, and what was chosen.
    pub allowed: Option<DndAction>,
    /// Destination: what was chosen.
    pub chosen: Option<DndAction>,
    /// Source: the type that the destination takes; `None` inside if it takes none.
    pub target: Option<Option<String>>,
    /// Source: what was chosen.
    pub action: Option<DndAction>,
    /// Source: it was dropped.
    pub performed: bool,
    /// Source: the destination has all that it wants.
    pub finished: bool,
}

/// The types of one offer.
#[derive(Debug, Default, Clone)]
pub struct Kinds(Arc<Mutex<Vec<String>>>);

impl Kinds {
    fn add(&self, kind: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(kind);
    }

    fn has(&self, kind: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|has| has == kind)
    }
}

/// Something that can be pasted.
pub trait Offer: Debug + Send {
    /// Whether it is offered as this type.
    fn has(&self, kind: &str) -> bool;

    /// Asks for it.
    fn receive(&self, kind: &str, fd: BorrowedFd<'_>);
}

/// Something that was copied.
pub(crate) trait Source: Debug {
    /// It can't be pasted any more.
    fn destroy(&self);
}

impl Exchange {
    fn select(&mut self, selection: Selection, offer: Option<Box<dyn Offer>>) {
        match offer {
            Some(offer) => self.offers.insert(selection, offer),
            None => self.offers.remove(&selection),
        };
    }
}

/// Offers and sources of a protocol.
macro_rules! offer_and_source {
    ($offer:ty, $source:ty) => {
        impl Offer for $offer {
            fn has(&self, kind: &str) -> bool {
                self.data::<Kinds>().is_some_and(|kinds| kinds.has(kind))
            }

            fn receive(&self, kind: &str, fd: BorrowedFd<'_>) {
                self.receive(kind.to_owned(), fd);
            }
        }

        impl Source for $source {
            fn destroy(&self) {
                self.destroy();
            }
        }
    };
}

/// A whole protocol of the usual kind.
macro_rules! protocol {
    (
        $module:path: $manager:ident, $device:ident, $offer:ident, $source:ident,
        $device_module:ident, $offer_module:ident, $source_module:ident
        $(, second $second:ident)?
    ) => {
        const _: () = {
            use $module as module;
            use module::{$device_module as device, $offer_module as offer, $source_module as source};
            use device::$device as Device;
            use offer::$offer as OfferProxy;
            use source::$source as SourceProxy;

            delegate_noop!(State: ignore module::$manager);
            offer_and_source!(OfferProxy, SourceProxy);

            impl Dispatch<Device, Selection> for State {
                fn event(
                    state: &mut Self,
                    _: &Device,
                    event: device::Event,
                    &selection: &Selection,
                    _: &Connection,
                    _: &QueueHandle<Self>,
                ) {
                    let boxed = |id: Option<OfferProxy>| id.map(|id| Box::new(id) as Box<dyn Offer>);
                    match event {
                        device::Event::Selection { id } => {
                            state.exchange.select(selection, boxed(id));
                        }
                        $(device::Event::$second { id } => {
                            if let Some(second) = selection.second() {
                                state.exchange.select(second, boxed(id));
                            }
                        })?
                        _ => {}
                    }
                }

                event_created_child!(State, Device, [
                    device::EVT_DATA_OFFER_OPCODE => (OfferProxy, Kinds::default()),
                ]);
            }

            impl Dispatch<OfferProxy, Kinds> for State {
                fn event(
                    _: &mut Self,
                    _: &OfferProxy,
                    event: offer::Event,
                    kinds: &Kinds,
                    _: &Connection,
                    _: &QueueHandle<Self>,
                ) {
                    if let offer::Event::Offer { mime_type } = event {
                        kinds.add(mime_type);
                    }
                }
            }

            impl Dispatch<SourceProxy, ()> for State {
                fn event(
                    state: &mut Self,
                    _: &SourceProxy,
                    event: source::Event,
                    _: &(),
                    _: &Connection,
                    _: &QueueHandle<Self>,
                ) {
                    match event {
                        source::Event::Send { mime_type, fd } => {
                            state.exchange.asked.push_back((mime_type, fd));
                        }
                        source::Event::Cancelled => state.exchange.cancelled += 1,
                        _ => {}
                    }
                }
            }
        };
    };
}

pub(crate) mod primary {
    //! `zwp_primary_selection_device_manager_v1`.
    pub(crate) use wayland_protocols::wp::primary_selection::zv1::client::zwp_primary_selection_device_manager_v1::ZwpPrimarySelectionDeviceManagerV1;
    pub(crate) use wayland_protocols::wp::primary_selection::zv1::client::{
        zwp_primary_selection_device_v1, zwp_primary_selection_offer_v1,
        zwp_primary_selection_source_v1,
    };
}

pub(crate) mod gtk {
    //! `gtk_primary_selection_device_manager`.
    pub(crate) use wayland_protocols_misc::gtk_primary_selection::client::gtk_primary_selection_device_manager::GtkPrimarySelectionDeviceManager;
    pub(crate) use wayland_protocols_misc::gtk_primary_selection::client::{
        gtk_primary_selection_device, gtk_primary_selection_offer, gtk_primary_selection_source,
    };
}

pub(crate) mod wlr {
    //! `zwlr_data_control_manager_v1`.
    pub(crate) use wayland_protocols_wlr::data_control::v1::client::zwlr_data_control_manager_v1::ZwlrDataControlManagerV1;
    pub(crate) use wayland_protocols_wlr::data_control::v1::client::{
        zwlr_data_control_device_v1, zwlr_data_control_offer_v1, zwlr_data_control_source_v1,
    };
}

pub(crate) mod ext {
    //! `ext_data_control_manager_v1`.
    pub(crate) use wayland_protocols::ext::data_control::v1::client::ext_data_control_manager_v1::ExtDataControlManagerV1;
    pub(crate) use wayland_protocols::ext::data_control::v1::client::{
        ext_data_control_device_v1, ext_data_control_offer_v1, ext_data_control_source_v1,
    };
}

protocol!(
    primary: ZwpPrimarySelectionDeviceManagerV1, ZwpPrimarySelectionDeviceV1, ZwpPrimarySelectionOfferV1,
    ZwpPrimarySelectionSourceV1, zwp_primary_selection_device_v1, zwp_primary_selection_offer_v1,
    zwp_primary_selection_source_v1
);
protocol!(
    gtk: GtkPrimarySelectionDeviceManager, GtkPrimarySelectionDevice, GtkPrimarySelectionOffer,
    GtkPrimarySelectionSource, gtk_primary_selection_device, gtk_primary_selection_offer,
    gtk_primary_selection_source
);
protocol!(
    wlr: ZwlrDataControlManagerV1, ZwlrDataControlDeviceV1, ZwlrDataControlOfferV1, ZwlrDataControlSourceV1,
    zwlr_data_control_device_v1, zwlr_data_control_offer_v1, zwlr_data_control_source_v1,
    second PrimarySelection
);
protocol!(
    ext: ExtDataControlManagerV1, ExtDataControlDeviceV1, ExtDataControlOfferV1, ExtDataControlSourceV1,
    ext_data_control_device_v1, ext_data_control_offer_v1, ext_data_control_source_v1,
    second PrimarySelection
);

// The clipboard's own protocol is the one for drags too.

delegate_noop!(State: ignore WlDataDeviceManager);
offer_and_source!(WlDataOffer, WlDataSource);

impl Dispatch<WlDataDevice, Selection> for State {
    fn event(
        state: &mut Self,
        _: &WlDataDevice,
        event: wl_data_device::Event,
        &selection: &Selection,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Exchange { drag, .. } = &mut state.exchange;
        match event {
            wl_data_device::Event::Selection { id } => {
                state.exchange.select(selection, id.map(|id| Box::new(id) as Box<dyn Offer>));
            }
            wl_data_device::Event::Enter { serial, id: Some(offer), .. } => {
                drag.over = Some((serial, offer));
            }
            wl_data_device::Event::Leave if !drag.dropped => drag.over = None,
            wl_data_device::Event::Motion { .. } => drag.motions += 1,
            wl_data_device::Event::Drop => drag.dropped = true,
            _ => {}
        }
    }

    event_created_child!(State, WlDataDevice, [
        wl_data_device::EVT_DATA_OFFER_OPCODE => (WlDataOffer, Kinds::default()),
    ]);
}

impl Dispatch<WlDataOffer, Kinds> for State {
    fn event(
        state: &mut Self,
        _: &WlDataOffer,
        event: wl_data_offer::Event,
        kinds: &Kinds,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let drag = &mut state.exchange.drag;
        match event {
            wl_data_offer::Event::Offer { mime_type } => kinds.add(mime_type),
            wl_data_offer::Event::SourceActions { source_actions: WEnum::Value(actions) } => {
                drag.allowed = Some(actions);
            }
            wl_data_offer::Event::Action { dnd_action: WEnum::Value(action) } => {
                drag.chosen = Some(action);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlDataSource, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlDataSource,
        event: wl_data_source::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Exchange { drag, asked, cancelled, .. } = &mut state.exchange;
        match event {
            wl_data_source::Event::Send { mime_type, fd } => asked.push_back((mime_type, fd)),
            wl_data_source::Event::Cancelled => *cancelled += 1,
            wl_data_source::Event::Target { mime_type } => drag.target = Some(mime_type),
            wl_data_source::Event::Action { dnd_action: WEnum::Value(action) } => {
                drag.action = Some(action);
            }
            wl_data_source::Event::DndDropPerformed => drag.performed = true,
            wl_data_source::Event::DndFinished => drag.finished = true,
            _ => {}
        }
    }
}
