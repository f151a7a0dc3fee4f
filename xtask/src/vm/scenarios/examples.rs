//! The compositors of `examples/`, which link the shim, in the compositor VM in the place of sway and `serve`.

use super::super::lab::{Lab, Vm, picture_path};
use super::super::machine::USER;
use super::super::setup::DISPLAY;
use crate::demo::picture::Picture;
use crate::demo::sway::Rect;
use anyhow::{Context, Result, ensure};
use std::fs;

/// What opens each window: those of the first two are of one VM, the last is another's.
const CLIENTS: [(Vm, &str, &str); 3] = [
    (
        Vm::Work,
        "text",
        // Without a cursor, which is drawn otherwise in a window without the keyboard.
        r#"exec foot -w 300x150 sh -c 'printf "\033[?25l"; seq 5; exec sleep infinity'"#,
    ),
    (Vm::Work, "simple-shm", "exec weston-simple-shm"),
    (Vm::Untrusted, "gtk3-demo", "exec gtk3-demo"),
];

/// Those of them that stand still.
const STILL: [usize; 2] = [0, 2];

/// The screen: all windows stand beside each other.
const SCREEN: &str = "1500x700";

/// Pixels of a VM's colour around a window.
const BORDER: i64 = 4;

/// The colours of VMs and of local windows, as the tests of the examples have them (tests/src/example.rs).
const COLOURS: [(&str, [u8; 3]); 3] =
    [("-", [0x80, 0x80, 0x80]), ("work", [0x79, 0x40, 0xd0]), ("untrusted", [0x77, 0xd0, 0x40])];

/// What the compositor runs as, and where it tells that and its picture.
const NAME: &str = "example";
const PID: &str = "/tmp/example.pid";
const PICTURE: &str = "/tmp/example.png";

/// A window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// What the client draws.
    content: Rect,
    /// Whose it is, or `-` if it is local.
    vm: String,
}

/// An example shows windows of VMs: each has a border of its VM's colour, and what stands still is the same, pixel by pixel,
/// as if the client were the compositor VM's own.
pub(super) fn shows(lab: &mut Lab, example: &str) -> Result<()> {
    lab.strip(Vm::Gui)?;
    // Its libraries are beside it.
    let script = format!(
        "echo $$ >{PID}; LD_LIBRARY_PATH=/usr/local/bin exec {example}-shim --socket {DISPLAY} \
         --channel virtgpu --size {SCREEN} --picture {PICTURE}"
    );
    lab.start(Vm::Gui, USER, NAME, &script)?;
    lab.wait_for(Vm::Gui, DISPLAY, NAME)?;
    lab.wait_until_ready(true)?;

    let (local, windows) = settled(lab, example)?;
    let contents: Vec<Rect> = windows.iter().map(|window| window.content).collect();
    let mut seen = String::new();
    open(lab, |vm| vm)?;
    let same = lab.until("same picture", |lab| {
        let (through, windows) = picture(lab, &format!("example-{example}"))?;
        check(&through, &windows, |vm| vm.name())?;
        let places = windows.iter().map(|window| window.content);
        let are_there = places.eq(contents.iter().copied());
        let differing: usize =
            STILL.iter().map(|&at| local.differing(&through, contents[at])).sum();
        seen = format!("{differing} pixels differ; of {contents:?}, there are {windows:?}");
        Ok((are_there && differing == 0).then_some(()))
    });
    same.map_err(|error| error.context(seen))?;
    close(lab, |vm| vm)?;

    // Told once: while it ends, another signal ends it as it would any program.
    let end = format!(
        "pid=$(cat {PID}); kill $pid && while readlink /proc/$pid/exe >/dev/null; do sleep 0.05; done"
    );
    lab.text(Vm::Gui, 0, &end)?;
    let status = lab.end(Vm::Gui, NAME)?;
    ensure!(status == 0, "{example}-shim has ended with {status}");
    lab.wait_until_ready(false)?;
    lab.furnish(Vm::Gui)
}

/// Opens and closes the windows of local clients. A picture of what stands still, and where all windows were.
fn settled(lab: &mut Lab, example: &str) -> Result<(Picture, Vec<Window>)> {
    open(lab, |_| Vm::Gui)?;
    let name = format!("example-{example}-local");
    let (mut before, mut windows) = picture(lab, &name)?;
    lab.until("picture that stands still", |lab| {
        let (picture, now) = picture(lab, &name)?;
        let same = |&at: &usize| before.differing(&picture, now[at].content) == 0;
        let stands = now == windows && now.len() == CLIENTS.len() && STILL.iter().all(same);
        (before, windows) = (picture, now);
        Ok(stands.then_some(()))
    })?;
    check(&before, &windows, |_| "-")?;
    close(lab, |_| Vm::Gui)?;
    Ok((before, windows))
}

/// Each client's window is there, has drawn, and has a border of the right colour all around.
fn check(picture: &Picture, windows: &[Window], owner: impl Fn(Vm) -> &'static str) -> Result<()> {
    ensure!(windows.len() == CLIENTS.len(), "windows are there: {windows:?}");
    for (window, (vm, name, _)) in windows.iter().zip(CLIENTS) {
        let owner = owner(vm);
        ensure!(window.vm == owner, "{name} is of {}, not of {owner}", window.vm);
        ensure!(picture.shows_content(window.content), "{name} has drawn nothing");
        let colour = COLOURS.iter().find(|(vm, _)| *vm == owner).map(|(_, colour)| *colour);
        for side in border(window.content) {
            let found = picture.only_colour(side);
            ensure!(found == colour, "{name} of {owner}: {found:?} at {side:?}, not {colour:?}");
        }
    }
    Ok(())
}

/// The border around a content: above, below, on the left, on the right.
fn border(content: Rect) -> [Rect; 4] {
    let Rect { x, y, width, height } = content;
    let (left, whole) = (x - BORDER, width + 2 * BORDER);
    [
        Rect { x: left, y: y - BORDER, width: whole, height: BORDER },
        Rect { x: left, y: y + height, width: whole, height: BORDER },
        Rect { x: left, y, width: BORDER, height },
        Rect { x: x + width, y, width: BORDER, height },
    ]
}

/// Opens the windows one after the other, each where `place` says.
fn open(lab: &mut Lab, place: impl Fn(Vm) -> Vm) -> Result<()> {
    for (at, (vm, name, script)) in CLIENTS.into_iter().enumerate() {
        let vm = place(vm);
        let before = commits(lab, vm)?;
        lab.start(vm, USER, name, script)?;
        if vm != Vm::Gui {
            // One without a buffer, and one with it. Pictures take the compositor all its time, so they come after that.
            lab.until(&format!("frame of {name}"), |lab| {
                Ok((commits(lab, vm)? >= before + 2).then_some(()))
            })?;
        }
        lab.until(&format!("window of {name}"), |lab| {
            let (picture, windows) = picture(lab, "example")?;
            let window = windows.get(at);
            Ok(window.is_some_and(|window| picture.shows_content(window.content)).then_some(()))
        })?;
    }
    Ok(())
}

/// How often clients of a VM have committed.
fn commits(lab: &mut Lab, vm: Vm) -> Result<u64> {
    let status = lab.status()?;
    let commits = status["vms"][vm.name()]["commits"].as_u64();
    commits.with_context(|| format!("no commits of {vm}: {status}"))
}

fn close(lab: &mut Lab, place: impl Fn(Vm) -> Vm) -> Result<()> {
    for (vm, name, _) in CLIENTS {
        lab.end(place(vm), name)?;
    }
    lab.until("windows' end", |lab| Ok(picture(lab, "example")?.1.is_empty().then_some(())))
}

/// What the example shows, also in `target/vm/NAME.png`.
fn picture(lab: &mut Lab, name: &str) -> Result<(Picture, Vec<Window>)> {
    // It tells the windows, and then that the picture is written. Whoever has ended tells nothing more.
    let log = format!("/run/log/{NAME}");
    let ask = format!(
        "pid=$(cat {PID}); before=$(wc -c <{log}); kill -USR1 $pid || exit 1; \
         until tail -c +$((before + 1)) {log} | grep '^picture ' >/dev/null; do \
         kill -0 $pid || exit 1; sleep 0.05; done; tail -c +$((before + 1)) {log}"
    );
    let told = lab.text(Vm::Gui, 0, &ask)?;
    let windows = told.lines().filter_map(|line| line.strip_prefix("window "));
    let windows = windows
        .map(|line| window(line).with_context(|| format!("not a window: {line}")))
        .collect::<Result<_>>()?;
    let path = picture_path(name);
    let png = lab.bytes(Vm::Gui, 0, &format!("cat {PICTURE}"))?;
    fs::write(&path, png).with_context(|| format!("can't write {}", path.display()))?;
    Ok((Picture::read(&path)?, windows))
}

/// `X Y WIDTH HEIGHT VM TITLE`.
fn window(line: &str) -> Option<Window> {
    let mut words = line.splitn(6, ' ');
    let mut number = || words.next()?.parse().ok();
    let (x, y, width, height) = (number()?, number()?, number()?, number()?);
    Some(Window { content: Rect { x, y, width, height }, vm: words.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_and_has_a_border() {
        let content = Rect { x: 40, y: 50, width: 3, height: 2 };
        let expected = Window { content, vm: "work".to_owned() };
        assert_eq!(window("40 50 3 2 work [work] a b"), Some(expected.clone()));
        assert_eq!(window("40 50 3 2 work"), Some(expected));
        assert_eq!(window("40 50 3"), None);
        let pixels: i64 = border(content).iter().map(|side| side.width * side.height).sum();
        assert_eq!(pixels, 11 * 10 - 3 * 2);
    }
}
