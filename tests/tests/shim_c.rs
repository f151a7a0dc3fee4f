//! compositor-shim as a library for C: what it exports, how it is found, and that programs in C get what its header says.

use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use wlproxy_tests::{
    Arg, Client, Desk, Example, Kind, Part, Plan, Process, Raw, Rect, message, shim, show, until,
};

/// See `xtask/src/shim.rs`.
const SONAME: &str = "libwlproxy_shim.so.0";

/// How all that is in C is compiled.
const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

/// What valgrind ends with when it has seen something.
const SEEN: &str = "99";

/// What a command prints.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

fn library() -> PathBuf {
    shim().join("lib").join(SONAME)
}

fn header() -> PathBuf {
    shim().join("include/wlproxy-shim.h")
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(header()).expect("it is installed");
    let names = header.lines().filter(|line| !line.starts_with([' ', '/'])).filter_map(|line| {
        let name = line.split_once('(')?.0.rsplit([' ', '*']).next()?;
        name.starts_with("wlproxy_shim_").then(|| name.to_owned())
    });
    names.collect()
}

/// What pkg-config says of the library.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", shim().join("lib/pkgconfig"));
    let flags = said(command.args(arguments).arg("wlproxy-shim"));
    flags.split_whitespace().map(str::to_owned).collect()
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim");
    std::fs::create_dir_all(&folder).expect("a folder of ours");
    folder
}

/// Compiles `c/shim.c`.
fn compile(name: &str, more: &[String]) -> PathBuf {
    let program = folder().join(name);
    let made = folder().join(format!("{name}.{}", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(STRICT).args(["-std=c11", "-D_POSIX_C_SOURCE=200809L"]);
    cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/shim.c")).arg("-o").arg(&made);
    said(cc.args(pkg_config(&["--cflags"])).args(more).arg("-lwayland-server"));
    std::fs::rename(made, &program).expect("in the same folder");
    program
}

/// `c/shim.c`, linked with the shared library.
fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let mut flags = pkg_config(&["--libs"]);
        flags.push(format!("-Wl,-rpath,{}", shim().join("lib").display()));
        compile("shared", &flags)
    };
    PROGRAM.get_or_init(make).clone()
}

/// Runs a program so that wrong accesses and lost memory end it with an error.
fn watched(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", &format!("--error-exitcode={SEEN}"), "--leak-check=full"]);
    command.args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]);
    command.arg(concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/c/valgrind.supp"));
    command.arg(program);
    command
}

#[test]
fn the_header_is_c_and_cxx() {
    let header = header();
    for (compiler, language) in [("cc", ["-std=c11", "-xc"]), ("c++", ["-std=c++11", "-xc++"])] {
        let mut command = Command::new(compiler);
        said(command.args(STRICT).args(language).arg("-fsyntax-only").arg(&header));
    }
}

#[test]
fn nothing_but_the_interface_is_exported_and_it_has_a_version() {
    let declared = declared();
    assert!(declared.len() > 5, "{declared:?}");
    let symbols = said(Command::new("nm").args(["-D", "--defined-only"]).arg(library()));
    let mut exported = BTreeSet::new();
    for line in symbols.lines() {
        let (kind, symbol) = line.split_once(' ').expect("an address").1.split_once(' ').unwrap();
        if kind == "A" {
            // The name of the version itself.
            assert_eq!(symbol, SONAME);
            continue;
        }
        let (name, version) = symbol.split_once("@@").unwrap_or((symbol, "none"));
        assert_eq!(version, SONAME, "{name}");
        exported.insert(name.to_owned());
    }
    assert_eq!(exported, declared);
    let dynamic = said(Command::new("readelf").arg("-dW").arg(library()));
    assert!(dynamic.contains(&format!("Library soname: [{SONAME}]")), "{dynamic}");
}

#[test]
fn the_archive_can_be_linked_too() {
    let archive = shim().join("lib/libwlproxy_shim.a");
    let mut flags = vec![archive.to_str().expect("text").to_owned()];
    let all = pkg_config(&["--libs", "--static"]);
    assert!(all.contains(&"-lgcc_s".to_owned()), "{all:?}");
    flags.extend(all.into_iter().filter(|flag| flag != "-lwlproxy_shim"));
    let program = compile("static", &flags);
    let needed = said(Command::new("readelf").arg("-dW").arg(&program));
    assert!(!needed.contains(SONAME), "{needed}");
    assert_eq!(said(Command::new(program).arg("nobody")), "done\n");
}

#[test]
fn nothing_is_lost_where_there_is_no_host() {
    assert_eq!(said(watched(&program()).arg("nobody")), "done\n");
}

/// A desk whose compositor VM has nothing in it, and how a program that stands on the host is in there.
fn desk() -> (Desk, OsString) {
    let plan = Plan { compositor: Kind::Recorder, vms: &["work"], ..Plan::default() };
    let mut desk = Desk::gui_by_hand(plan);
    desk.ready("work");
    let mut channel = OsString::from("process:");
    channel.push(desk.folder().join("host/gui.sock"));
    (desk, channel)
}

/// Starts a test of `c/shim.c`.
fn start(desk: &mut Desk, test: &str, channel: OsString) {
    let watched = watched(&program());
    let mut command = desk.command(watched.get_program());
    command.args(watched.get_args()).arg(test).arg(channel);
    desk.adopt(test, command, false);
}

/// Waits until the program has said this.
fn hear(desk: &mut Desk, what: &str) {
    let program = desk.apps().next().expect("it was started");
    until(what, || {
        let log = program.log();
        assert!(program.running() || log.contains("done\n"), "it has ended: {log}");
        log.contains(&format!("{what}\n")).then_some(())
    });
}

fn end(desk: &mut Desk) {
    let program = desk.apps().next().expect("it was started");
    let status = program.wait();
    assert!(status.success(), "{status}: {}", program.log());
}

#[test]
fn streams_are_the_compositors_and_what_it_polls_is_the_shims() {
    let (mut desk, channel) = desk();
    start(&mut desk, "streams", channel);
    hear(&mut desk, "ready");
    let mut first = Raw::connect(&desk.through("work"));
    assert_eq!(first.end(), None);
    hear(&mut desk, "disconnected");
    let mut second = Raw::connect(&desk.through("work"));
    assert_eq!(second.end(), None);
    end(&mut desk);
}

#[test]
fn shim_and_display_end_in_any_order() {
    let (mut desk, channel) = desk();
    start(&mut desk, "display", channel);
    hear(&mut desk, "ready");
    Raw::connect(&desk.through("work")).sync();
    hear(&mut desk, "left");
    for end in ["another display", "no shim"] {
        let mut client = Raw::connect(&desk.through("work"));
        assert_eq!(client.end(), None);
        hear(&mut desk, end);
    }
    let mut last = Raw::connect(&desk.through("work"));
    assert_eq!(last.end(), None);
    end(&mut desk);
}

/// Waits until a picture shows so many windows of `work` and local ones.
fn until_shown(example: &Process, work: usize, local: usize) {
    let shown = format!("{work} windows of work and {local} local ones");
    until(&shown, || {
        let before = example.log().len();
        example.signal(Signal::SIGUSR1);
        let said = until("a picture", || {
            let said = example.log()[before..].to_owned();
            said.contains("picture /").then_some(said)
        });
        let count = |vm: &str| {
            let is_of = |line: &&str| line.starts_with("window ") && line.contains(vm);
            said.lines().filter(is_of).count()
        };
        (count(" work ") == work && count(" - ") == local).then_some(())
    });
}

/// Has an example, started as `program`, show clients of a VM and local ones, lose and find the host, and end.
fn exercise(program: Command) {
    let (mut desk, channel) = desk();
    let (socket, picture) = (desk.folder().join("example.sock"), desk.folder().join("example.png"));
    let mut command = desk.command(program.get_program());
    command.args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.arg("--socket").arg(&socket).arg("--channel").arg(&channel);
    command.arg("--picture").arg(&picture);
    let mut example = Process::spawn("example", command, &desk.logs(), false);
    until("the example's socket", || {
        assert!(example.running(), "{}", example.log());
        UnixStream::connect(&socket).ok()
    });
    let work = desk.through("work");
    for _ in 0..2 {
        for name in ["foot", "weston-simple-shm"] {
            desk.app(&work, name, &[]);
            let mut local = desk.command(name);
            local.env("XDG_RUNTIME_DIR", desk.folder()).env("WAYLAND_DISPLAY", &socket);
            desk.adopt(name, local, false);
        }
        until_shown(&example, 2, 2);
        // As large, and as far away, as can be said.
        let mut absurd = Client::connect(&work).expect("it is served");
        let window = absurd.toplevel("absurd").expect("it is served");
        window.show(&absurd.buffer(100, 100));
        let (most, least) = (i32::MAX, i32::MIN);
        for (x, y, width, height) in [(most, most, most, most), (least, least, most, most)] {
            window.xdg_surface.set_window_geometry(x, y, width, height);
            window.surface.commit();
            absurd.roundtrip().expect("it is served");
            until_shown(&example, 3, 2);
        }
        // A menu is on it, and goes with it.
        let menu = absurd.popup(&window.xdg_surface, Rect { x: 10, y: 20, width: 50, height: 40 });
        absurd.configured(&menu.surface).expect("it is served");
        show(&menu.surface, &absurd.buffer(50, 40));
        absurd.roundtrip().expect("it is served");
        until_shown(&example, 3, 2);
        window.surface.attach(None, 0, 0);
        window.surface.commit();
        absurd.roundtrip().expect("it is served");
        until_shown(&example, 2, 2);
        absurd.configured(&window.surface).expect("it is served");
        window.show(&absurd.buffer(100, 100));
        absurd.roundtrip().expect("it is served");
        until_shown(&example, 3, 2);
        drop((menu, window, absurd));
        let mut half = Raw::connect(&work);
        half.sync();
        half.send(&message(1, 0, &[Arg::Uint(9)])[..7], []);
        drop(half);
        desk.kill(Part::Proxy);
        until_shown(&example, 0, 2);
        desk.close();
        until_shown(&example, 0, 0);
        desk.revive(Part::Proxy);
        until("a client that is served", || Raw::try_connect(&work)?.try_sync());
    }
    // With a client of each.
    desk.app(&work, "weston-simple-shm", &[]);
    until_shown(&example, 1, 0);
    let status = example.terminate();
    assert!(status.success(), "{status}: {}", example.log());
    assert!(!socket.exists());
}

/// Has an example that is built with what the compiler has to notice wrong accesses, lost memory and what C leaves
/// undefined do all this.
fn sanitize(name: &str) {
    let out = folder().join(format!("sanitized-{name}"));
    let flags = "-fsanitize=address,undefined -fno-sanitize-recover=all";
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C");
    make.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/").to_owned() + name);
    make.arg(format!("OUT={}", out.display()));
    make.env("CFLAGS", format!("-O1 -g -Werror {flags}")).env("LDFLAGS", flags);
    make.env("PKG_CONFIG_PATH", shim().join("lib/pkgconfig"));
    said(&mut make);
    let mut example = Command::new(out.join(format!("{name}-shim")));
    let suppressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/leaks.supp");
    example.env("LSAN_OPTIONS", format!("suppressions={suppressions}"));
    // Libraries keep no frame pointers, and suppressions name functions that are farther up.
    example.env("ASAN_OPTIONS", "fast_unwind_on_malloc=0");
    exercise(example);
}

#[test]
fn the_libwayland_example_does_nothing_undefined() {
    sanitize("libwayland");
}

#[test]
fn the_wlroots_example_does_nothing_undefined() {
    sanitize("wlroots");
}

#[test]
fn the_libwayland_example_accesses_nothing_that_is_not_its_own() {
    exercise(watched(&wlproxy_tests::example(Example::Libwayland)));
}

/// Who pastes reads only the beginning: then what is copied goes to nobody, and a compositor in C, which doesn't ignore
/// SIGPIPE, isn't ended by that.
#[test]
fn who_pastes_half_ends_nobody() {
    /// More than any pipe or socket takes at once.
    const SIZE: usize = 1 << 20;
    let kind = Kind::Example(Example::Libwayland);
    let mut desk = Desk::start(Plan { compositor: kind, vms: &["work"], ..Plan::default() });
    let copied = desk.folder().join("copied");
    std::fs::write(&copied, vec![b'x'; SIZE]).expect("our own folder");
    let mut copy = desk.command("wl-copy");
    copy.args(["--foreground", "--type", "application/x-copy"]);
    let mut copy = desk.through("work").command(copy);
    copy.stdin(std::fs::File::open(&copied).expect("our own file"));
    let mut copy = copy.stdout(Stdio::null()).spawn().expect("wl-copy can be started");
    let paste_half = || {
        let mut paste = desk.command("wl-paste");
        paste.args(["--no-newline", "--type", "application/x-copy"]);
        let mut paste = desk.direct().command(paste);
        let mut paste = paste.stdout(Stdio::piped()).spawn().expect("wl-paste can be started");
        let mut byte = [0];
        let mut output = paste.stdout.take().expect("it is piped");
        let is_there = output.read(&mut byte).expect("a pipe can be read") == 1;
        drop(output);
        paste.wait().expect("it is ours");
        is_there
    };
    until("something to paste", || paste_half().then_some(()));
    // Once it was offered it can be pasted each time.
    (0..3).for_each(|_| assert!(paste_half()));
    copy.kill().expect("it is ours");
    copy.wait().expect("it is ours");
    Raw::connect(&desk.through("work")).sync();
    assert!(desk.compositor().process_mut().running());
    // Of the keymap the VM keeps one for all who come later.
    desk.take_baseline();
}
