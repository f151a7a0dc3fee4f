//! What the codec and the host's check of a link cost, without I/O.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wayland_server::Resource;
use wayland_server::protocol::wl_surface::WlSurface;
use wlproxy::policy::Policy;
use wlproxy::relay::Relay;
use wlproxy_benches::workload::{encode_frame, frame, hello};
use wlproxy_protocol::limits::MAX_REQUEST;
use wlproxy_protocol::wayland::Batch;
use wlproxy_protocol::wayland::wire::{Args, split};

/// Frames whose requests are read and written at once: 64 KiB of them, as much as is received at once.
const FRAMES: usize = 1024;

/// A relay whose client has a surface, and this policy.
fn relay(policy: &Policy) -> Relay<()> {
    let (mut relay, mut out) = (Relay::new(policy), Batch::default());
    let (first, events, second) = hello();
    relay.from_client(&first, [], &mut out).expect("a valid request");
    relay.from_compositor(&events, [], &mut out).expect("a valid event");
    relay.from_client(&second, [], &mut out).expect("valid requests");
    relay
}

fn codec(c: &mut Criterion) {
    let requests = frame().0.repeat(FRAMES);
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Bytes(requests.len() as u64));
    group.bench_function("split", |b| {
        b.iter(|| {
            let mut rest = &requests[..];
            let mut count = 0;
            while let Some(message) = split(&mut rest, MAX_REQUEST).expect("valid requests") {
                black_box(message);
                count += 1;
            }
            assert_eq!(count, 4 * FRAMES);
        });
    });
    group.bench_function("decode", |b| {
        let interface = WlSurface::interface();
        b.iter(|| {
            let mut rest = &requests[..];
            let mut count = 0;
            while let Some(message) = split(&mut rest, MAX_REQUEST).expect("valid requests") {
                let signature = interface.requests[usize::from(message.opcode)].signature;
                for arg in Args::new(message, signature) {
                    black_box(arg.expect("a valid argument"));
                    count += 1;
                }
            }
            assert_eq!(count, 8 * FRAMES);
        });
    });
    group.bench_function("encode", |b| {
        let mut batch: Batch<()> = Batch::default();
        b.iter(|| {
            batch.bytes.clear();
            (0..FRAMES).for_each(|_| encode_frame(&mut batch));
            assert_eq!(batch.bytes.len(), requests.len());
        });
    });
    group.finish();
}

/// All that the host does with a frame: both directions, as they alternate.
fn check(c: &mut Criterion) {
    let (requests, events) = frame();
    // A worker has one for all of its links.
    let policy = Policy::of("work");
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Bytes((requests.len() + events.len()) as u64));
    group.bench_function("check", |b| {
        let (mut relay, mut out) = (relay(&policy), Batch::default());
        b.iter(|| {
            out.bytes.clear();
            relay.from_client(&requests, [], &mut out).expect("valid requests");
            relay.from_compositor(&events, [], &mut out).expect("valid events");
            assert_eq!(out.bytes.len(), requests.len() + events.len());
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("link", |b| {
        b.iter_batched(|| (), |()| relay(&policy), BatchSize::SmallInput)
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = codec, check
}
criterion_main!(benches);
