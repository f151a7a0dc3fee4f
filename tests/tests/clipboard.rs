//! What is copied in one VM is pasted in another, or by a client of the compositor's own, and the other way round.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use wlproxy_tests::{DATA_CONTROL, Desk, Dice, Display, Kind, Plan, Suite, until};

/// Much more than any pipe or socket takes at once.
const SIZE: usize = 1 << 20;

/// One copy after the other; each replaces the one before.
struct Clipboard {
    desk: Desk,
    copies: u32,
    /// Which selection it is, as an option of wl-copy and wl-paste.
    selection: &'static [&'static str],
    /// Whose wl-copy and wl-paste, if not the machine's.
    suite: Option<Suite>,
}

impl Clipboard {
    /// Something is copied: `content`. Returns its MIME type, by which it is told from what was copied before.
    fn copy(&mut self, display: &Display, content: &[u8]) -> String {
        self.copies += 1;
        let kind = format!("application/x-copy-{}", self.copies);
        let file = self.file("content");
        fs::write(&file, content).expect("a file in our own folder");
        // In the foreground it lives until something else is copied.
        let script = "tool=$1; from=$2; shift 2; exec \"$tool\" --foreground --type \"$0\" \"$@\" < \"$from\"";
        let file = file.to_str().expect("a temporary path is text");
        let tool = self.tool("wl-copy");
        let tool = tool.to_str().expect("the workspace's path is text");
        let arguments = [&["-c", script, &kind, tool, file], self.selection].concat();
        self.desk.app(display, "sh", &arguments);
        kind
    }

    /// What was copied as `kind`, as soon as it can be pasted.
    fn paste(&self, display: &Display, kind: &str) -> Vec<u8> {
        let pasted = self.file("pasted");
        until("something to paste", || {
            let output = File::create(&pasted).expect("a file in our own folder");
            let mut command = self.desk.command(self.tool("wl-paste"));
            command.args(["--no-newline", "--type", kind]).args(self.selection);
            let mut command = display.command(command);
            command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
            let mut child = command.spawn().expect("wl-paste can be started");
            let status = until("the end of wl-paste", || {
                child.try_wait().expect("a child can be waited for")
            });
            status.success().then_some(())
        });
        fs::read(pasted).expect("it was just written")
    }

    /// Fails the test unless every transfer has ended.
    fn idle(&self) {
        for vm in ["work", "untrusted"] {
            until("the end of all pipes", || (self.desk.vm(vm).stats("pipes") == 0).then_some(()));
            assert_eq!(self.desk.status(vm, "violations"), 0);
        }
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.suite.map_or_else(|| name.into(), |suite| suite.program(name))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.desk.folder().join(name)
    }
}

/// `size` bytes that nobody can guess.
fn random(dice: &mut Dice, size: usize) -> Vec<u8> {
    (0..size).map(|_| dice.roll(256) as u8).collect()
}

#[test]
fn copies_are_pasted_everywhere() {
    pasted_everywhere(Plan::default(), &[0, 1, SIZE], &[]);
}

#[test]
fn copies_are_pasted_everywhere_with_a_compositor_on_the_host() {
    let plan = Plan { compositor_vm: false, ..Plan::default() };
    pasted_everywhere(plan, &[0, 1, SIZE], &[]);
}

#[test]
fn what_is_selected_is_pasted_everywhere() {
    pasted_everywhere(Plan::default(), &[SIZE], &["--primary"]);
}

/// A newer wl-clipboard, over ext_data_control, which needs no focus.
#[test]
fn copies_of_a_newer_debian_are_pasted_everywhere() {
    let plan = Plan {
        compositor: Kind::Newer(Suite::Forky),
        serve: &["--security-context", "off"],
        ..Plan::default()
    };
    pasted_everywhere(plan, &[0, 1, SIZE], &[]);
}

fn pasted_everywhere(plan: Plan, sizes: &[usize], selection: &'static [&'static str]) {
    let suite = match plan.compositor {
        Kind::Newer(suite) => Some(suite),
        _ => None,
    };
    let desk = Desk::start(Plan { vms: &["work", "untrusted"], allow: DATA_CONTROL, ..plan });
    let places = [desk.through("work"), desk.direct(), desk.through("untrusted")];
    let mut dice = Dice::new(7);
    let mut clipboard = Clipboard { desk, copies: 0, selection, suite };
    for from in 0..places.len() {
        for &size in sizes {
            let content = random(&mut dice, size);
            let kind = clipboard.copy(&places[from], &content);
            for (to, place) in places.iter().enumerate() {
                let pasted = clipboard.paste(place, &kind);
                assert!(
                    pasted == content,
                    "place {from} to {to}: {size} bytes became {}",
                    pasted.len()
                );
            }
        }
    }
    clipboard.idle();
}

/// Whoever pastes reads one byte and leaves: the other side's pipe breaks, as it would on one machine.
#[test]
fn a_paste_that_is_cut_short_leaves_nothing() {
    let plan = Plan { vms: &["work", "untrusted"], allow: DATA_CONTROL, ..Plan::default() };
    let desk = Desk::start(plan);
    let places = [desk.through("work"), desk.direct(), desk.through("untrusted")];
    let mut clipboard = Clipboard { desk, copies: 0, selection: &[], suite: None };
    let content = random(&mut Dice::new(8), SIZE);
    for from in &places {
        let kind = clipboard.copy(from, &content);
        for to in &places {
            assert!(clipboard.paste(to, &kind) == content);
            let script = "wl-paste --no-newline --type \"$0\" | head -c 1 > /dev/null";
            let mut command = clipboard.desk.command("sh");
            command.args(["-c", script, &kind]);
            clipboard.desk.adopt("cut", to.command(command), false).wait();
        }
    }
    // Killed while somebody may still paste.
    clipboard.desk.kill_apps();
    clipboard.idle();
}
