//! Sources of every form, as machines have them.

use super::*;
use tempfile::TempDir;

/// The mirrors of a machine with these files of sources, in a form to compare.
fn mirrors(files: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    let etc = TempDir::new().unwrap();
    fs::create_dir(etc.path().join("sources.list.d")).unwrap();
    for (name, text) in files {
        fs::write(etc.path().join(name), text).unwrap();
    }
    let mirrors = of_machine(etc.path()).unwrap();
    mirrors.into_iter().map(|Mirror { uri, signed_by }| (uri, signed_by)).collect()
}

#[test]
fn one_line_entries_are_read() {
    let text = "\
        # deb http://off.example/debian bookworm main\n\
        deb http://one.example/debian bookworm main contrib # the first\n\
        deb\thttp://one.example/debian bookworm-updates main\n\
        deb-src http://source.example/debian bookworm main\n\
        deb [arch=amd64 signed-by=/k/a.gpg,/k/b.asc trusted=yes] https://two.example/debian/ sid main\n\
        deb http://three.example/debian-security bookworm-security main\n\
        deb http://four.example/debian bookworm contrib\n\
        deb cdrom:[Debian 12]/ bookworm main\n";
    assert_eq!(
        mirrors(&[("sources.list", text), ("sources.list.d/x.list.bak", text)]),
        [
            ("http://one.example/debian".to_owned(), None),
            ("https://two.example/debian/".to_owned(), Some("/k/a.gpg /k/b.asc".to_owned())),
        ]
    );
}

#[test]
fn stanzas_are_read() {
    let key =
        "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME\n -----END PGP PUBLIC KEY BLOCK-----";
    let text = format!(
        "# The machine's.\nTypes: deb deb-src\nURIs: http://one.example/debian\n  http://two.example/debian\n\
         # Not a field.\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /k/debian.gpg\n\n\
         types: deb\nuris: http://three.example/debian\nsuites: sid\ncomponents: main\nsigned-by:{key}\n\n\n\
         Types: deb\nURIs: http://off.example/debian\nSuites: sid\nComponents: main\nEnabled: No\n\n\
         Types: deb-src\nURIs: http://source.example/debian\nSuites: sid\nComponents: main\n\n\
         Types: deb\nURIs: http://flat.example/debian\nSuites: ./\n"
    );
    let keyring = Some("/k/debian.gpg".to_owned());
    assert_eq!(
        mirrors(&[("sources.list.d/debian.sources", &text)]),
        [
            ("http://one.example/debian".to_owned(), keyring.clone()),
            ("http://two.example/debian".to_owned(), keyring),
            ("http://three.example/debian".to_owned(), Some(key.to_owned())),
        ]
    );
}

#[test]
fn debian_is_asked_before_others_and_nobody_twice() {
    let debian = "deb http://one.example/debian trixie main\n";
    let found = mirrors(&[
        ("sources.list.d/a.list", "deb http://browser.example/apt stable main\n"),
        ("sources.list.d/b.list", debian),
        ("sources.list", debian),
    ]);
    let uris: Vec<_> = found.iter().map(|mirror| &*mirror.0).collect();
    assert_eq!(uris, ["http://one.example/debian", "http://browser.example/apt"]);
}

#[test]
fn a_machine_without_a_mirror_is_told_so() {
    let etc = TempDir::new().unwrap();
    let error = of_machine(etc.path()).unwrap_err().to_string();
    assert!(error.contains("names no mirror of Debian; see sources.list(5)"), "{error}");
}
