//! What a client does, and what it has to see of it.

use super::agent::Agent;
use super::figure::Figure;
use super::painter::Painter;
use crate::recorder::keymap as recorders_keymap;
use crate::scenes::pattern;
use crate::transfer::{self, Transfer};
use crate::{
    Buffer, Client, Dice, Display, Flood, Model, Party, Pool, Raw, Rect, Selection, keymap, memfd,
    show, until,
};
use anyhow::{Context, Result, ensure};
use guest_agent::stats::Stats;
use std::ffi::OsStr;
use std::time::{Duration, Instant};
use wayland_client::protocol::wl_data_device_manager::WlDataDeviceManager;
use wayland_client::protocol::wl_shm::Format;

const MIB: i32 = 1 << 20;

/// Bytes of a pixel.
const PIXEL: usize = 4;

/// The window whose frames are timed, in pixels.
const WINDOW: (usize, usize) = (1280, 720);

/// Frames and round trips before those that count, so that all is there.
const WARM_UP: usize = 10;

/// Frames that are timed.
const FRAMES: usize = 60;

/// Frames of which each is looked at.
const LENT_FRAMES: u64 = 20;

/// Round trips that are timed.
const ROUND_TRIPS: usize = 300;

/// Where a scenario plays.
struct Stage<'a> {
    display: &'a Display,
    agent: Option<&'a Agent>,
}

type Scenario = fn(&Stage<'_>) -> Result<()>;

/// All of them.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("pool-grows", pool_grows),
    ("pool-cycles", pool_cycles),
    ("many-fds", many_fds),
    ("long-messages", long_messages),
    ("keymap", same_keymap),
    ("damage", damage),
    ("pipes", pipes),
    ("unread-pastes", unread_pastes),
    ("lent", lent),
    ("demoted", demoted),
    ("frames", frames),
    ("round-trips", round_trips),
];

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|&(name, _)| name)
}

/// Plays them one after the other; each says that it is done.
pub(super) fn play(display: &Display, agent: Option<&Agent>, wanted: &[&OsStr]) -> Result<()> {
    let stage = Stage { display, agent };
    for &name in wanted {
        let found = SCENARIOS.iter().find(|(known, _)| name == *known);
        let (name, scenario) = found.with_context(|| format!("there is no scenario {name:?}"))?;
        let begin = Instant::now();
        scenario(&stage).with_context(|| format!("{name} failed"))?;
        println!("{name}: {:.2} s", begin.elapsed().as_secs_f32());
    }
    Ok(())
}

impl Stage<'_> {
    fn client(&self) -> Result<Client> {
        Client::connect(self.display)
    }

    /// What the agent has counted; only where there is one.
    fn stats(&self) -> Result<Option<Stats>> {
        self.agent.map(Agent::stats).transpose()
    }

    /// Bytes that the agent has copied, and frames of which it had to copy nothing, since `before`.
    fn since(&self, before: Option<&Stats>) -> Result<Option<(u64, u64)>> {
        let since = |before: &Stats, now: Stats| {
            (now.copied_bytes - before.copied_bytes, now.seen_frames - before.seen_frames)
        };
        Ok(before.zip(self.stats()?).map(|(before, now)| since(before, now)))
    }
}

/// From 1 to 64 MiB, with a buffer at the very end of each size, and the one before still shown while it grows.
fn pool_grows(stage: &Stage<'_>) -> Result<()> {
    const SIDE: i32 = 64;
    let mut client = stage.client()?;
    let surface = client.surface();
    let pool = client.pool(memfd(MIB as u64), MIB);
    let mut last: Option<Buffer> = None;
    for step in 0..=6 {
        let size = MIB << step;
        pool.resize(size);
        let offset = size - SIDE * SIDE * 4;
        let format = Format::Xrgb8888;
        let buffer = pool.buffer(&client.handle(), offset, SIDE, SIDE, SIDE * 4, format);
        buffer.draw(|x, y| pattern(x + 3 * step, y));
        show(&surface, &buffer);
        client.check(&surface, &buffer).with_context(|| format!("at {size} bytes"))?;
        if let Some(last) = last.replace(buffer) {
            last.buffer.destroy();
        }
    }
    pool.pool.destroy();
    let last = last.context("there were several")?;
    client.check(&surface, &last).context("without its pool")
}

/// Pools of 1 MiB are made, drawn into, shown and destroyed, one after the other, so many times.
fn pool_cycles(stage: &Stage<'_>) -> Result<()> {
    const CYCLES: usize = 500;
    // Who waits for the program wants to hear of it now and then.
    const TOLD: usize = 50;
    const SIDE: i32 = 512;
    let mut client = stage.client()?;
    let surface = client.surface();
    // Each time from another place on: no two pools have the same content.
    let noise = Flood::new(7).take(MIB as usize + CYCLES * PIXEL);
    for cycle in 0..CYCLES {
        let pool = client.pool(memfd(MIB as u64), MIB);
        let format = Format::Xrgb8888;
        let buffer = pool.buffer(&client.handle(), 0, SIDE, SIDE, SIDE * PIXEL as i32, format);
        buffer.write(0, &noise[cycle * PIXEL..][..MIB as usize]);
        show(&surface, &buffer);
        client.check(&surface, &buffer).with_context(|| format!("cycle {cycle}"))?;
        buffer.buffer.destroy();
        pool.pool.destroy();
        if cycle % TOLD == TOLD - 1 {
            println!("{} pools", cycle + 1);
        }
    }
    println!("figure: {CYCLES} pools of 1 MiB were seen as they were drawn");
    Ok(())
}

/// 28 pools are made by one sendmsg with 28 fds; each has its own content.
fn many_fds(stage: &Stage<'_>) -> Result<()> {
    const COUNT: i32 = 28;
    const SIDE: i32 = 16;
    const BYTES: i32 = SIDE * SIDE * 4;
    let mut client = stage.client()?;
    client.flush()?;
    let pools: Vec<Pool> = (0..COUNT).map(|_| client.pool(memfd(BYTES as u64), BYTES)).collect();
    client.flush()?;
    let mut shown = Vec::new();
    for (at, pool) in (0..).zip(&pools) {
        let surface = client.surface();
        let format = Format::Xrgb8888;
        let buffer = pool.buffer(&client.handle(), 0, SIDE, SIDE, SIDE * 4, format);
        buffer.draw(|x, y| pattern(x + SIDE * at, y));
        show(&surface, &buffer);
        shown.push((surface, buffer));
    }
    for (at, (surface, buffer)) in shown.iter().enumerate() {
        client.check(surface, buffer).with_context(|| format!("pool {at}"))?;
    }
    Ok(())
}

/// Requests of exactly 4,096 bytes (header 8, length 4, 4,083 characters and a NUL), and events as long.
fn long_messages(stage: &Stage<'_>) -> Result<()> {
    let mut client = stage.client()?;
    let manager: WlDataDeviceManager = client.bind(3)?;
    for round in 0..64 {
        // Of one, no more than a few may be so long.
        let source = manager.create_data_source(&client.handle(), ());
        let kind: String =
            (0..4083).map(|at| char::from(b'a' + ((at + round) % 23) as u8)).collect();
        source.offer(kind.clone());
        let wanted = Some(Some(kind));
        let answered = |of: &crate::State| of.exchange.drag.target == wanted;
        client.until("the answer to a type", answered)?;
        source.destroy();
    }
    Ok(())
}

/// At all versions of wl_seat, also when it is known already.
fn same_keymap(stage: &Stage<'_>) -> Result<()> {
    let expected = recorders_keymap();
    for version in [7, 5, 7] {
        let found = keymap(stage.display, version)?;
        ensure!(
            found == expected,
            "another keymap at version {version}, of {} bytes and not {}",
            found.len(),
            expected.len()
        );
    }
    Ok(())
}

/// Random damage over three buffers: what is seen is what was drawn, and exactly what was stale is copied.
fn damage(stage: &Stage<'_>) -> Result<()> {
    const SIZE: (i32, i32) = (240, 168);
    const BUFFERS: usize = 3;
    const STEPS: usize = 24;
    let mut client = stage.client()?;
    let surface = client.surface();
    let buffers: Vec<Buffer> = (0..BUFFERS).map(|_| client.buffer(SIZE.0, SIZE.1)).collect();
    let (mut dice, mut model) = (Dice::new(11), Model::new(BUFFERS, SIZE.0, SIZE.1));
    let mut canvas: Vec<u32> = vec![0; (SIZE.0 * SIZE.1) as usize];
    let mut copied = 0;
    for step in 0..STEPS {
        let before = stage.stats()?;
        client.until("a free buffer", |_| buffers.iter().any(|buffer| !buffer.busy()))?;
        let free: Vec<usize> = (0..BUFFERS).filter(|&at| !buffers[at].busy()).collect();
        let current = free[dice.roll(free.len() as u32) as usize];
        let damage: Vec<Rect> = (0..dice.roll(4)).map(|_| rectangle(&mut dice, SIZE)).collect();
        for (at, rect) in damage.iter().enumerate() {
            fill(&mut canvas, SIZE, rect, (step * 4 + at) as i32);
            surface.damage_buffer(rect.x, rect.y, rect.width, rect.height);
        }
        let buffer = &buffers[current];
        buffer.draw(|x, y| canvas[(y * SIZE.0 + x) as usize]);
        buffer.commit(&surface);
        client.check(&surface, buffer).with_context(|| format!("step {step}"))?;
        let expected = model.commit(current, &damage);
        if let Some((bytes, _)) = stage.since(before.as_ref())? {
            ensure!(bytes == expected, "step {step}: {bytes} bytes copied, {expected} were stale");
            copied += bytes;
        }
    }
    if stage.agent.is_some() {
        println!("figure: {copied} bytes copied of {STEPS} frames, and as many were stale");
    }
    Ok(())
}

/// Somewhere, partly outside too.
fn rectangle(dice: &mut Dice, (width, height): (i32, i32)) -> Rect {
    let mut roll = |limit: i32| dice.roll(limit as u32);
    let (x, y) = (roll(width) - 9, roll(height) - 9);
    Rect { x, y, width: 1 + roll(width / 3), height: 1 + roll(height / 3) }
}

/// Fills what of `rect` lies on the canvas with something of its own.
fn fill(canvas: &mut [u32], (width, height): (i32, i32), rect: &Rect, seed: i32) {
    for y in rect.y.max(0)..(rect.y + rect.height).min(height) {
        for x in rect.x.max(0)..(rect.x + rect.width).min(width) {
            canvas[(y * width + x) as usize] = pattern(x + 37 * seed, y + 91 * seed);
        }
    }
}

/// Drawn into what the agent has lent: every frame is seen, and no byte is copied.
fn lent(stage: &Stage<'_>) -> Result<()> {
    let before = stage.stats()?.context("only an agent lends")?;
    let mut painter = Painter::connect(stage.display, WINDOW)?;
    painter.close_file();
    for _ in 0..LENT_FRAMES {
        painter.frame()?;
        painter.check()?;
    }
    let lent = stage.stats()?.map_or(0, |now| now.lent - before.lent);
    let (copied, seen) = stage.since(Some(&before))?.context("there is an agent")?;
    ensure!(lent == 1, "{lent} allocations are lent");
    ensure!(copied == 0, "{copied} bytes were copied");
    ensure!(seen == LENT_FRAMES, "{seen} of {LENT_FRAMES} frames were seen without a copy");
    println!("figure: {copied} bytes copied of {seen} frames that were drawn into what was lent");
    Ok(())
}

/// A client does with its file what no allocation can do, in the middle of its work: it gets a file of its own, and from
/// then on what it draws is copied.
fn demoted(stage: &Stage<'_>) -> Result<()> {
    let before = stage.stats()?.context("only an agent lends")?;
    let mut painter = Painter::connect(stage.display, WINDOW)?;
    for at in 0..2 * LENT_FRAMES {
        if at == LENT_FRAMES {
            painter.write_to_file()?;
        }
        painter.frame()?;
        painter.check()?;
    }
    let demotions = stage.stats()?.map_or(0, |now| now.demotions - before.demotions);
    let (copied, seen) = stage.since(Some(&before))?.context("there is an agent")?;
    ensure!(demotions == 1 && seen == LENT_FRAMES, "{demotions} demotions, {seen} frames seen");
    let expected = LENT_FRAMES * painter.bytes();
    ensure!(copied == expected, "{copied} bytes were copied, and {expected} were stale");
    Ok(())
}

/// Pipes of two clients of this place: their bytes come whole, and their ends as on one machine.
fn pipes(stage: &Stage<'_>) -> Result<()> {
    let others = [stage.display.clone()];
    for (name, scenario) in transfer::SCENARIOS {
        // The recorder tells everybody of what is copied, so nobody needs the focus.
        Transfer::new(Selection::Clipboard, stage.display, stage.display)
            .and_then(|transfer| scenario(&others, transfer))
            .with_context(|| (*name).to_owned())?;
    }
    let Some(agent) = stage.agent else { return Ok(()) };
    until("the end of all pipes", || (agent.stats().ok()?.pipes == 0).then_some(()));
    Ok(())
}

/// More pastes than an agent carries at once, of which nobody reads any: the oldest ends, and the two clients go on.
fn unread_pastes(stage: &Stage<'_>) -> Result<()> {
    const PASTES: usize = 70;
    const KIND: &str = "application/x-probe";
    // Round trips in which nothing more goes into any pipe.
    const ROUNDS: u32 = 20;
    let selection = Selection::Clipboard;
    let (mut source, mut destination) =
        (Party::connect(stage.display)?, Party::connect(stage.display)?);
    source.copy(selection, KIND)?;
    let mut pastes = Vec::new();
    for _ in 0..PASTES {
        let reader = destination.paste(selection, KIND)?;
        pastes.push((source.asked(KIND)?, reader));
    }
    let (piece, mut patience) = (vec![5; 1 << 16], ROUNDS);
    while patience > 0 {
        // Those that end take nothing.
        let written: usize =
            pastes.iter().map(|(writer, _)| writer.write_now(&piece).unwrap_or(0)).sum();
        patience = if written > 0 { ROUNDS } else { patience - 1 };
        source.client.roundtrip()?;
        destination.client.roundtrip().context("the destination")?;
    }
    pastes[0].0.unread().context("the oldest")?;
    let reader = destination.paste(selection, KIND)?;
    transfer::cross(source.asked(KIND)?, &reader, &Flood::new(1).take(300_000))?;
    drop(pastes);
    let Some(agent) = stage.agent else { return Ok(()) };
    until("the end of all pipes", || (agent.stats().ok()?.pipes == 0).then_some(()));
    Ok(())
}

/// How long a frame takes from its commit to its callback; all of it is damaged.
fn frames(stage: &Stage<'_>) -> Result<()> {
    let before = stage.stats()?;
    let mut painter = Painter::connect(stage.display, WINDOW)?;
    let mut times = Vec::new();
    for at in 0..WARM_UP + FRAMES {
        let took = painter.frame()?;
        if at >= WARM_UP {
            times.push(took);
        }
    }
    painter.check()?;
    let all = (WARM_UP + FRAMES) as u64;
    let how = match stage.since(before.as_ref())? {
        None => "direct",
        Some((0, seen)) if seen == all => "zero-copy",
        Some((copied, 0)) if copied == all * painter.bytes() => "shadow",
        Some((copied, seen)) => {
            anyhow::bail!(
                "of {all} frames {copied} bytes were copied, and {seen} were seen without"
            )
        }
    };
    let (width, height) = WINDOW;
    println!("figure: frame of {width}x{height}, {how}: {}", Figure::of(times));
    Ok(())
}

/// How long `wl_display.sync` takes.
fn round_trips(stage: &Stage<'_>) -> Result<()> {
    let mut raw = Raw::connect(stage.display);
    (0..WARM_UP).for_each(|_| raw.sync());
    let times: Vec<Duration> = (0..ROUND_TRIPS)
        .map(|_| {
            let begin = Instant::now();
            raw.sync();
            begin.elapsed()
        })
        .collect();
    println!("figure: round trip: {}", Figure::of(times));
    Ok(())
}
