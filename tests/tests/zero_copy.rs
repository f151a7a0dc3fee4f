//! Unmodified applications that draw into memory which the compositor sees: nothing is copied, and all looks the same.

use anyhow::Result;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use wlproxy_tests::Effect::Picture;
use wlproxy_tests::Step::{Click, Key, Keys, Sway};
use wlproxy_tests::{App, Close, Desk, Image, Kind, Part, Plan, Step, Suite, until};

/// Keys of linux/input-event-codes.h.
const KEY_ESC: u32 = 1;
const KEY_RIGHT: u32 = 106;
const KEY_A: u32 = 30;
const KEY_UP: u32 = 103;
const KEY_DOWN: u32 = 108;

/// Frames of which none is copied.
const FRAMES: u64 = 300;

/// A desk whose only client VM has an agent that lends.
fn desk() -> Desk {
    Desk::start(Plan { vms: &["lent"], lending: &["lent"], ..Plan::default() })
}

/// The same with weston, which has no keyboard.
fn weston_desk() -> Desk {
    let compositor = Kind::Weston;
    Desk::start(Plan { compositor, vms: &["lent"], lending: &["lent"], ..Plan::default() })
}

/// Shows each key as a character, until the terminal goes.
const ECHO: &str = r"trap 'exit 0' HUP TERM; stty -echo -icanon; printf '\033[?25l'; cat -v";

const FOOT: App = App {
    suite: None,
    name: "foot",
    command: &[
        "foot",
        "--config=/dev/null",
        "--font=DejaVu Sans Mono:size=12",
        "--window-size-pixels=400x240",
        "sh",
        "-c",
        ECHO,
    ],
    environment: &[],
    files: &[],
    window: "foot",
    steps: &[
        Keys(&[KEY_A], FRAMES as usize + 5, Picture),
        Sway(
            "[app_id=foot] resize set width 500 px height 320 px, move absolute position 20 20",
            Picture,
        ),
        Keys(&[KEY_A], 10, Picture),
        Sway(
            "[app_id=foot] resize set width 300 px height 200 px, move absolute position 20 20",
            Picture,
        ),
        Keys(&[KEY_A], 10, Picture),
    ],
    says: &[],
    close: Close::Window,
};

#[test]
fn foot_has_nothing_copied() -> Result<()> {
    FOOT.live_twice_on(desk())
}

/// With other versions of the C library and of libwayland.
#[test]
fn foot_of_newer_debians_has_nothing_copied() -> Result<()> {
    for suite in [Suite::Trixie, Suite::Forky] {
        App { suite: Some(suite), ..FOOT }.live_twice_on(desk())?;
    }
    Ok(())
}

#[test]
fn gtk3_has_nothing_copied_in_windows_and_popups() -> Result<()> {
    App {
        suite: None,
        name: "gtk3-application",
        command: &["gtk3-demo-application"],
        environment: &[
            ("GDK_BACKEND", "wayland"),
            ("GTK_OVERLAY_SCROLLING", "0"),
            ("GSETTINGS_BACKEND", "memory"),
            ("NO_AT_BRIDGE", "1"),
        ],
        files: &[
            (
                ".config/gtk-3.0/settings.ini",
                "[Settings]\ngtk-cursor-blink=0\ngtk-enable-animations=0\n",
            ),
            (
                ".config/gtk-3.0/gtk.css",
                "* { transition: none; animation: none; } decoration, window { box-shadow: none; }",
            ),
        ],
        window: "gtk3-demo-application",
        steps: &[
            // Into the text.
            Click(130, 115, Picture),
            Keys(&[KEY_A], FRAMES as usize + 5, Picture),
            // A menu.
            Click(48, 13, Picture),
            Keys(&[KEY_DOWN, KEY_UP], FRAMES as usize + 5, Picture),
            Key(KEY_RIGHT, Picture),
            Key(KEY_ESC, Picture),
        ],
        says: &[],
        close: Close::Window,
    }
    .live_twice_on(desk())
}

/// It draws all the time, so it is stopped to be compared: what is on the screen has to
/// be what is in its own memory.
#[test]
fn weston_simple_shm_has_nothing_copied() {
    let mut desk = weston_desk();
    let display = desk.through("lent");
    desk.app(&display, "weston-simple-shm", &[]);
    let frames = |desk: &Desk, least| {
        let vm = desk.vm("lent");
        until("frames", || (vm.stats("frames") >= least).then_some(()));
        (vm.stats("seen_frames"), vm.stats("copied_bytes"))
    };
    let (seen, copied) = frames(&desk, 5);
    let after = frames(&desk, 5 + FRAMES);
    assert_eq!(after.1, copied);
    assert!(after.0 >= seen + FRAMES - 1, "{seen} frames were seen, then {}", after.0);
    let app = desk.apps().next().unwrap();
    app.signal(Signal::SIGSTOP);
    let drawn = drawn(app.id(), 250, 250);
    assert_eq!(drawn.len(), 2, "it has two buffers");
    until("what it has drawn, on the screen", || {
        let screen = desk.screenshot();
        drawn.iter().any(|image| screen.contains(image)).then_some(())
    });
    desk.apps().next().unwrap().signal(Signal::SIGCONT);
    desk.close();
    nothing_is_lent(&desk);
}

/// What a process has in its mappings of allocations: wl_buffers of this size, each at the beginning of one.
fn drawn(id: u32, width: usize, height: usize) -> Vec<Image> {
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{id}/mem")).unwrap();
    let lines = maps.lines().filter(|line| line.contains("wlproxy-allocation"));
    lines
        .map(|line| {
            let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
            let mut pixels = vec![0; width * height * 4];
            memory.read_exact_at(&mut pixels, start).unwrap();
            // weston-simple-shm crosses out what it draws, in the bytes that don't matter, which weston's screenshots take
            // for opacity.
            pixels
                .chunks_exact_mut(4)
                .filter(|pixel| pixel[3] == 0)
                .for_each(|pixel| pixel.fill(0));
            Image::from_xrgb(&pixels, width, height)
        })
        .collect()
}

/// Waits until an agent has back all that it has lent.
fn nothing_is_lent(desk: &Desk) {
    until("the end of what is lent", || (desk.vm("lent").stats("lent") == 0).then_some(()));
}

/// Compiles a library that keeps an fd of every memfd, and looks at them when it is asked to.
fn looker(desk: &Desk) -> &'static str {
    let library = desk.folder().join("look.so").to_str().unwrap().to_owned().leak();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/look.c");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o", library, source]).status();
    assert!(cc.expect("the C compiler that links this").success());
    library
}

/// A client that is demoted in the middle of its work: what is on the screen is the same, and the agent copies from then on.
#[test]
fn a_demoted_client_looks_the_same() -> Result<()> {
    let mut desk = desk();
    let text = |name: &str| &*desk.folder().join(name).to_str().unwrap().to_owned().leak();
    let (library, pipe, looked) = (looker(&desk), text("look"), text("look.done"));
    nix::unistd::mkfifo(pipe, Mode::S_IRWXU)?;
    let environment = [("LD_PRELOAD", library), ("LOOK", pipe), ("LOOKED", looked)];
    let demote = Step::Poke(pipe);
    App {
        environment: Box::leak(Box::new(environment)),
        steps: Box::leak(Box::new([
            Keys(&[KEY_A], 20, Picture),
            demote,
            Key(KEY_A, Picture),
            Key(KEY_A, Picture),
            demote,
            Key(KEY_A, Picture),
            Sway(
                "[app_id=foot] resize set width 500 px height 320 px, move absolute position 20 20",
                Picture,
            ),
            // New pools: nothing is copied again, until it is demoted again.
            Keys(&[KEY_A], 20, Picture),
            demote,
            Key(KEY_A, Picture),
        ])),
        ..FOOT
    }
    .live_everywhere(&mut desk)?;
    let vm = desk.vm("lent");
    assert!(vm.stats("demotions") >= 2, "{} demotions", vm.stats("demotions"));
    assert!(vm.stats("copied_bytes") > 0);
    nothing_is_lent(&desk);
    Ok(())
}

/// A window that is resized has other buffers each time; those before go back to the host.
#[test]
fn what_is_lent_comes_back_while_its_client_lives() {
    let mut desk = desk();
    desk.app(&desk.through("lent"), "foot", &["--config=/dev/null", "yes"]);
    let window = desk.sway().wait("its window", |windows| windows.first().cloned());
    for step in 0..40 {
        let seen = desk.vm("lent").stats("seen_frames");
        let size = format!("{} px height {} px", 300 + 5 * step, 200 + 5 * step);
        desk.sway().command(&format!("[con_id={}] resize set width {size}", window.id));
        until("a frame", || (desk.vm("lent").stats("seen_frames") > seen).then_some(()));
    }
    // Two or three that it draws into, and those of the last size.
    until("most of it back", || (desk.vm("lent").stats("lent") <= 6).then_some(()));
    desk.close();
    nothing_is_lent(&desk);
}

/// Whatever dies under a client that draws into what it was lent: it is disconnected, and nothing worse. The next one has
/// nothing copied again.
#[test]
fn whatever_dies_clients_are_just_disconnected() {
    let mut desk = desk();
    for part in
        [Part::Proxy, Part::Worker("lent"), Part::Worker("gui"), Part::Serve, Part::Run("lent")]
    {
        let display = desk.through("lent");
        let yes = ["--config=/dev/null", "yes"];
        let seen = |desk: &Desk| desk.vm("lent").stats("seen_frames");
        let before = seen(&desk);
        desk.app(&display, "foot", &yes);
        until("frames that are seen", || (seen(&desk) > before + 5).then_some(()));
        desk.kill(part);
        let status = desk.apps().next().unwrap().wait();
        assert!(status.code().is_some(), "{part:?} killed: foot ended with {status}");
        desk.close();
        desk.revive(part);
        desk.ready("lent");
        let before = seen(&desk);
        until("a client that is served, and has nothing copied", || {
            if desk.apps().next().is_none_or(|app| !app.running()) {
                desk.close();
                desk.app(&display, "foot", &yes);
            }
            (seen(&desk) > before + 5).then_some(())
        });
        desk.close();
        nothing_is_lent(&desk);
    }
    desk.take_baseline();
}

/// What a terminal starts has nothing of ours, and may become somebody else.
#[test]
fn what_a_client_starts_is_not_affected() -> Result<()> {
    let mut desk = desk();
    let helper = desk.folder().join("other-user");
    fs::copy("/usr/bin/id", &helper)?;
    let other = 12_345;
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&helper, Some(other), Some(other))?;
    }
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755))?;
    let direct = String::from_utf8(Command::new(&helper).arg("-u").output()?.stdout)?;
    let script = format!(
        "env > env; grep NoNewPrivs /proc/self/status > privileges; {} -u > id; cat /proc/self/maps > maps",
        helper.display()
    );
    let mut command = desk.command("foot");
    command.args(["--config=/dev/null", "sh", "-c", &script]).current_dir(desk.folder());
    let command = desk.through("lent").command(command);
    let foot = desk.adopt("foot", command, false);
    assert!(foot.wait().success());
    let read = |name: &str| fs::read_to_string(desk.folder().join(name));
    let env = read("env")?;
    assert!(env.contains("WAYLAND_DISPLAY=") && !env.contains("LD_PRELOAD"), "{env}");
    assert!(!env.contains("WLPROXY_LEND"), "{env}");
    assert_eq!(read("privileges")?, "NoNewPrivs:\t0\n");
    assert!(!read("maps")?.contains("wlproxy"));
    assert_eq!(read("id")?, direct);
    if direct.trim() != other.to_string() {
        eprintln!(
            "not tried: a program of another user's, for want of root or of a file system that lets it"
        );
    }
    Ok(())
}

/// In a VM the fd of an allocation is a dma-buf or a virtwl vfd: no other system call may name it than those that map it
/// whole, duplicate, close or send it, or compare it.
#[test]
fn nothing_else_is_done_with_what_is_lent() {
    let mut desk = desk();
    let foot = ["foot", "--config=/dev/null", "sh", "-c", "seq 3000; sleep 1; seq 3000; read x"];
    let gtk = ["env", "GDK_BACKEND=wayland", "GSETTINGS_BACKEND=memory", "NO_AT_BRIDGE=1"];
    let gtk = [&gtk[..], &["gtk3-demo-application"]].concat();
    let clients = [
        (None, &foot[..], "foot"),
        // One that keeps its fds.
        (Some(looker(&desk)), &foot, "foot"),
        (None, &gtk, "gtk3-demo-application"),
    ];
    for (preload, client, app_id) in clients {
        let before = desk.vm("lent").stats("seen_frames");
        let trace = trace(&mut desk, preload, client);
        let window = desk.sway().wait("its window", |windows| windows.first().cloned());
        assert_eq!(window.app_id, format!("lent.{app_id}"));
        desk.sway()
            .command(&format!("[con_id={}] resize set width 420 px height 330 px", window.id));
        until("frames", || (desk.vm("lent").stats("seen_frames") > before + 2).then_some(()));
        desk.sway().command(&format!("[con_id={}] kill", window.id));
        desk.sway().empty();
        desk.close();
        check_trace(&trace);
    }
    nothing_is_lent(&desk);
}

/// The same with a client that sway is too slow for at times.
#[test]
fn nothing_else_is_done_with_what_is_lent_on_weston() {
    let mut desk = weston_desk();
    let trace = trace(&mut desk, None, &["weston-simple-shm"]);
    until("frames", || (desk.vm("lent").stats("seen_frames") > 20).then_some(()));
    desk.close();
    check_trace(&trace);
    nothing_is_lent(&desk);
}

/// Starts a client under strace. Returns the path of what that writes of its first thread; beside that are those of others, so
/// that no line is in two parts.
fn trace(desk: &mut Desk, preload: Option<&str>, client: &[&str]) -> PathBuf {
    let folder = desk.folder().join("strace");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let mut command = desk.command("strace");
    // Each fd with what it is; and what is started here is the client, so that it can be ended.
    command.args(["-ff", "-y", "-D", "-o"]).arg(folder.join("log")).args(client);
    command.envs(preload.map(|library| ("LD_PRELOAD", library)));
    let command = desk.through("lent").command(command);
    let client = desk.adopt("strace", command, false).id();
    folder.join(format!("log.{client}"))
}

/// Checks every system call that names an allocation, when strace has written the last.
fn check_trace(first: &Path) {
    until("how the client ended", || {
        fs::read_to_string(first).ok()?.lines().last()?.starts_with("+++ ").then_some(())
    });
    let files = fs::read_dir(first.parent().unwrap()).unwrap().flatten();
    let lines: Vec<String> = files
        .flat_map(|file| {
            let text = fs::read(file.path()).unwrap();
            String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|line| line.contains("memfd:wlproxy-allocation"))
        .collect();
    assert!(lines.iter().any(|line| line.starts_with("sendmsg(")), "{lines:#?}");
    // The interposer's own mappings are of all of it.
    let whole: Vec<u64> = lines.iter().filter_map(|line| mapped(line)).collect();
    for line in &lines {
        assert!(is_allowed(line, &whole), "{line}");
    }
}

/// The pages that the interposer maps, where it copies what was drawn before: `mmap(NULL, LEN, ..., 514</memfd:...`.
fn mapped(line: &str) -> Option<u64> {
    let mut args = line.strip_prefix("mmap(NULL, ")?.split(", ");
    let len: u64 = args.next()?.parse().ok()?;
    let fd: u32 = args.nth(2)?.split('<').next()?.parse().ok()?;
    (fd >= 512).then_some(len)
}

/// Whether a system call is one that an allocation stands in any VM.
fn is_allowed(line: &str, whole: &[u64]) -> bool {
    let (name, args) = line.split_once('(').expect("a system call");
    match name {
        // fstat: a file of any kind says which it is. So the interposer finds all fds of a pool; the application's own
        // calls don't get so far, or they would see the size of whole pages (interposer/tests/differential.rs).
        "close" | "dup" | "dup3" | "fstat" | "kcmp" | "sendmsg" | "recvmsg" => true,
        "fcntl" => [", F_DUPFD", ", F_GETFD", ", F_SETFD"].iter().any(|what| args.contains(what)),
        "mmap" => {
            let args: Vec<&str> = args.split(", ").collect();
            let len = args[1].parse::<u64>().map(|len| len.next_multiple_of(4096));
            len.is_ok_and(|len| whole.contains(&len))
                && args[3].contains("MAP_SHARED")
                && args[5].starts_with("0)")
        }
        _ => false,
    }
}

#[test]
fn the_rule_for_system_calls_is_one() {
    let fd = "514</memfd:wlproxy-allocation>(deleted)";
    let whole = [8192];
    for good in [
        format!("mmap(NULL, 8192, PROT_READ, MAP_SHARED, {fd}, 0) = 0x7f"),
        format!("mmap(NULL, 5000, PROT_READ, MAP_SHARED|MAP_FIXED, {fd}, 0) = 0x7f"),
        format!("fcntl({fd}, F_DUPFD_CLOEXEC, 0) = 7"),
        format!("close({fd}) = 0"),
    ] {
        assert!(is_allowed(&good, &whole), "{good}");
    }
    for bad in [
        format!("mmap(NULL, 4096, PROT_READ, MAP_SHARED, {fd}, 0) = 0x7f"),
        format!("mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, {fd}, 0) = 0x7f"),
        format!("mmap(NULL, 8192, PROT_READ, MAP_SHARED, {fd}, 0x1000) = 0x7f"),
        format!("fcntl({fd}, F_GETFL) = 2"),
        format!("read({fd}, \"\", 9) = 0"),
    ] {
        assert!(!is_allowed(&bad, &whole), "{bad}");
    }
    assert_eq!(
        mapped(&format!("mmap(NULL, 8192, PROT_READ, MAP_SHARED, {fd}, 0) = 0x7f")),
        Some(8192)
    );
}
