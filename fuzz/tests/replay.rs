//! Every target over what is kept in `corpus/`, and over inputs made up from a seed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wlproxy_fuzz::TARGETS;
use wlproxy_hostile::Random;

/// Inputs that are made up for each target.
const MADE_UP: u64 = 300;

/// Longest of them, in bytes.
const LONGEST: usize = 600;

/// Most inputs that are kept of a target, and the bytes of all of them: a checkout stays small, and this test quick.
const MOST_KEPT: usize = 200;
const MOST_BYTES: u64 = 300 << 10;

/// Targets count what this process has open, so they take turns.
static ALONE: Mutex<()> = Mutex::new(());

fn kept(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let found =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(target: &str) {
    let _turn = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    run(&[]);
    let kept = kept(target);
    assert!((1..=MOST_KEPT).contains(&kept.len()), "{} inputs are kept", kept.len());
    let bytes: u64 = kept.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes are kept");
    for path in &kept {
        // What the test prints is shown if it fails.
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
    }
    for seed in 0..MADE_UP {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let length = random.index(LONGEST);
        run(&random.bytes(length));
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test] fn $target() { replay(stringify!($target)) })*

        #[test]
        fn no_target_is_left_out() {
            assert_eq!([$(stringify!($target)),*], TARGETS.map(|(name, _)| name));
        }
    };
}

replays! { accept config control policy relay report virtgpu virtio_wl wire }
