//! Asks and tells sway over its IPC socket (sway-ipc(7)).

use super::scene::SWAY;
use crate::failure::Blame;
use anyhow::{Context, Error, Result, anyhow, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What every message starts with.
const MAGIC: &[u8; 6] = b"i3-ipc";

/// Magic, length of the payload, type.
const HEADER: usize = MAGIC.len() + 8;

/// Longest message that is believed, in bytes: a tree of some hundred windows has less than one MiB.
const MAX_PAYLOAD: usize = 16 << 20;

/// How long sway may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

const RUN_COMMAND: u32 = 0;
const SUBSCRIBE: u32 = 2;
const GET_TREE: u32 = 4;

/// A rectangle on the screen, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rect {
    pub(crate) x: i64,
    pub(crate) y: i64,
    pub(crate) width: i64,
    pub(crate) height: i64,
}

/// A window as sway sees it. It is mapped: it has content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) id: i64,
    pub(crate) app_id: String,
    pub(crate) title: String,
    /// Whether it is on a workspace that is shown.
    pub(crate) visible: bool,
    /// Where its content is, without what sway draws around it.
    pub(crate) content: Rect,
}

/// A connection to sway.
pub(crate) struct Sway(UnixStream);

impl Sway {
    /// Connects.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("can't connect to it at {}", socket.display()))
            .context(Blame::on(&[SWAY]))?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Self(stream))
    }

    /// Runs commands; all must succeed.
    pub(crate) fn command(&mut self, commands: &str) -> Result<()> {
        let answer = self.ask(RUN_COMMAND, commands)?;
        let results = answer.as_array().ok_or_else(|| fault("its answer isn't a list"))?;
        match results.iter().find(|result| result["success"] != true) {
            Some(failed) => Err(fault(&format!("it refuses `{commands}`: {}", failed["error"]))),
            None => Ok(()),
        }
    }

    /// All windows.
    pub(crate) fn views(&mut self) -> Result<Vec<View>> {
        Ok(views(&self.ask(GET_TREE, "")?))
    }

    fn ask(&mut self, kind: u32, payload: &str) -> Result<Value> {
        self.exchange(kind, payload).context(Blame::on(&[SWAY]))
    }

    fn exchange(&mut self, kind: u32, payload: &str) -> Result<Value> {
        send(&mut self.0, kind, payload)?;
        let (answered, answer) = receive(&mut self.0)?;
        if answered != kind {
            bail!("it answered {kind} with {answered}");
        }
        Ok(answer)
    }
}

/// Wakes up when a window comes, goes or changes.
pub(crate) struct Changes(UnixStream);

impl Changes {
    /// Subscribes.
    pub(crate) fn subscribe(socket: &Path) -> Result<Self> {
        let mut sway = Sway::connect(socket)?;
        if sway.ask(SUBSCRIBE, r#"["window"]"#)?["success"] != true {
            return Err(fault("it refuses to tell of windows"));
        }
        sway.0.set_nonblocking(true)?;
        Ok(Self(sway.0))
    }

    /// Forgets the changes until now. What they were is read from the tree.
    pub(crate) fn drain(&mut self) {
        let mut bytes = [0; 65536];
        while matches!(self.0.read(&mut bytes), Ok(n) if n > 0) {}
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What sway does wrong.
fn fault(what: &str) -> Error {
    anyhow!("{what}").context(Blame::on(&[SWAY]))
}

fn send(stream: &mut impl Write, kind: u32, payload: &str) -> Result<()> {
    let length = u32::try_from(payload.len())?;
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.extend_from_slice(MAGIC);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(payload.as_bytes());
    stream.write_all(&message).context("it takes no commands")
}

fn receive(stream: &mut impl Read) -> Result<(u32, Value)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).context("it doesn't answer")?;
    let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let (length, kind) = (word(MAGIC.len()) as usize, word(MAGIC.len() + 4));
    if !header.starts_with(MAGIC) || length > MAX_PAYLOAD {
        bail!("what answers isn't sway");
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).context("it stops in the middle of an answer")?;
    Ok((kind, serde_json::from_slice(&payload).context("its answer is no JSON")?))
}

/// All windows of a tree as sway tells it.
pub(crate) fn views(tree: &Value) -> Vec<View> {
    let mut views = Vec::new();
    collect(tree, &mut views);
    views
}

fn collect(node: &Value, views: &mut Vec<View>) {
    views.extend(view(node));
    for children in ["nodes", "floating_nodes"] {
        for child in node[children].as_array().into_iter().flatten() {
            collect(child, views);
        }
    }
}

/// The window that a node of the tree is, if it is one.
fn view(node: &Value) -> Option<View> {
    let (outer, inner) = (rect(&node["rect"])?, rect(&node["window_rect"])?);
    Some(View {
        id: node["id"].as_i64()?,
        app_id: node["app_id"].as_str()?.to_owned(),
        title: node["name"].as_str().unwrap_or_default().to_owned(),
        visible: node["visible"].as_bool()?,
        content: Rect { x: outer.x + inner.x, y: outer.y + inner.y, ..inner },
    })
}

fn rect(value: &Value) -> Option<Rect> {
    let number = |name: &str| value[name].as_i64();
    Some(Rect {
        x: number("x")?,
        y: number("y")?,
        width: number("width")?,
        height: number("height")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_are_found_at_any_depth() {
        let rect = |x, y, width, height| json!({"x": x, "y": y, "width": width, "height": height});
        let window = json!({
            "id": 7, "app_id": "foot", "name": "t", "visible": false,
            "rect": rect(210, 305, 564, 302), "window_rect": rect(2, 0, 560, 300),
            "nodes": [], "floating_nodes": [],
        });
        let tree = json!({
            "id": 1, "app_id": null, "rect": rect(0, 0, 9, 9), "window_rect": rect(0, 0, 0, 0),
            "nodes": [{"id": 2, "nodes": [], "floating_nodes": [window]}],
        });
        let content = Rect { x: 212, y: 305, width: 560, height: 300 };
        let expected =
            View { id: 7, app_id: "foot".into(), title: "t".into(), visible: false, content };
        assert_eq!(views(&tree), [expected]);
    }

    #[test]
    fn what_is_sent_can_be_received() {
        let mut bytes = Vec::new();
        send(&mut bytes, GET_TREE, "[1]").unwrap();
        assert_eq!(receive(&mut bytes.as_slice()).unwrap(), (GET_TREE, json!([1])));
    }

    #[test]
    fn what_is_not_sway_is_refused() {
        let mut long = Vec::from(MAGIC);
        long.extend_from_slice(&u32::MAX.to_ne_bytes());
        long.extend_from_slice(&[0; 4]);
        for bytes in [&b"HTTP/1.1 400 Bad"[..], &long, b"i3-"] {
            assert!(receive(&mut &*bytes).is_err());
        }
    }
}
