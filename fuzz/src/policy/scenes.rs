//! What clients and compositors do one after the other, when something is copied, dragged or named. Of messages that are
//! drawn by lot one in thousands of inputs would get so far.

use crate::input::Input;
use crate::wayland::{GLOBALS, Known};
use std::collections::VecDeque;
use std::ffi::CStr;
use wlproxy_hostile::Random;
use wlproxy_protocol::wayland::{Interface, MessageDesc};

/// Types that are offered: each pattern of the policies allows some of them.
pub(super) const TYPES: [&CStr; 6] =
    [c"text/plain", c"text/html;charset=utf-8", c"image/png", c"image/jpeg", c"q", c"UTF8_STRING"];

/// How many bytes the beginning takes its decisions from. Where they end, all are 0.
const DICE: usize = 512;

/// How many scenes are begun at most until something of one can be said.
const TRIES: usize = 4;

/// A message that comes next, if it can.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// A request or event: of which interface, and its name.
    Request(&'static str, &'static str),
    Event(&'static str, &'static str),
    /// A global of this name is bound.
    Bind(&'static CStr),
}

use Line::{Bind, Event, Request};

/// What there is before anything can be copied or named.
const OBJECTS: [Line; 15] = [
    Bind(c"wl_compositor"),
    Bind(c"wl_seat"),
    Bind(c"wl_data_device_manager"),
    Bind(c"zwp_primary_selection_device_manager_v1"),
    Bind(c"ext_data_control_manager_v1"),
    Bind(c"xdg_wm_base"),
    Bind(c"xdg_toplevel_tag_manager_v1"),
    Bind(c"xdg_activation_v1"),
    Request("wl_compositor", "create_surface"),
    Request("wl_data_device_manager", "get_data_device"),
    Request("wl_data_device_manager", "create_data_source"),
    Request("zwp_primary_selection_device_manager_v1", "get_device"),
    Request("zwp_primary_selection_device_manager_v1", "create_source"),
    Request("ext_data_control_manager_v1", "get_data_device"),
    Request("ext_data_control_manager_v1", "create_data_source"),
];

const COPY: &[Line] = &[
    Request("wl_data_source", "offer"),
    Request("wl_data_source", "offer"),
    Request("wl_data_device", "set_selection"),
    Event("wl_data_source", "send"),
];
const PASTE: &[Line] = &[
    Event("wl_data_device", "data_offer"),
    Event("wl_data_offer", "offer"),
    Event("wl_data_offer", "offer"),
    Event("wl_data_device", "selection"),
    Request("wl_data_offer", "receive"),
];
const DRAG: &[Line] = &[
    Request("wl_data_device_manager", "create_data_source"),
    Request("wl_data_source", "offer"),
    Request("wl_data_device", "start_drag"),
    Event("wl_data_source", "send"),
];
const DROP: &[Line] = &[
    Event("wl_data_device", "data_offer"),
    Event("wl_data_offer", "offer"),
    Event("wl_data_offer", "offer"),
    Event("wl_data_device", "enter"),
    Request("wl_data_offer", "accept"),
    Event("wl_data_device", "drop"),
    Request("wl_data_offer", "receive"),
];
const MARK: &[Line] = &[
    Request("zwp_primary_selection_source_v1", "offer"),
    Request("zwp_primary_selection_device_v1", "set_selection"),
    Event("zwp_primary_selection_source_v1", "send"),
];
const INSERT: &[Line] = &[
    Event("zwp_primary_selection_device_v1", "data_offer"),
    Event("zwp_primary_selection_offer_v1", "offer"),
    Event("zwp_primary_selection_device_v1", "selection"),
    Request("zwp_primary_selection_offer_v1", "receive"),
];
const SET: &[Line] = &[
    Request("ext_data_control_source_v1", "offer"),
    Request("ext_data_control_device_v1", "set_selection"),
    Request("ext_data_control_device_v1", "set_primary_selection"),
    Event("ext_data_control_source_v1", "send"),
];
const GET: &[Line] = &[
    Event("ext_data_control_device_v1", "data_offer"),
    Event("ext_data_control_offer_v1", "offer"),
    Event("ext_data_control_device_v1", "selection"),
    Request("ext_data_control_offer_v1", "receive"),
];
const GET_MARKED: &[Line] = &[
    Event("ext_data_control_device_v1", "data_offer"),
    Event("ext_data_control_offer_v1", "offer"),
    Event("ext_data_control_device_v1", "primary_selection"),
    Request("ext_data_control_offer_v1", "receive"),
];
const NAME: &[Line] = &[
    Request("wl_compositor", "create_surface"),
    Request("xdg_wm_base", "get_xdg_surface"),
    Request("xdg_surface", "get_toplevel"),
    Request("xdg_toplevel", "set_title"),
    Request("xdg_toplevel", "set_app_id"),
    Request("xdg_toplevel_tag_manager_v1", "set_toplevel_tag"),
];
const ACTIVATE: &[Line] = &[
    Request("xdg_activation_v1", "get_activation_token"),
    Request("xdg_activation_token_v1", "set_app_id"),
    Request("xdg_activation_token_v1", "commit"),
];

const SCENES: [&[Line]; 11] =
    [COPY, PASTE, DRAG, DROP, MARK, INSERT, SET, GET, GET_MARKED, NAME, ACTIVATE];

/// What comes next, unless lots are drawn.
pub(super) struct Script {
    /// Whether there is any.
    is_there: bool,
    lines: VecDeque<Line>,
    /// What the beginning takes its decisions from, so that the input is left for what follows.
    dice: Vec<u8>,
}

impl Script {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        if input.one_in(4) {
            return Self { is_there: false, lines: VecDeque::new(), dice: Vec::new() };
        }
        let dice = Random::new(input.word().into()).bytes(DICE);
        let globals = GLOBALS.map(|_| Event("wl_registry", "global"));
        let lines = [Request("wl_display", "get_registry")].into_iter().chain(globals);
        Self { is_there: true, lines: lines.chain(OBJECTS).collect(), dice }
    }

    /// Appends the next message that can be. Returns whether it is a request, and how many fds it takes; `None` if lots are
    /// drawn.
    pub(super) fn message(
        &mut self,
        known: &mut Known,
        input: &mut Input<'_>,
        bytes: &mut Vec<u8>,
    ) -> Option<(bool, usize)> {
        if !self.dice.is_empty() {
            let dice = std::mem::take(&mut self.dice);
            let mut own = Input::new(&dice);
            let said = self.play(known, &mut own, bytes);
            if !self.lines.is_empty() {
                self.dice = own.rest().to_vec();
            }
            return said;
        }
        if !self.is_there || input.one_in(4) {
            return None;
        }
        // Of some scenes nothing can be said, as their globals aren't offered.
        for _ in 0..TRIES {
            if let Some(said) = self.play(known, input, bytes) {
                return Some(said);
            }
            self.lines.extend(input.pick(&SCENES));
        }
        None
    }

    fn play(
        &mut self,
        known: &mut Known,
        input: &mut Input<'_>,
        bytes: &mut Vec<u8>,
    ) -> Option<(bool, usize)> {
        while let Some(line) = self.lines.pop_front() {
            let said = match line {
                Request(of, name) => known.particular(input, (true, of, name), bytes),
                Event(of, name) => known.particular(input, (false, of, name), bytes),
                Bind(global) => known.bind(input, global.to_str().unwrap_or_default(), bytes),
            };
            if let Some(fds) = said {
                return Some((!matches!(line, Event(..)), fds));
            }
        }
        None
    }
}

/// Whether this message tells a type of data, or asks for one.
pub(super) fn names_type(interface: &Interface, desc: &MessageDesc) -> bool {
    let is_of_data = ["_source", "_offer"].iter().any(|part| interface.name.contains(part));
    is_of_data && matches!(desc.name, "offer" | "receive" | "send")
}
