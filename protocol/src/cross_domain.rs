//! Commands of virtio-gpu's cross-domain contexts: what is in a SUBMIT_3D, and what the host writes into a ring.
//!
//! Layouts from rutabaga_gfx's `cross_domain_protocol.rs`, the device that defines them, of which sommelier and other
//! programs in VMs have copies; all fields are little-endian. A context connects to one stream. Two pages of guest
//! memory, called rings, are what the host writes to: the answer to a query into one, and into the *channel ring* one
//! event at a time, which signals the oldest fence of ring [`RING_CHANNEL`]. Each POLL brings such a fence.
//!
//! Where the published devices differ, this is what all of their users send: 28 identifiers, INIT of 20 bytes or more,
//! identifiers of types 1, 3 and 4.

use crate::limits::{MAX_FDS, PAGE_SIZE};
use crate::virtio_wl::read;
use bytemuck::{Pod, Zeroable};

/// Fence ring of queries.
pub const RING_QUERY: u8 = 0;
/// Fence ring of events.
pub const RING_CHANNEL: u8 = 1;

/// Channel type of the default stream.
pub const CHANNEL_WAYLAND: u32 = 1;

/// Bit that the ids of pipes have which the guest makes. Which of those it takes is its choice.
pub const GUEST_PIPE: u32 = 0x8000_0000;

/// What a WRITE that hangs up calls the stream itself; no pipe is called so. So a context that is done with its stream
/// can carry its pipes on. Only our device knows this: others refuse it, and the stream stays until the context goes.
pub const STREAM: u32 = 0;

/// Set in the padding of INIT by a program that wants to be told when nobody reads a pipe any more that it writes and that
/// came over the stream: by a READ that hangs up. Only our device knows this; others look at no padding. Programs of today
/// leave it 0, and don't expect to hear of such a pipe.
pub const HEARS_ENDS: u32 = 1;

/// What a command or event is.
pub mod command {
    /// Connects. Payload [`super::Init`].
    pub const INIT: u8 = 1;
    /// Asks how much memory an image needs. Payload [`super::GetImageRequirements`], the answer is
    /// [`super::ImageRequirements`].
    pub const GET_IMAGE_REQUIREMENTS: u8 = 2;
    /// Brings a fence for the next event.
    pub const POLL: u8 = 3;
    /// Bytes and identifiers for the stream. Payload [`super::SendReceive`] and the bytes.
    pub const SEND: u8 = 4;
    /// The same from the stream. Without any, it has hung up.
    pub const RECEIVE: u8 = 5;
    /// Bytes from a pipe. Payload [`super::ReadWrite`] and the bytes.
    pub const READ: u8 = 6;
    /// Bytes for a pipe, or its end; or that of the stream, which is called [`super::STREAM`]; or a [`super::Hold`].
    pub const WRITE: u8 = 7;
}

/// What an identifier of SEND and RECEIVE names.
pub mod identifier {
    /// SEND: a resource. RECEIVE: a blob id.
    pub const BLOB: u32 = 1;
    /// A pipe that the guest reads.
    pub const READ_PIPE: u32 = 3;
    /// A pipe that the guest writes.
    pub const WRITE_PIPE: u32 = 4;
}

/// The capset: what the device can do. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Capset {
    /// 1.
    pub version: u32,
    /// One bit for each channel type below 32.
    pub channels: u32,
    /// Whether images are dma-bufs of the host.
    pub dmabuf: u32,
    /// Whether memory of other devices can be sent.
    pub external_memory: u32,
}

/// The start of every command and event. 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// One of [`command`].
    pub command: u8,
    /// Which ring its fence is of, if any. Not looked at: the submit says it too.
    pub ring: u8,
    /// Size in bytes, as far as 16 bits go.
    pub size: u16,
    /// Always 0, but of INIT it may be [`HEARS_ENDS`].
    pub padding: u32,
}

/// Connects a context. 20 bytes; newer ones add fields that need not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Init {
    /// What it is.
    pub header: Header,
    /// Resource of the query ring.
    pub query_ring: u32,
    /// Resource of the channel ring.
    pub channel_ring: u32,
    /// Where to.
    pub channel: u32,
}

/// Asks for an image. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GetImageRequirements {
    /// What it is.
    pub header: Header,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// A fourcc of DRM's.
    pub format: u32,
    /// What for. Not looked at: all memory is the same.
    pub flags: u32,
}

/// The memory of an image. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ImageRequirements {
    /// Bytes from line to line, per plane.
    pub strides: [u32; 4],
    /// Bytes before the first line, per plane.
    pub offsets: [u32; 4],
    /// DRM's format modifier: 0, linear.
    pub modifier: u64,
    /// Size in bytes.
    pub size: u64,
    /// Under which it can be made, as often as wanted.
    pub blob_id: u32,
    /// How it is mapped: [`MAP_CACHED`](crate::virtio_gpu::MAP_CACHED).
    pub map_info: u32,
    /// Of a Vulkan driver: -1, none.
    pub memory_index: i32,
    /// Of a Vulkan driver: -1, none.
    pub physical_device: i32,
}

/// The fixed part of SEND and RECEIVE; the bytes follow. 352 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SendReceive {
    /// What it is.
    pub header: Header,
    /// How many identifiers count.
    pub count: u32,
    /// Bytes that follow.
    pub length: u32,
    /// The identifiers.
    pub ids: [u32; MAX_FDS],
    /// What each names: [`identifier`].
    pub kinds: [u32; MAX_FDS],
    /// How large each is, in bytes, where it is memory. Of a SEND not looked at.
    pub sizes: [u32; MAX_FDS],
}

/// The fixed part of READ and WRITE; the bytes follow. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ReadWrite {
    /// What it is.
    pub header: Header,
    /// The pipe.
    pub id: u32,
    /// Whether there is no more to come.
    pub hang_up: u32,
    /// Bytes that follow.
    pub length: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Capset>() == 16 && size_of::<Init>() == 20);
    assert!(size_of::<GetImageRequirements>() == 24 && size_of::<ImageRequirements>() == 64);
    assert!(offset_of!(ImageRequirements, size) == 40);
    assert!(offset_of!(ImageRequirements, blob_id) == 48);
    assert!(size_of::<SendReceive>() == 352 && offset_of!(SendReceive, kinds) == 128);
    assert!(offset_of!(SendReceive, sizes) == 240 && size_of::<ReadWrite>() == 24);
};

/// Room for bytes in a RECEIVE that is written to a ring of so many bytes. `None` if not even one fits.
pub fn receive_room(ring: usize) -> Option<usize> {
    ring.checked_sub(size_of::<SendReceive>()).filter(|&room| room > 0)
}

/// Identifiers and bytes of a SEND or RECEIVE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// Each with what it names, and its size.
    pub ids: Vec<Identifier>,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// What travels beside bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier {
    /// Its name.
    pub id: u32,
    /// One of [`identifier`].
    pub kind: u32,
    /// Bytes of memory; 0 for a pipe.
    pub size: u32,
}

impl<'a> Transfer<'a> {
    /// Takes a whole SEND or RECEIVE apart. `None` if it is cut short or lists more than may travel.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let fixed: SendReceive = read(message)?;
        let count = usize::try_from(fixed.count).ok().filter(|&count| count <= MAX_FDS)?;
        let ids = (0..count).map(|n| Identifier {
            id: fixed.ids[n],
            kind: fixed.kinds[n],
            size: fixed.sizes[n],
        });
        let bytes =
            message[size_of::<SendReceive>()..].get(..usize::try_from(fixed.length).ok()?)?;
        Some(Self { ids: ids.collect(), bytes })
    }

    /// The whole message, of `command`.
    ///
    /// # Panics
    /// If there are more than [`MAX_FDS`] identifiers: the caller made them.
    pub fn encode(&self, command: u8) -> Vec<u8> {
        assert!(self.ids.len() <= MAX_FDS, "too many identifiers for one message");
        let header = header(command, size_of::<SendReceive>() + self.bytes.len());
        let (count, length) = (self.ids.len() as u32, self.bytes.len() as u32);
        let mut fixed = SendReceive { header, count, length, ..Default::default() };
        for (n, id) in self.ids.iter().enumerate() {
            (fixed.ids[n], fixed.kinds[n], fixed.sizes[n]) = (id.id, id.kind, id.size);
        }
        [bytemuck::bytes_of(&fixed), self.bytes].concat()
    }
}

/// Bytes of a READ or WRITE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipeTransfer<'a> {
    /// The pipe.
    pub id: u32,
    /// Whether there is no more to come.
    pub hang_up: bool,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> PipeTransfer<'a> {
    /// Takes a whole READ or WRITE apart. `None` if it is cut short.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let fixed: ReadWrite = read(message)?;
        let bytes = message[size_of::<ReadWrite>()..].get(..usize::try_from(fixed.length).ok()?)?;
        Some(Self { id: fixed.id, hang_up: fixed.hang_up != 0, bytes })
    }

    /// The whole message, of `command`.
    pub fn encode(&self, command: u8) -> Vec<u8> {
        let fixed = ReadWrite {
            header: header(command, size_of::<ReadWrite>() + self.bytes.len()),
            id: self.id,
            hang_up: self.hang_up.into(),
            length: self.bytes.len() as u32,
            padding: 0,
        };
        [bytemuck::bytes_of(&fixed), self.bytes].concat()
    }
}

/// A pipe that the guest reads is to wait, or to go on: what nobody takes there would stand in the way of all that comes
/// over the same context. It is a WRITE to [`STREAM`], so that other devices, which know no such pipe, refuse it and do
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The pipe.
    pub id: u32,
    /// Whether nothing more is to come for now.
    pub held: bool,
}

impl Hold {
    /// Takes a WRITE apart, if it is that: the bytes are the pipe and 1, or 0.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let PipeTransfer { id: STREAM, hang_up: false, bytes } = PipeTransfer::parse(message)?
        else {
            return None;
        };
        let (id, rest) = bytes.split_first_chunk()?;
        let held = match rest {
            [0, 0, 0, 0] => false,
            [1, 0, 0, 0] => true,
            _ => return None,
        };
        Some(Self { id: u32::from_le_bytes(*id), held })
    }

    /// The whole WRITE.
    pub fn encode(self) -> Vec<u8> {
        let bytes = [self.id.to_le_bytes(), u32::from(self.held).to_le_bytes()].concat();
        PipeTransfer { id: STREAM, hang_up: false, bytes: &bytes }.encode(command::WRITE)
    }
}

fn header(command: u8, size: usize) -> Header {
    Header { command, size: u16::try_from(size).unwrap_or(u16::MAX), ..Default::default() }
}

/// Bit that the blob ids of images have; the rest is their size in pages. So nothing has to be kept for them.
const IMAGE: u32 = 0x2000_0000;

/// Bytes that a line of an image starts at a multiple of. What drivers of today's GPUs ask of linear images at least.
const STRIDE: u32 = 64;

/// Bytes per pixel of a DRM format with one plane. Those that wl_shm has names for, and plain bytes.
fn depth(format: u32) -> Option<u32> {
    match &format.to_le_bytes() {
        b"R8  " => Some(1),
        b"RG16" | b"BG16" | b"GR88" => Some(2),
        b"RG24" | b"BG24" => Some(3),
        b"XR24" | b"AR24" | b"XB24" | b"AB24" | b"RX24" | b"RA24" | b"BX24" | b"BA24" | b"XR30"
        | b"AR30" | b"XB30" | b"AB30" => Some(4),
        b"XR4H" | b"AR4H" | b"XB4H" | b"AB4H" | b"XR48" | b"AR48" | b"XB48" | b"AB48" => Some(8),
        _ => None,
    }
}

impl ImageRequirements {
    /// The memory that a linear image needs. `None` for a format with planes or without a name, and for sizes that no
    /// allocation has.
    pub fn of(image: &GetImageRequirements) -> Option<Self> {
        let line = image.width.checked_mul(depth(image.format)?)?;
        let stride = line.checked_next_multiple_of(STRIDE).filter(|&stride| stride > 0)?;
        let size = u64::from(stride).checked_mul(image.height.into())?;
        let size = size.checked_next_multiple_of(PAGE_SIZE)?;
        if !(1..=crate::limits::MAX_ALLOCATION).contains(&size) {
            return None;
        }
        Some(Self {
            strides: [stride, 0, 0, 0],
            size,
            blob_id: IMAGE | (size / PAGE_SIZE) as u32,
            map_info: crate::virtio_gpu::MAP_CACHED,
            memory_index: -1,
            physical_device: -1,
            ..Default::default()
        })
    }
}

/// Size of the image with this blob id, in bytes: fewer pages than the id has bits for. `None` if it is no image's.
pub fn image_size(blob_id: u32) -> Option<u64> {
    (blob_id & !(IMAGE - 1) == IMAGE).then(|| u64::from(blob_id & (IMAGE - 1)) * PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hold_is_a_write_to_the_stream_and_no_other_is_one() {
        for hold in [Hold { id: 7, held: true }, Hold { id: u32::MAX, held: false }] {
            let message = hold.encode();
            assert_eq!(Hold::parse(&message), Some(hold));
            let part = PipeTransfer::parse(&message).unwrap();
            assert_eq!((part.id, part.hang_up), (STREAM, false));
            let other_id = PipeTransfer { id: 7, ..part.clone() };
            for other in [other_id, PipeTransfer { hang_up: true, ..part }] {
                assert_eq!(Hold::parse(&other.encode(command::WRITE)), None);
            }
        }
        for bytes in [&[][..], &[0; 7], &[0; 9], &[2; 8]] {
            let write = PipeTransfer { id: STREAM, hang_up: false, bytes }.encode(command::WRITE);
            assert_eq!(Hold::parse(&write), None);
        }
    }

    fn image(width: u32, height: u32, format: &[u8; 4]) -> Option<ImageRequirements> {
        let format = u32::from_le_bytes(*format);
        let asked = GetImageRequirements { width, height, format, ..Default::default() };
        ImageRequirements::of(&asked)
    }

    #[test]
    fn images_are_linear() {
        let made = image(1283, 720, b"XR24").unwrap();
        assert_eq!((made.strides, made.offsets, made.modifier), ([5184, 0, 0, 0], [0; 4], 0));
        assert_eq!(made.size, 3_735_552);
        assert_eq!(image_size(made.blob_id), Some(made.size));
        // How plain memory is asked for.
        assert_eq!(image(5000, 1, b"R8  ").unwrap().size, 8192);
    }

    #[test]
    fn what_no_allocation_can_be_is_refused() {
        for (width, height, format) in [
            (0, 1, b"XR24"),
            (1, 0, b"XR24"),
            (64, 64, b"NV12"),
            (64, 64, &[0; 4]),
            (u32::MAX, 1, b"R8  "),
            (1 << 30, 1, b"XR24"),
            (16_384, u32::MAX, b"XR24"),
        ] {
            assert_eq!(image(width, height, format), None, "{width} x {height}");
        }
        assert_eq!(image_size(0x4000_0001), None);
        assert_eq!(image_size(7), None);
    }

    #[test]
    fn more_identifiers_than_may_travel_are_refused() {
        let fixed = SendReceive { count: 29, ..Default::default() };
        assert_eq!(Transfer::parse(bytemuck::bytes_of(&fixed)), None);
    }

    fn ids() -> impl Strategy<Value = Vec<Identifier>> {
        let id = any::<(u32, u32, u32)>();
        prop::collection::vec(id.prop_map(|(id, kind, size)| Identifier { id, kind, size }), 0..=28)
    }

    proptest! {
        #[test]
        fn transfers_survive(ids in ids(), bytes: Vec<u8>) {
            let transfer = Transfer { ids, bytes: &bytes };
            let message = transfer.encode(command::SEND);
            prop_assert_eq!(message[0], command::SEND);
            prop_assert_eq!(Transfer::parse(&message), Some(transfer));
            prop_assert_eq!(Transfer::parse(&message[..351]), None);
        }

        #[test]
        fn pipe_transfers_survive(id: u32, hang_up: bool, bytes: Vec<u8>) {
            let transfer = PipeTransfer { id, hang_up, bytes: &bytes };
            let message = transfer.encode(command::WRITE);
            prop_assert_eq!(PipeTransfer::parse(&message), Some(transfer));
            prop_assert_eq!(PipeTransfer::parse(&message[..23]), None);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), width: u32, height: u32) {
            let _ = Transfer::parse(&bytes);
            let _ = PipeTransfer::parse(&bytes);
            for format in [b"R8  ", b"XR24", b"AR4H"] {
                if let Some(made) = image(width, height, format) {
                    prop_assert_eq!(image_size(made.blob_id), Some(made.size));
                }
            }
        }
    }
}
