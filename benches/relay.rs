//! What the host's check of a link costs: the relay alone, without I/O.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wlproxy::relay::Relay;
use wlproxy_benches::{frame, hello};
use wlproxy_protocol::wayland::Batch;

/// A relay whose client has a surface.
fn relay() -> Relay<()> {
    let (mut relay, mut out) = (Relay::new(), Batch::default());
    let (first, events, second) = hello();
    relay.from_client(&first, [], &mut out).expect("a valid request");
    relay.from_compositor(&events, [], &mut out).expect("a valid event");
    relay.from_client(&second, [], &mut out).expect("valid requests");
    relay
}

fn frames(c: &mut Criterion) {
    let (requests, events) = frame();
    let mut group = c.benchmark_group("relay");
    // Messages, not bytes: that is what the relay works by.
    group.throughput(Throughput::Elements(6));
    group.bench_function("frame", |b| {
        let (mut relay, mut out) = (relay(), Batch::default());
        b.iter(|| {
            out.bytes.clear();
            relay.from_client(&requests, [], &mut out).expect("valid requests");
            relay.from_compositor(&events, [], &mut out).expect("valid events");
            assert_eq!(out.bytes.len(), requests.len() + events.len());
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("link", |b| b.iter_batched(|| (), |()| relay(), BatchSize::SmallInput));
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
