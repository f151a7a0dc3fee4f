//! Inputs from a seed, one after the other at full speed: what `cargo xtask fuzz --seeded` runs.
//!
//! libFuzzer sees which code an input reaches, and pays for that. This sees nothing, and says a hundred times as much:
//! kept inputs that were changed in a few places, and others that are made up. Each target makes messages by the tables of
//! whatever bytes it gets, so most of what is made up is right. Which input a number stands for is the seed's word alone,
//! so nothing has to be remembered of those that pass.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, process, thread};
use wlproxy_hostile::Random;

/// Longest input, in bytes: some hundred actions. libFuzzer's are shorter, as it would spend its time on long ones
/// (`xtask/src/fuzz/libfuzzer.rs`).
pub const LONGEST: usize = 2048;

/// Most changes of an input that was kept.
const CHANGES: usize = 6;

/// Longest piece that is moved about, in bytes.
const PIECE: usize = 32;

/// Inputs between two looks at the clock.
const BETWEEN: u64 = 64;

/// How often it is told how far it is.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long one input may take: none takes a second, but where processors are few, this process may have to wait.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The inputs of a seed.
#[derive(Debug)]
pub struct Maker {
    seed: u64,
    kept: Vec<Vec<u8>>,
}

impl Maker {
    /// Those of this seed. It also depends on what is kept, which is everything in these folders.
    pub fn new(seed: u64, folders: &[PathBuf]) -> io::Result<Self> {
        let mut paths = Vec::new();
        for folder in folders {
            for entry in fs::read_dir(folder)? {
                paths.push(entry?.path());
            }
        }
        // Not in the order in which a disk happens to have them.
        paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        let kept = paths.iter().map(fs::read).collect::<io::Result<_>>()?;
        Ok(Self { seed, kept })
    }

    /// Makes input `number` in the place of what `input` has.
    pub fn make(&self, number: u64, input: &mut Vec<u8>) {
        // Numbers of two seeds must not meet, nor may what one number gives be what the next one gives, but for a step.
        let place = Random::new(self.seed).bits() ^ number;
        let mut random = Random::new(Random::new(place).bits());
        input.clear();
        if self.kept.is_empty() || random.one_in(2) {
            // As many short ones as long ones.
            let most = LONGEST >> random.index(6);
            let length = random.index(most);
            self.any(&mut random, length, input);
        } else {
            input.extend_from_slice(&self.kept[random.index(self.kept.len())]);
            for _ in 0..=random.index(CHANGES) {
                self.change(&mut random, input);
            }
            input.truncate(LONGEST);
        }
    }

    fn any(&self, random: &mut Random, length: usize, input: &mut Vec<u8>) {
        while input.len() < length {
            input.extend_from_slice(&random.bits().to_le_bytes());
        }
        input.truncate(length);
    }

    /// Something somewhere.
    fn change(&self, random: &mut Random, input: &mut Vec<u8>) {
        let at = random.index(input.len() + 1);
        let end = (at + random.index(PIECE)).min(input.len());
        match random.below(6) {
            0 => drop(input.drain(at..end)),
            1 => {
                let piece = input[at..end].to_vec();
                let to = random.index(input.len() + 1);
                drop(input.splice(to..to, piece));
            }
            // What follows is another's.
            2 => {
                let other = &self.kept[random.index(self.kept.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.index(other.len() + 1)..]);
            }
            3 => {
                let word = random.bits().to_le_bytes();
                drop(input.splice(at..at, word[..1 + random.index(8)].iter().copied()));
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = if random.one_in(2) {
                        *byte ^ 1 << random.below(8)
                    } else {
                        random.bits() as u8
                    };
                }
            }
        }
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The time is over; so many inputs kept to the rules.
    Time(u64),
    /// The input of this number broke something.
    Broken(u64),
}

/// Runs a target over input `first` and those after it, for so long. An input that takes too long is left in `broken`, and
/// ends the process.
pub fn run(target: fn(&[u8]), maker: &Maker, first: u64, time: Duration, broken: &Path) -> End {
    let began = Instant::now();
    let current = AtomicU64::new(first);
    let (done, over) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            let over = over;
            let mut last = (first, Instant::now());
            while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(INTERVAL) {
                let number = current.load(Ordering::Relaxed);
                let count = number - first;
                println!("    {count} inputs, {:.0} a second", per_second(count, began.elapsed()));
                if number != last.0 {
                    last = (number, Instant::now());
                } else if last.1.elapsed() >= TIMEOUT {
                    println!("input {number} takes longer than {} s", TIMEOUT.as_secs());
                    leave(maker, number, broken);
                    process::exit(1);
                }
            }
        });
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mut input = Vec::new();
            for number in first.. {
                current.store(number, Ordering::Relaxed);
                if number % BETWEEN == 0 && began.elapsed() >= time {
                    return number - first;
                }
                maker.make(number, &mut input);
                target(&input);
            }
            u64::MAX
        }));
        drop(done);
        match end {
            Ok(count) => End::Time(count),
            Err(_) => {
                let number = current.load(Ordering::Relaxed);
                leave(maker, number, broken);
                End::Broken(number)
            }
        }
    })
}

/// How many a second.
pub fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

/// Leaves an input where it can be replayed.
fn leave(maker: &Maker, number: u64, broken: &Path) {
    let mut input = Vec::new();
    maker.make(number, &mut input);
    let path = broken.join(format!("seed-{}-{number}", maker.seed));
    match fs::write(&path, input) {
        Ok(()) => println!("{} breaks it", path.display()),
        Err(error) => println!("can't write {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn kept(target: &str) -> Vec<PathBuf> {
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)]
    }

    #[test]
    fn a_number_stands_for_the_same_input_each_time_and_for_another_than_others() {
        let (one, same) = (Maker::new(7, &kept("wire")).unwrap(), Maker::new(7, &kept("wire")));
        let other = Maker::new(8, &kept("wire")).unwrap();
        let same = same.unwrap();
        let (mut input, mut seen) = (Vec::new(), HashSet::new());
        for number in 0..1000 {
            for maker in [&one, &other] {
                maker.make(number, &mut input);
                assert!(input.len() <= LONGEST);
                seen.insert(input.clone());
            }
            let before = input.clone();
            one.make(number, &mut input);
            let first = input.clone();
            assert_ne!(first, before);
            same.make(number, &mut input);
            assert_eq!(input, first);
        }
        // Of the shortest some are the same.
        assert!(seen.len() > 1900, "{} inputs are different", seen.len());
    }

    #[test]
    fn what_breaks_is_left_and_breaks_again() {
        fn target(data: &[u8]) {
            assert!(data.len() < 100 || data[0] != 7, "a planted fault");
        }
        let broken = std::env::temp_dir().join(format!("wlproxy-fuzz-{}", process::id()));
        fs::create_dir_all(&broken).unwrap();
        let maker = Maker::new(1, &[]).unwrap();
        let End::Broken(number) = run(target, &maker, 0, Duration::from_secs(60), &broken) else {
            panic!("it isn't found");
        };
        let left = fs::read(broken.join(format!("seed-1-{number}"))).unwrap();
        assert!(catch_unwind(|| target(&left)).is_err());
        fs::remove_dir_all(&broken).unwrap();
        assert!(matches!(run(|_| (), &maker, 0, Duration::ZERO, &broken), End::Time(0)));
    }
}
