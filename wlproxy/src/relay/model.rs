//! The relay beside a naive model: lists of what was said, and of what has to come out.

use super::*;
use crate::policy::Policy;
use proptest::prelude::*;
use std::ffi::CStr;
use wlproxy_protocol::wayland::{Arg, tables, wire};

const REGISTRY: u32 = 2;
const SHM: u32 = 3;
/// First id that the client of [`Model`] has not used.
const FREE: u32 = 4;
/// What may cross with which newest version, and what may not, is for the tables to say.
const GLOBALS: [&CStr; 4] = [c"wl_seat", c"wl_output", c"zwp_linux_dmabuf_v1", c"nobody_knows_v1"];

/// One message, or what comes with messages.
#[derive(Debug, Clone)]
enum Op {
    /// wl_display.sync.
    Sync,
    /// wl_shm.create_pool, with so many fds of which it takes one.
    Pool(u32),
    /// wl_shm_pool.destroy of one of those that live, or a request of an object that doesn't.
    Destroy(usize),
    /// wl_shm.format.
    Format(u32),
    /// wl_registry.global.
    Global(usize, u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::Sync),
        prop_oneof![8 => Just(1), 1 => Just(0), 1 => 2..4u32].prop_map(Op::Pool),
        (0..4usize).prop_map(Op::Destroy),
        any::<u32>().prop_map(Op::Format),
        (0..GLOBALS.len(), 0..20u32).prop_map(|(which, version)| Op::Global(which, version)),
    ]
}

#[derive(Default)]
struct Model {
    next: u32,
    pools: Vec<u32>,
    /// Fds that were sent and that no message has taken.
    spare: usize,
    sent_fds: u32,
    passed_fds: usize,
    to_compositor: Vec<u8>,
    to_client: Vec<u8>,
}

impl Model {
    /// The message of an op, whether it is a request, the fds that come with it, and whether it passes.
    fn say(&mut self, op: &Op) -> (Vec<u8>, bool, std::ops::Range<u32>, bool) {
        let mut bytes = Vec::new();
        let mut write =
            |object, opcode, args: &[Arg<'_>]| wire::encode(object, opcode, args, &mut bytes);
        let (mut fds, mut passes) = (0, true);
        let is_request = !matches!(op, Op::Format(_) | Op::Global(..));
        match *op {
            Op::Sync => {
                write(1, 0, &[Arg::NewId(self.next)]);
                self.next += 1;
            }
            Op::Pool(count) => {
                write(SHM, 0, &[Arg::NewId(self.next), Arg::Fd, Arg::Int(4096)]);
                self.pools.push(self.next);
                self.next += 1;
                fds = count;
                self.spare += count as usize;
                passes = self.spare > 0;
                if passes {
                    self.spare -= 1;
                    self.passed_fds += 1;
                }
            }
            Op::Destroy(at) => {
                passes = at < self.pools.len();
                let id = if passes { self.pools.remove(at) } else { 0x1000 };
                write(id, 1, &[]);
            }
            Op::Format(format) => write(SHM, 0, &[Arg::Uint(format)]),
            Op::Global(which, version) => {
                let (name, interface) = (Arg::Uint(which as u32), Arg::Str(Some(GLOBALS[which])));
                write(REGISTRY, 0, &[name, interface, Arg::Uint(version)]);
                let known = tables::global(GLOBALS[which].to_str().unwrap());
                if let Some(known) = known.filter(|known| known.class != tables::Class::CannotCross)
                {
                    let offered = Arg::Uint(version.min(known.interface.version));
                    wire::encode(REGISTRY, 0, &[name, interface, offered], &mut self.to_client);
                }
            }
        }
        match op {
            Op::Global(..) => {}
            Op::Format(_) => self.to_client.extend(&bytes),
            _ if passes => self.to_compositor.extend(&bytes),
            _ => {}
        }
        let first = self.sent_fds;
        self.sent_fds += fds;
        (bytes, is_request, first..self.sent_fds, passes)
    }
}

/// A relay whose client has bound wl_shm as object 3.
fn with_shm() -> Relay<u32> {
    let (mut relay, mut out) = (Relay::new(&Policy::unchanging()), Batch::default());
    let mut requests = Batch::<u32>::default();
    requests.push(1, 1, &[Arg::NewId(REGISTRY)]);
    relay.from_client(&requests.bytes, [], &mut out).unwrap();
    let mut events = Batch::<u32>::default();
    events.push(REGISTRY, 0, &[Arg::Uint(9), Arg::Str(Some(c"wl_shm")), Arg::Uint(1)]);
    relay.from_compositor(&events.bytes, [], &mut out).unwrap();
    let mut bind = Batch::<u32>::default();
    let args = [Arg::Uint(9), Arg::Str(Some(c"wl_shm")), Arg::Uint(1), Arg::NewId(SHM)];
    bind.push(REGISTRY, 0, &args);
    relay.from_client(&bind.bytes, [], &mut out).unwrap();
    relay
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_comes_out_was_let_in(
        ops in prop::collection::vec((op(), 1..40usize), 0..60),
    ) {
        let (mut relay, mut model) = (with_shm(), Model { next: FREE, ..Model::default() });
        let (mut requests, mut events) = (Batch::default(), Batch::default());
        for (op, cut) in &ops {
            let (bytes, is_request, fds, passes) = model.say(op);
            let mut fds = Some(fds);
            let mut result = Ok(());
            for piece in bytes.chunks(*cut) {
                // As on a socket: they come with the first byte.
                let fds = fds.take().unwrap_or(0..0);
                result = match is_request {
                    true => relay.from_client(piece, fds, &mut requests),
                    false => relay.from_compositor(piece, fds, &mut events),
                };
                if result.is_err() {
                    break;
                }
            }
            prop_assert_eq!(result.is_ok(), passes, "{:?}: {:?}", op, result);
            if !passes {
                break;
            }
        }
        prop_assert_eq!(&requests.bytes, &model.to_compositor);
        prop_assert_eq!(&requests.fds, &(0..model.passed_fds as u32).collect::<Vec<_>>());
        prop_assert_eq!(&events.bytes, &model.to_client);
        prop_assert!(events.fds.is_empty());
    }
}
