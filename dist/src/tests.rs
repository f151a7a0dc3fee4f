use super::*;
use example::{Entry, entries};
use std::process::Command;
use wlproxy::config::{Config, KEYS, Kind};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("wlproxy.example.toml"), None).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_right_and_so_is_what_is_commented_out() {
    parse(EXAMPLE).unwrap();
    let line = |key: &str| {
        let mut lines = entries(EXAMPLE).filter(|entry| entry.key() == Some(key));
        lines.next().and_then(|entry| entry.line).unwrap_or_else(|| panic!("no {key}"))
    };
    for key in [
        "isolation",
        "window",
        "socket",
        "title_prefix",
        "app_id_prefix",
        "allow",
        "deny",
        "max_version",
        "give",
        "take",
        "bytes",
        "rate",
    ] {
        let line = line(key);
        let mut text = EXAMPLE.replace(&format!("\n#{line}\n"), &format!("\n{line}\n"));
        assert_ne!(text, EXAMPLE, "{key} is commented out");
        if key == "socket" {
            assert!(parse(&text).unwrap_err().contains("exactly one of vm and socket"));
            text = text.replace("\nvm = ", "\n#vm = ");
        }
        parse(&text).unwrap();
    }
    let socket = "#socket = \"/run/wlproxy/work.sock\"\n";
    assert!(EXAMPLE.contains(socket));
    parse(&EXAMPLE.replace(socket, &socket[1..])).unwrap();
}

/// The entries that explain a key of [`KEYS`], with its name there.
fn explained() -> Vec<(String, Entry<'static>)> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for entry in entries(EXAMPLE).skip(1) {
        if let Some(name) = entry.table() {
            // What stands behind the name of a VM is a table in its table.
            table = match name.strip_prefix("vm.").map(|vm| vm.split_once('.')) {
                Some(Some((_, inner))) => format!("vm.NAME.{inner}"),
                Some(None) => "vm.NAME".to_owned(),
                None => name.to_owned(),
            };
            keys.push((table.clone(), entry));
        } else {
            let key = entry.key().unwrap_or_else(|| panic!("no key follows {:?}", entry.comment));
            let dot = if table.is_empty() { "" } else { "." };
            keys.push((format!("{table}{dot}{key}"), entry));
        }
    }
    keys
}

#[test]
fn the_example_explains_every_key() {
    let explained = explained();
    // The values of max_version stand in one line.
    let apart = ["vm", "vm.NAME.globals.max_version.INTERFACE"];
    for key in KEYS.iter().filter(|key| !apart.contains(&key.name)) {
        let entry = explained.iter().find(|(name, _)| name == key.name);
        let (_, entry) = entry.unwrap_or_else(|| panic!("{} is not in the example", key.name));
        assert!(!entry.comment.is_empty(), "{} has no comment", key.name);
        let has_default = entry.comment.iter().any(|line| line.starts_with("Default: "));
        let needs_one = key.kind != Kind::Table && !key.name.starts_with("compositor.");
        assert_eq!(has_default, needs_one, "default of {}", key.name);
    }
}

#[test]
fn the_page_of_the_example_has_every_key() {
    let page = String::from_utf8(example::page(EXAMPLE)).unwrap();
    for (_, entry) in explained() {
        for text in [entry.line.unwrap(), entry.comment[0]] {
            // As roff writes it.
            let text = text.replace('-', "\\-").replace('\'', "\\*(Aq");
            assert!(page.contains(&text), "{text} is not in the page");
        }
    }
}

fn written() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).unwrap();
    let path = folder.path().to_owned();
    (folder, move |name| {
        fs::read_to_string(path.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    })
}

#[test]
fn every_command_has_a_page_with_every_option() {
    let (_folder, read) = written();
    for mut command in commands() {
        command.build();
        let program = command.get_name().to_owned();
        let subcommands = command.get_subcommands().filter(|c| c.get_name() != "help");
        for (name, command) in subcommands
            .filter(|c| !c.is_hide_set())
            .map(|c| (format!("{program}-{}", c.get_name()), c))
            .chain([(program.clone(), &command)])
        {
            let page = read(&format!("man/{name}.1"));
            assert!(page.contains(&format!(".TH {name} 1 ")), "{page}");
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                let option = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&option), "{option} is not in {name}(1)");
            }
            let about = command.get_about().unwrap().to_string();
            assert!(page.contains(".SH NAME\n") && about.len() > 20, "{about}");
        }
    }
    assert!(!read("man/wlproxy.1").contains("worker\\-fd"));
    assert!(read("man/wlproxy-run.1").contains("RUST_LOG"));
}

#[test]
fn nothing_old_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("man")).unwrap();
    let old = folder.path().join("man/wlproxy-old.1");
    fs::write(&old, "").unwrap();
    write(folder.path()).unwrap();
    assert!(!old.exists());
}

#[test]
fn bash_completes() {
    let (folder, _) = written();
    for (program, words, expected) in [
        ("wlproxy", &["st"] as &[&str], "status"),
        ("wlproxy", &["status", "--j"], "--json"),
        ("guest-agent", &["se"], "serve"),
        ("guest-agent", &["run", "--ch"], "--channel"),
    ] {
        let script = folder.path().join(format!("completions/{program}.bash"));
        let ask = r#"source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            function=$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')
            "$function" "$1" "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", ask]).arg(&script).arg(program).args(words);
        let output = bash.output().unwrap();
        let (out, errors) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out.trim(), expected, "{program} {words:?}: {errors}");
    }
}
