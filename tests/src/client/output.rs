//! Outputs, and on which of them a surface is.

use super::{Client, State};
use wayland_client::protocol::{
    wl_output::{self, WlOutput},
    wl_surface::{self, WlSurface},
};
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle};

/// An output that the client has bound.
#[derive(Debug)]
pub struct Output {
    /// The global's name.
    pub name: u32,
    /// The object.
    pub output: WlOutput,
    /// Buffer pixels for each logical one; 0 until the compositor has told.
    pub scale: i32,
    /// Whether a surface is on it.
    pub entered: bool,
}

impl Client {
    /// Binds the outputs that aren't bound yet, and forgets those that are gone.
    pub fn bind_outputs(&mut self) {
        let globals = self.state.globals.iter().filter(|global| global.1 == "wl_output");
        let names: Vec<u32> = globals.map(|global| global.0).collect();
        for gone in self.state.outputs.extract_if(.., |output| !names.contains(&output.name)) {
            gone.output.release();
        }
        for name in names {
            if self.state.outputs.iter().all(|output| output.name != name) {
                let output = self.registry.bind(name, 3, &self.handle(), ());
                self.state.outputs.push(Output { name, output, scale: 0, entered: false });
            }
        }
    }
}

impl State {
    /// Scale and presence of each output, in the order in which they came.
    pub fn outputs(&self) -> Vec<(i32, bool)> {
        self.outputs.iter().map(|output| (output.scale, output.entered)).collect()
    }

    fn output(&mut self, object: &WlOutput) -> Option<&mut Output> {
        self.outputs.iter_mut().find(|output| output.output.id() == object.id())
    }
}

impl Dispatch<WlOutput, ()> for State {
    fn event(
        state: &mut Self,
        object: &WlOutput,
        event: wl_output::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_output::Event::Scale { factor } = event
            && let Some(output) = state.output(object)
        {
            output.scale = factor;
        }
    }
}

impl Dispatch<WlSurface, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlSurface,
        event: wl_surface::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let (object, entered) = match event {
            wl_surface::Event::Enter { output } => (output, true),
            wl_surface::Event::Leave { output } => (output, false),
            _ => return,
        };
        if let Some(output) = state.output(&object) {
            output.entered = entered;
        }
    }
}
