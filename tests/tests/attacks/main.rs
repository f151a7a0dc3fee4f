//! What a client can do to a compositor, over the path: whoever tries is told why and ended, or harms nobody; the
//! compositor, a client beside it, and one in another VM go on; nothing is left over.
//!
//! Each attack runs against a libwayland, a wlroots and a smithay compositor. How long it took until the attacker was told,
//! how long a bystander waited at worst, what time the compositor used, and how much more memory,
//! is printed, but judged by nobody.

mod floods;
mod memory;
mod shell;
mod surfaces;

use std::time::{Duration, Instant};
use wlproxy_tests::malformed::CASES;
use wlproxy_tests::{Attacker, Bystander, Desk, Example, Fault, Kind, Plan, cpu, footprint};

/// What has to become of an attacker.
#[derive(Debug, Clone, Copy)]
enum End {
    /// An error that has one of these words, in lower case.
    Told(&'static [&'static str]),
    /// It goes on: what it does may be done, and has to cost nobody else.
    Served,
    /// An error, or none: the protocol leaves that to the compositor, or compositors differ. Never an end without one.
    Either,
    /// The same. Without an agent it may end without a word: the host gets a file itself and takes it for no memory of a VM.
    Wordless,
    /// The same. It may end without a word: a compositor drops who reads nothing, if it notices before a quota does.
    Dropped,
}

impl End {
    fn with_agent(self) -> Self {
        if let Self::Wordless = self { Self::Either } else { self }
    }
}

/// One thing that a client does.
#[derive(Clone, Copy)]
struct Attack {
    name: &'static str,
    /// Does it, or finds that the compositor offers no such thing.
    run: fn(&mut Attacker) -> Option<()>,
    end: End,
}

/// Every attack of a file.
macro_rules! attacks {
    ($($name:literal => $end:expr, $run:expr;)+) => {
        pub(crate) const ATTACKS: &[$crate::Attack] = &[$($crate::Attack {
            name: $name,
            run: {
                #[allow(unused_imports)]
                use $crate::End::{Dropped, Either, Served, Told, Wordless};
                $run
            },
            end: {
                #[allow(unused_imports)]
                use $crate::End::{Dropped, Either, Served, Told, Wordless};
                $end
            },
        },)+];
    };
}
pub(crate) use attacks;

/// A quota's word.
const QUOTA: &[&str] = &["quota"];

/// Where attackers come from.
const VMS: &[&str] = &["work", "untrusted"];

/// Clients that go on beside them, and what they see.
struct Scene {
    /// In the attacker's VM, in the other, and beside the compositor.
    bystanders: [Bystander; 3],
    desk: Desk,
    compositor: u32,
    name: &'static str,
}

/// What one attack came to.
struct Outcome {
    end: Result<(), Option<Fault>>,
    after: Duration,
    /// What the compositor has used for it: time, and more memory than before, in bytes.
    cpu: Duration,
    memory: u64,
}

impl Scene {
    fn new(example: Example, name: &'static str) -> Self {
        let plan = Plan {
            compositor: Kind::Example(example),
            vms: VMS,
            dialling: &["hostile"],
            ..Plan::default()
        };
        let mut desk = Desk::start(plan);
        desk.take_baseline();
        let displays = [desk.through("untrusted"), desk.through("work"), desk.direct()];
        let bystanders = displays.map(|display| Bystander::start(&display));
        let compositor = desk.compositor().process().id();
        println!(
            "{name:10} {:44} {:>9} {:>6} {:>6} {:>6} {:>7} {:>6}  outcome",
            "attack", "told ms", "same", "other", "local", "CPU ms", "KiB"
        );
        Self { bystanders, desk, compositor, name }
    }

    /// Runs one attack in a VM with an agent, and straight at the host.
    fn run(&mut self, name: &str, attack: &dyn Fn(&mut Attacker) -> Option<()>, end: End) {
        for hostile in [false, true] {
            let display =
                if hostile { self.desk.dial("hostile") } else { self.desk.through("untrusted") };
            let mut attacker = Attacker::new(&display);
            self.bystanders.iter().for_each(|bystander| _ = bystander.worst());
            let (cpu_before, memory) = (cpu(self.compositor), footprint(self.compositor));
            let begin = Instant::now();
            if attack(&mut attacker).is_none() {
                println!("{:10} {name:44} not offered", self.name);
                return;
            }
            let outcome = Outcome {
                end: attacker.settle(),
                after: begin.elapsed(),
                cpu: cpu(self.compositor).saturating_sub(cpu_before),
                memory: footprint(self.compositor).saturating_sub(memory),
            };
            self.bystanders.iter().for_each(Bystander::check);
            self.tell(name, hostile, &outcome);
            let end = if hostile { end } else { end.with_agent() };
            judge(name, &outcome, end);
        }
    }

    fn tell(&self, name: &str, hostile: bool, outcome: &Outcome) {
        let [same, other, local] = self.bystanders.each_ref().map(Bystander::worst);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let end = match &outcome.end {
            Ok(()) => "served".to_owned(),
            Err(None) => "closed".to_owned(),
            Err(Some(fault)) => format!("{}: {}", fault.object, fault.message),
        };
        let way = if hostile { " (no agent)" } else { "" };
        println!(
            "{:10} {:44} {:9.1} {:6.1} {:6.1} {:6.1} {:7} {:6}  {end}",
            self.name,
            format!("{name}{way}"),
            milliseconds(outcome.after),
            milliseconds(same),
            milliseconds(other),
            milliseconds(local),
            outcome.cpu.as_millis(),
            outcome.memory >> 10,
        );
    }
}

fn judge(name: &str, outcome: &Outcome, end: End) {
    match (end, &outcome.end) {
        (End::Wordless | End::Dropped, _) => {}
        (_, Err(None)) => panic!("{name}: disconnected without an error"),
        (End::Told(_), Ok(())) => panic!("{name}: nobody minds"),
        (End::Served, Err(Some(fault))) => panic!("{name}: {fault:?}"),
        (End::Told(words), Err(Some(fault))) => {
            let message = fault.message.to_lowercase();
            assert!(words.iter().any(|word| message.contains(word)), "{name}: {fault:?}");
        }
        (End::Either | End::Served, Ok(())) | (End::Either, Err(Some(_))) => {}
    }
}

/// All of it against one compositor.
fn all(example: Example, name: &'static str) {
    let mut scene = Scene::new(example, name);
    for (name, case) in CASES {
        let attack = |attacker: &mut Attacker| {
            let attack = case(attacker);
            attacker.raw.send(&attack.bytes, attack.fds);
            Some(())
        };
        scene.run(name, &attack, End::Told(&["@", "size", "object"]));
    }
    for attack in [floods::ATTACKS, memory::ATTACKS, shell::ATTACKS, surfaces::ATTACKS].concat() {
        scene.run(attack.name, &attack.run, attack.end);
    }
}

#[test]
fn smithay_holds() {
    all(Example::Smithay, "smithay");
}

#[test]
fn libwayland_holds() {
    all(Example::Libwayland, "libwayland");
}

#[test]
fn wlroots_holds() {
    all(Example::Wlroots, "wlroots");
}
