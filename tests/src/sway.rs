//! sway's control socket: asking, telling, and waiting until something is so.

use crate::Tag;
use crate::wait::PATIENCE;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What every message begins with (sway-ipc(7)).
const MAGIC: &[u8; 6] = b"i3-ipc";
/// Message types of sway-ipc(7).
const RUN_COMMAND: u32 = 0;
const SUBSCRIBE: u32 = 2;
const GET_OUTPUTS: u32 = 3;
const GET_TREE: u32 = 4;
/// Longest message that sway would send about a few windows, in bytes.
const LONGEST: usize = 1 << 24;

/// A connection to sway's control socket.
#[derive(Debug)]
pub struct Sway {
    path: PathBuf,
    socket: UnixStream,
}

/// A window as sway sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// sway's number of it.
    pub id: u64,
    /// Its title.
    pub title: String,
    /// Its app id.
    pub app_id: String,
    /// Where its upper left corner is on the screen, in pixels.
    pub position: (i64, i64),
    /// Its size in logical pixels.
    pub size: (i64, i64),
    /// Whether it floats, and so can be placed.
    pub floating: bool,
    /// What the connection of its client is tagged with, if it is, and if this sway tells.
    pub tag: Option<Tag>,
}

impl Sway {
    pub(crate) fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("sway's control socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline that isn't zero");
        Self { path: path.to_owned(), socket }
    }

    /// All windows that are mapped.
    pub fn windows(&mut self) -> Vec<Window> {
        let mut windows = Vec::new();
        collect(&self.ask(GET_TREE, ""), &mut windows);
        windows
    }

    /// The names of all outputs.
    pub fn outputs(&mut self) -> Vec<String> {
        let outputs = self.ask(GET_OUTPUTS, "");
        let names = outputs.as_array().into_iter().flatten();
        names.filter_map(|output| output["name"].as_str().map(str::to_owned)).collect()
    }

    /// Runs a command, such as `[con_id=5] move absolute position 10 20`.
    ///
    /// When it returns, sway has sent the configures that follow from it.
    pub fn command(&mut self, command: &str) {
        let answer = self.ask(RUN_COMMAND, command);
        assert!(answer[0]["success"] == true, "{command}: {answer}");
    }

    /// Moves a window's upper left corner.
    pub fn place(&mut self, id: u64, x: i64, y: i64) {
        self.command(&format!("[con_id={id}] move absolute position {x} {y}"));
    }

    /// Waits until `found` finds something among the windows.
    ///
    /// # Panics
    /// After [`PATIENCE`], naming `what`.
    pub fn wait<T>(&mut self, what: &str, found: impl FnMut(&[Window]) -> Option<T>) -> T {
        self.wait_within(PATIENCE, what, found)
    }

    /// The same with a deadline of one's own.
    pub fn wait_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut found: impl FnMut(&[Window]) -> Option<T>,
    ) -> T {
        // Subscribed first, so that nothing happens unseen between a look and the wait.
        let mut events = Self::connect(&self.path);
        events.ask(SUBSCRIBE, "[\"window\"]");
        let deadline = Instant::now() + patience;
        loop {
            let windows = self.windows();
            if let Some(found) = found(&windows) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {patience:?} in vain for {what}; there is {windows:?}"
            );
            events.socket.set_read_timeout(Some(left)).expect("not zero");
            assert!(
                events.receive().is_some(),
                "waited {patience:?} in vain for {what}; there is {windows:?}"
            );
        }
    }

    /// Waits for a window whose title ends with `title`.
    pub fn window(&mut self, title: &str) -> Window {
        self.wait(title, |windows| windows.iter().find(|w| w.title.ends_with(title)).cloned())
    }

    /// Waits until there is no window.
    pub fn empty(&mut self) {
        self.wait("an empty screen", |windows| windows.is_empty().then_some(()));
    }

    fn ask(&mut self, kind: u32, payload: &str) -> Value {
        let mut message = MAGIC.to_vec();
        message.extend((payload.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(payload.as_bytes());
        self.socket.write_all(&message).expect("sway listens");
        self.receive().expect("sway answers")
    }

    fn receive(&mut self) -> Option<Value> {
        let mut header = [0; 14];
        self.socket.read_exact(&mut header).ok()?;
        let length = u32::from_ne_bytes(header[6..10].try_into().ok()?) as usize;
        assert!(header.starts_with(MAGIC) && length <= LONGEST, "not sway's control socket");
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

/// Windows are the nodes with a process.
fn collect(node: &Value, windows: &mut Vec<Window>) {
    if node["pid"].is_u64() {
        let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| node["rect"][key].as_i64().unwrap_or_default();
        let tag = node["sandbox_engine"].is_string().then(|| Tag {
            engine: text("sandbox_engine"),
            app_id: text("sandbox_app_id"),
            instance_id: text("sandbox_instance_id"),
        });
        windows.push(Window {
            tag,
            id: node["id"].as_u64().unwrap_or_default(),
            title: text("name"),
            app_id: text("app_id"),
            position: (number("x"), number("y")),
            size: (number("width"), number("height")),
            floating: node["type"] == "floating_con" && node["fullscreen_mode"] == 0,
        });
    }
    for key in ["nodes", "floating_nodes"] {
        for child in node[key].as_array().into_iter().flatten() {
            collect(child, windows);
        }
    }
}
