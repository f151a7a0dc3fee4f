//! Windows: which there are, and where.

use crate::owner::Owner;
use smithay::backend::renderer::utils::with_renderer_surface_state;
use smithay::desktop::{Space, Window};
use smithay::output::Output;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, Rectangle, Size};
use smithay::wayland::compositor::with_states;
use smithay::wayland::shell::xdg::{ToplevelSurface, XdgToplevelSurfaceData};
use std::time::Duration;

/// Pixels of the owner's colour around a window.
pub(crate) const BORDER: i32 = 4;

/// Pixels of the title bar above that.
pub(crate) const TITLE_BAR: i32 = 32;

/// Pixels between what two clients draw: a border and a title bar fit in, and a border of the other.
const GAP: i32 = 4 + BORDER + TITLE_BAR;

/// All windows.
pub(crate) struct Windows {
    /// Those that show something, in the order in which they began to. None is ever raised.
    space: Space<Window>,
    output: Output,
    /// Also those that don't.
    all: Vec<Window>,
    screen: Size<i32, Logical>,
}

/// A window that shows something.
pub(crate) struct Shown<'a> {
    /// The window.
    pub(crate) window: &'a Window,
    /// Whose it is.
    pub(crate) owner: &'a Owner,
    /// Where what its client draws is on the screen, without what the client takes for its shadow.
    pub(crate) place: Rectangle<i32, Logical>,
}

impl Windows {
    /// None, on this screen.
    pub(crate) fn new(output: Output, screen: Size<i32, Logical>) -> Self {
        let mut space = Space::default();
        space.map_output(&output, (0, 0));
        Self { space, output, all: Vec::new(), screen }
    }

    /// A client wants one more. It shows nothing yet.
    pub(crate) fn add(&mut self, toplevel: ToplevelSurface) {
        // Without a client there is nobody who could show anything in it.
        let Some(owner) = Owner::of(toplevel.wl_surface()) else { return };
        let window = Window::new_wayland_window(toplevel);
        window.user_data().insert_if_missing(|| owner);
        self.all.push(window);
    }

    /// A client doesn't want it any more.
    pub(crate) fn remove(&mut self, toplevel: &ToplevelSurface) {
        if let Some(at) = self.all.iter().position(|window| window.toplevel() == Some(toplevel)) {
            self.space.unmap_elem(&self.all.remove(at));
            self.arrange();
        }
    }

    /// A client has committed something in the window whose surface is `root`, if it is one. Returns whether it began or
    /// ceased to show something.
    pub(crate) fn committed(&mut self, root: &WlSurface) -> bool {
        let is_it = |window: &&Window| toplevel(window).is_some_and(|it| it.wl_surface() == root);
        let Some(window) = self.all.iter().find(is_it).cloned() else { return false };
        window.on_commit();
        let shows = with_renderer_surface_state(root, |state| state.buffer().is_some());
        let (shows, showed) = (shows == Some(true), self.space.element_location(&window).is_some());
        match (showed, shows) {
            // The answer to a window's first commit: now it may draw, of whatever size it wants.
            (false, false) => {
                toplevel(&window)
                    .filter(|it| !it.is_initial_configure_sent())
                    .map(|it| it.send_configure());
            }
            (false, true) => self.space.map_element(window, (0, 0), false),
            (true, false) => self.space.unmap_elem(&window),
            (true, true) => {}
        }
        // It may have another size.
        self.arrange();
        showed != shows
    }

    /// Tells the newest that shows something that it has the focus, and all others that they don't; its surface.
    pub(crate) fn activate_newest(&self) -> Option<WlSurface> {
        let newest = self.space.elements().next_back();
        for window in self.space.elements() {
            window.set_activated(Some(window) == newest);
            toplevel(window).map(ToplevelSurface::send_pending_configure);
        }
        Some(toplevel(newest?)?.wl_surface().clone())
    }

    /// Those that show something, bottom to top.
    pub(crate) fn shown(&self) -> impl DoubleEndedIterator<Item = Shown<'_>> {
        self.space.elements().filter_map(|window| {
            let place = Rectangle::new(self.space.element_location(window)?, self.size(window));
            Some(Shown { window, owner: window.user_data().get()?, place })
        })
    }

    /// Where the window whose surface this is shows something.
    pub(crate) fn place_of(&self, surface: &WlSurface) -> Option<Rectangle<i32, Logical>> {
        let is_it =
            |shown: &Shown<'_>| toplevel(shown.window).is_some_and(|it| it.wl_surface() == surface);
        self.shown().find(is_it).map(|shown| shown.place)
    }

    /// The screen.
    pub(crate) fn screen(&self) -> Rectangle<i32, Logical> {
        Rectangle::from_size(self.screen)
    }

    /// Tells clients of windows that they may draw the next frame.
    pub(crate) fn answer_frames(&self, time: Duration) {
        for window in self.space.elements() {
            window.send_frame(&self.output, time, None, |_, _| Some(self.output.clone()));
        }
    }

    /// Tells surfaces which screen they are on.
    pub(crate) fn refresh(&mut self) {
        self.space.refresh();
    }

    /// Puts all where they belong.
    fn arrange(&mut self) {
        let windows: Vec<_> = self.space.elements().cloned().collect();
        let sizes = windows.iter().map(|window| self.size(window)).collect::<Vec<_>>();
        let places = places(&sizes, self.screen);
        for (window, place) in windows.into_iter().zip(places) {
            // Each comes on top, so the order stays.
            self.space.map_element(window, place, false);
        }
    }

    /// How much of what a client draws is shown: at most the screen's size, whatever the client says.
    fn size(&self, window: &Window) -> Size<i32, Logical> {
        let size = window.geometry().size;
        (size.w.clamp(1, self.screen.w), size.h.clamp(1, self.screen.h)).into()
    }
}

impl Shown<'_> {
    /// What its client calls it, in one line.
    pub(crate) fn title(&self) -> String {
        let Some(toplevel) = toplevel(self.window) else { return String::new() };
        let title = with_states(toplevel.wl_surface(), |states| {
            let data = states.data_map.get::<XdgToplevelSurfaceData>()?;
            data.lock().ok()?.title.clone()
        });
        title.unwrap_or_default().replace(char::is_control, " ")
    }
}

/// Each window here has one: there is no X11.
pub(crate) fn toplevel(window: &Window) -> Option<&ToplevelSurface> {
    window.toplevel()
}

/// Where windows of these sizes go: from left to right, and on in a next row where the screen ends.
fn places(sizes: &[Size<i32, Logical>], screen: Size<i32, Logical>) -> Vec<Point<i32, Logical>> {
    let (mut next, mut bottom) = (Point::from((GAP, GAP)), 0);
    let place = |size: &Size<i32, Logical>| {
        if next.x > GAP && next.x + size.w + BORDER > screen.w {
            next = (GAP, bottom + GAP).into();
        }
        let place = next;
        next.x = place.x + size.w + GAP;
        bottom = bottom.max(place.y + size.h);
        place
    };
    sizes.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_stand_in_rows() {
        let sizes = [(100, 50), (200, 80), (116, 10), (117, 10), (1000, 10), (10, 10)];
        let sizes = sizes.map(Size::from);
        let expected = [(40, 40), (180, 40), (420, 40), (40, 160), (40, 210), (40, 260)];
        assert_eq!(places(&sizes, (540, 400).into()), expected.map(Point::from));
    }
}
