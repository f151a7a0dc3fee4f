//! Opcodes of the requests and events that are used here (wayland.xml, xdg-shell.xml), in the order of their
//! interfaces there.

// Requests.
pub(crate) const WL_DISPLAY_SYNC: u16 = 0;
pub(crate) const WL_DISPLAY_GET_REGISTRY: u16 = 1;
pub(crate) const WL_REGISTRY_BIND: u16 = 0;
pub(crate) const WL_COMPOSITOR_CREATE_SURFACE: u16 = 0;
pub(crate) const WL_SHM_CREATE_POOL: u16 = 0;
pub(crate) const WL_SHM_POOL_CREATE_BUFFER: u16 = 0;
pub(crate) const WL_DATA_OFFER_RECEIVE: u16 = 1;
pub(crate) const WL_DATA_SOURCE_OFFER: u16 = 0;
pub(crate) const WL_DATA_DEVICE_SET_SELECTION: u16 = 1;
pub(crate) const WL_DATA_DEVICE_MANAGER_CREATE_DATA_SOURCE: u16 = 0;
pub(crate) const WL_DATA_DEVICE_MANAGER_GET_DATA_DEVICE: u16 = 1;
pub(crate) const WL_SURFACE_ATTACH: u16 = 1;
pub(crate) const WL_SURFACE_FRAME: u16 = 3;
pub(crate) const WL_SURFACE_COMMIT: u16 = 6;
pub(crate) const WL_SURFACE_DAMAGE_BUFFER: u16 = 9;
pub(crate) const WL_SEAT_GET_POINTER: u16 = 0;
pub(crate) const WL_POINTER_SET_CURSOR: u16 = 0;
pub(crate) const XDG_WM_BASE_GET_XDG_SURFACE: u16 = 2;
pub(crate) const XDG_SURFACE_GET_TOPLEVEL: u16 = 1;
pub(crate) const XDG_SURFACE_ACK_CONFIGURE: u16 = 4;

// Events.
pub(crate) const WL_DISPLAY_ERROR: u16 = 0;
pub(crate) const WL_DISPLAY_DELETE_ID: u16 = 1;
pub(crate) const WL_REGISTRY_GLOBAL: u16 = 0;
pub(crate) const WL_CALLBACK_DONE: u16 = 0;
pub(crate) const WL_DATA_SOURCE_SEND: u16 = 1;
pub(crate) const WL_DATA_DEVICE_SELECTION: u16 = 5;
pub(crate) const WL_POINTER_MOTION: u16 = 2;
