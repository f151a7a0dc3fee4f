//! What is said of numbers that are known.

use std::fs;
use std::path::Path;
use wlproxy_benches::summary;

/// Made up, so that goals are reached, missed and not measured.
const NUMBERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/summary");

#[test]
fn the_summary_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(NUMBERS).unwrap().flatten() {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let expected = Path::new(NUMBERS).join(summary::NAME);
    let text = summary::refresh(folder.path(), &folder.path().join("none")).unwrap();
    assert_eq!(text, fs::read_to_string(folder.path().join(summary::NAME)).unwrap());
    if text != fs::read_to_string(&expected).unwrap_or_default() {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(summary::NAME);
        fs::write(&new, &text).unwrap();
        panic!("if {} is right, it is to replace {}", new.display(), expected.display());
    }
    for pace in ["paced", "unpaced"] {
        for plot in ["by-size", "distribution"] {
            let name = format!("frame-{plot}-{pace}.svg");
            let svg = fs::read_to_string(folder.path().join(&name)).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
            for said in ["direct", "4 bare relays", "waypipe -c none", "shim (C), isolated"] {
                assert!(svg.contains(said), "{name} lacks {said}");
            }
            assert!(text.contains(&format!("({name})")), "{name} isn't shown");
        }
    }
}

#[test]
fn nothing_measured_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = summary::refresh(folder.path(), folder.path()).unwrap();
    assert!(text.contains("Nothing was measured yet"), "{text}");
    assert!(!text.contains("yes"), "{text}");
}

#[test]
fn numbers_of_another_version_are_not_guessed_at() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("frame.json"), "{\"cells\": 7}").unwrap();
    fs::copy(Path::new(NUMBERS).join("connect.json"), folder.path().join("connect.json")).unwrap();
    let text = summary::refresh(folder.path(), folder.path()).unwrap();
    assert!(text.contains("Left out: frame.json is of another version"), "{text}");
    assert!(text.contains("connect(2)") && !text.contains("## A frame"), "{text}");
}
