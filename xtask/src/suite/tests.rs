//! Trees of packages that are made here, which an `apt-get` "downloads" that is a script.

use super::tree::patchelf;
use super::*;
use crate::supervisor::tests::turn;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::MutexGuard;
use tempfile::TempDir;

const SUITE: Suite = Suite {
    tree: "newer",
    name: "newer",
    packages: &["hello"],
    programs: &["hello"],
    reason: "for this test",
};

/// Puts the package where apt's configuration has it.
const DOWNLOAD: &str =
    r#"cp "$here"/hello.deb "$(sed -n 's/^Dir::Cache::archives "\(.*\)";/\1/p' $config)""#;

struct Bench {
    dir: TempDir,
    // A supervisor of another test would take the children of this one for its own.
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// A machine whose `apt-get` runs these scripts.
    fn new(update: &str, install: &str) -> Self {
        let bench = Self { _turn: turn(), dir: TempDir::new().unwrap() };
        bench.apt(update, install);
        bench.package("true");
        bench
    }

    fn apt(&self, update: &str, install: &str) {
        let (here, bin) = (self.dir.path(), self.dir.path().join("bin"));
        fs::create_dir_all(&bin).unwrap();
        // apt-get -y -o TIMEOUT -c CONFIG WHAT...
        let script = format!(
            "#!/bin/sh\nhere={}\necho $* >> $here/calls\nconfig=$5\nshift 5\n\
             case $1 in update)\n{update}\n;; install)\n{install}\nesac\n",
            here.display()
        );
        let path = bin.join("apt-get");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A package with a program of the machine's, with what it needs, and with what nobody reads.
    fn package(&self, program: &str) {
        let root = self.dir.path().join("hello");
        let _ = fs::remove_dir_all(&root);
        for folder in ["DEBIAN", "usr/bin", "usr/share/doc/hello", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let control = "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example>\n\
                       Description: for a test\n";
        fs::write(root.join("DEBIAN/control"), control).unwrap();
        fs::write(root.join("usr/share/doc/hello/copyright"), "").unwrap();
        fs::write(root.join("etc/hello.conf"), "").unwrap();
        let program = Path::new("/usr/bin").join(program).canonicalize().unwrap();
        fs::copy(&program, root.join("usr/bin/hello")).unwrap();
        // In lib, as packages of before usr was merged have them.
        let all = libraries(&program);
        let libc = all.iter().find(|file| file.ends_with("libc.so.6")).unwrap();
        let lib = root.join("lib").join(libc.parent().unwrap().file_name().unwrap());
        fs::create_dir_all(&lib).unwrap();
        for file in &all {
            fs::copy(file, lib.join(file.file_name().unwrap())).unwrap();
        }
        // The loader is the one whose path programs know; there it is a link.
        let loader = patchelf(&program, &["--print-interpreter"]).unwrap();
        let path = root.join(loader.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let target = lib.join(path.file_name().unwrap());
        symlink(Path::new("..").join(target.strip_prefix(&root).unwrap()), path).unwrap();
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--build", "--root-owner-group", "-Znone"]).arg(&root);
        let output = dpkg.arg(self.dir.path().join("hello.deb")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("suite/newer")
    }

    fn is_whole(&self) -> bool {
        Tree::at(&self.dir.path().join("suite"), &SUITE).is_whole()
    }

    /// Makes the tree from two mirrors. Returns what went wrong.
    fn make(&self) -> String {
        let etc = self.dir.path().join("etc");
        fs::create_dir_all(&etc).unwrap();
        let sources = "deb [signed-by=/k] http://one.example/debian old main\n\
                       deb http://two.example/debian old main\n";
        fs::write(etc.join("sources.list"), sources).unwrap();
        let mirrors = mirror::of_machine(&etc).unwrap();
        let folder = self.dir.path().join("suite");
        fs::create_dir_all(&folder).unwrap();
        let path = [&self.dir.path().join("bin"), Path::new("/usr/bin"), Path::new("/bin")];
        let path = env::join_paths(path).unwrap();
        let result = make(&folder, &SUITE, &mirrors, &path, &mut Progress::quiet());
        result.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().lines().count()
    }
}

/// What a program is loaded with, as its loader tells: `NAME => PATH (ADDRESS)`, or without `NAME =>` if that is a path.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let mut command = Command::new(program);
    let output = command.env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.lines().filter_map(|line| {
        let found = line.split_once("=>").map_or(line, |(_, found)| found);
        found.split_whitespace().next().filter(|word| word.starts_with('/'))
    });
    paths.map(PathBuf::from).collect()
}

#[test]
fn a_program_runs_with_the_libraries_of_its_tree() {
    let bench = Bench::new("", DOWNLOAD);
    assert!(!bench.is_whole());
    assert_eq!(bench.make(), "");
    assert!(bench.is_whole());
    let program = bench.tree().join("usr/bin/hello");
    assert!(Command::new(&program).status().unwrap().success());
    let tree = bench.tree().canonicalize().unwrap();
    let loaded = libraries(&program);
    assert!(loaded.iter().any(|path| path.ends_with("libc.so.6")), "{loaded:?}");
    for path in loaded {
        assert!(path.starts_with(&tree), "{}", path.display());
    }
    assert!(bench.tree().join("etc/hello.conf").exists());
    assert!(bench.tree().join("lib").is_symlink() && bench.tree().join("usr/lib").is_dir());
    assert!(!bench.tree().join("usr/share/doc").exists());
    let around = fs::read_dir(bench.dir.path().join("suite")).unwrap().flatten();
    let mut around: Vec<_> = around.map(|entry| entry.file_name()).collect();
    around.sort();
    assert_eq!(around, ["newer", "newer.log"]);
}

#[test]
fn apt_is_told_the_suite_and_who_signs_it() {
    let sources = "cp $here/suite/newer.apt/suite.sources $here/asked";
    let bench = Bench::new(&format!("cp $config $here/config; {sources}"), DOWNLOAD);
    assert_eq!(bench.make(), "");
    assert_eq!(
        fs::read_to_string(bench.dir.path().join("asked")).unwrap(),
        "Types: deb\nURIs: http://one.example/debian\nSuites: newer\nComponents: main\n\
         Check-Valid-Until: no\nSigned-By: /k\n"
    );
    // What apt itself makes of it: nothing of it is the machine's.
    let config = bench.dir.path().join("config");
    let mut apt = Command::new("apt-config");
    let output = apt.arg("-c").arg(config).arg("dump").output().unwrap();
    let dump = String::from_utf8(output.stdout).unwrap();
    let state = bench.dir.path().join("suite/newer.apt");
    for (key, value) in [
        ("Dir::State", ""),
        ("Dir::State::lists", "/lists"),
        ("Dir::State::status", "/status"),
        ("Dir::Cache", "/cache"),
        ("Dir::Cache::archives", "/cache/archives"),
        ("Dir::Etc::sourcelist", "/suite.sources"),
    ] {
        let line = format!("{key} \"{}{value}\";\n", state.display());
        assert!(dump.contains(&line), "no {line} in {dump}");
    }
    assert!(!dump.contains("APT::Update::Post-Invoke"), "{dump}");
}

#[test]
fn another_mirror_is_asked_when_one_fails() {
    let first = r#"grep -q one.example $here/suite/newer.apt/suite.sources && {
        echo "E: The repository 'one' does not have a Release file." >&2; exit 100; }
        true"#;
    let bench = Bench::new(first, DOWNLOAD);
    assert_eq!(bench.make(), "");
    assert!(bench.is_whole());
    assert_eq!(bench.calls(), 3);
}

#[test]
fn errors_name_their_cure() {
    for (said, cure) in [
        ("W: GPG error: NO_PUBKEY 6ED0E7B82643E131", "apt-get install debian-archive-keyring"),
        ("E: The repository does not have a Release file.", "it has no newer; name a mirror"),
        ("E: Unable to locate package hello", "not all packages are in its newer"),
    ] {
        let bench = Bench::new(&format!("echo '{said}' >&2; exit 100"), DOWNLOAD);
        let error = bench.make();
        assert!(error.starts_with("Debian's suite newer can't be had from where"), "{error}");
        for part in [said, cure, "http://one.example/debian: ", "http://two.example/debian: "] {
            assert!(error.contains(part), "no {part} in {error}");
        }
        assert!(!bench.is_whole() && !bench.tree().exists());
    }
}

#[test]
fn half_a_tree_is_not_taken_for_a_whole_one() {
    let bench = Bench::new(
        "",
        &format!("{DOWNLOAD}; echo nonsense > $here/suite/newer.apt/cache/archives/z.deb"),
    );
    let error = bench.make();
    assert!(error.contains("can't unpack") && error.contains("z.deb"), "{error}");
    assert!(!bench.is_whole() && !bench.tree().exists());
    // The next one doesn't stumble over it.
    bench.apt("", DOWNLOAD);
    assert_eq!(bench.make(), "");
    assert!(bench.is_whole());
    fs::remove_file(bench.tree().join("etc/hello.conf")).unwrap();
    assert!(!bench.is_whole());
    assert_eq!(bench.make(), "");
    assert!(bench.is_whole() && bench.tree().join("etc/hello.conf").exists());
}

#[test]
fn a_tree_of_other_packages_is_made_anew() {
    let bench = Bench::new("", DOWNLOAD);
    assert_eq!(bench.make(), "");
    let folder = bench.dir.path().join("suite");
    let more = Suite { packages: &["hello", "world"], ..SUITE };
    assert!(!Tree::at(&folder, &more).is_whole());
    Tree::at(&folder, &SUITE).forget().unwrap();
    assert!(!bench.is_whole() && bench.tree().exists());
    // Its programs look for their libraries where it was made.
    assert_eq!(bench.make(), "");
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::rename(&folder, &elsewhere).unwrap();
    assert!(!Tree::at(&elsewhere, &SUITE).is_whole());
}

#[test]
fn suites_are_chosen_by_name() {
    assert_eq!(choose(&[]).unwrap(), SUITES);
    assert_eq!(choose(&["forky".to_owned()]).unwrap(), [SUITES[1]]);
    let error = choose(&["bookworm".to_owned()]).unwrap_err().to_string();
    assert_eq!(error, "there is no suite bookworm here, but trixie, forky");
}
