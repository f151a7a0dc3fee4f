//! A virtio device on the PCI bus, driven from here: virtio specification 1.3, section 4.1.

use crate::memory::Memory;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where Linux lists PCI devices, and the driver that virtio devices have.
const DEVICES: &str = "/sys/bus/pci/devices";
const DRIVER: &str = "/sys/bus/pci/drivers/virtio-pci";

/// Vendor of all virtio devices, and the id of a virtio-gpu: 0x1040 and its virtio id.
const VENDOR: &str = "0x1af4";
const DEVICE: &str = "0x1050";

/// Capabilities of a virtio device: all have this id.
const CAPABILITY: u8 = 0x09;
/// Which structure a capability tells of.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const SHARED_MEMORY: u8 = 8;

/// Offsets in the configuration space of PCI: command register, first base address, first capability.
const COMMAND: u64 = 0x04;
const BARS: u64 = 0x10;
const CAPABILITIES: u64 = 0x34;

/// Bits of the command register: memory, bus master, no interrupts.
const ENABLE: u16 = 1 << 1 | 1 << 2 | 1 << 10;

/// Offsets in the common structure.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0;
    pub(super) const DEVICE_FEATURE: usize = 4;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 8;
    pub(super) const DRIVER_FEATURE: usize = 12;
    pub(super) const STATUS: usize = 20;
    pub(super) const QUEUE_SELECT: usize = 22;
    pub(super) const QUEUE_SIZE: usize = 24;
    pub(super) const QUEUE_ENABLE: usize = 28;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 30;
    /// Table, available ring, used ring: 8 bytes each.
    pub(super) const QUEUE_ADDRESSES: usize = 32;
    pub(super) const LENGTH: u64 = 56;
}

/// Bits of the device's status.
pub(crate) mod status {
    /// The device was noticed, and there is a driver.
    pub(crate) const DRIVER: u8 = 1 | 2;
    /// The driver has chosen features.
    pub(crate) const FEATURES_OK: u8 = 8;
    /// The driver is ready.
    pub(crate) const DRIVER_OK: u8 = 4;
}

/// How long the device may take for a reset.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where a structure is.
#[derive(Debug, Clone, Copy)]
struct Place {
    bar: u8,
    offset: u64,
    length: u64,
    /// Of the notify structure, how far its registers are from each other.
    multiplier: u32,
}

/// A virtio-gpu that has no driver but this program, until this is dropped.
#[derive(Debug)]
pub(crate) struct Gpu {
    path: PathBuf,
    common: Memory,
    notify: Memory,
    multiplier: u32,
    /// Where the window is for the guest, and its length.
    pub(crate) window: (u64, u64),
}

/// The device forgets its queues: what they were in is soon something else's.
impl Drop for Gpu {
    fn drop(&mut self) {
        self.common.write(common::STATUS, 0_u8);
    }
}

impl Gpu {
    /// Takes the device away from the kernel.
    pub(crate) fn take() -> Result<Self> {
        let path = find()?;
        if path.join("driver").exists() {
            let name = path.file_name().context("a device without a name")?;
            fs::write(path.join("driver/unbind"), name.as_encoded_bytes())
                .context("the kernel keeps the device")?;
        }
        let mut options = OpenOptions::new();
        let config = options.read(true).write(true).open(path.join("config"))?;
        config.write_all_at(&ENABLE.to_le_bytes(), COMMAND)?;
        let places = places(&config)?;
        let place = |kind| places.get(&kind).copied().context("no modern virtio device");
        let map = |place: Place, length: u64| {
            ensure!(length <= place.length, "a structure of {} bytes", place.length);
            let bar = path.join(format!("resource{}", place.bar));
            let file = options.open(&bar)?;
            let start = place.offset / 4096 * 4096;
            // Structures of QEMU's begin with a page.
            ensure!(start == place.offset, "a structure at {:#x}", place.offset);
            Memory::of_file(&file, start, length.next_multiple_of(4096))
                .with_context(|| format!("the kernel doesn't map {}", bar.display()))
        };
        let notify = place(NOTIFY)?;
        let window = place(SHARED_MEMORY)?;
        Ok(Self {
            common: map(place(COMMON)?, common::LENGTH)?,
            notify: map(notify, notify.length)?,
            multiplier: notify.multiplier,
            window: (bar(&config, window.bar)? + window.offset, window.length),
            path,
        })
    }

    /// Sets it back to its beginning, and waits until that is done.
    pub(crate) fn reset(&self) -> Result<()> {
        self.common.write(common::STATUS, 0_u8);
        let end = Instant::now() + DEADLINE;
        while self.status() != 0 {
            ensure!(Instant::now() < end, "the device doesn't reset");
            thread::yield_now();
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> u8 {
        self.common.read(common::STATUS)
    }

    pub(crate) fn set_status(&self, status: u8) {
        self.common.write(common::STATUS, status);
    }

    /// What the device offers.
    pub(crate) fn features(&self) -> u64 {
        let half = |select: u32| {
            self.common.write(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read::<u32>(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    /// What of that is used.
    pub(crate) fn set_features(&self, features: u64) {
        for (select, half) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            self.common.write(common::DRIVER_FEATURE_SELECT, select);
            self.common.write(common::DRIVER_FEATURE, half);
        }
    }

    /// Most descriptors of a queue. 0 if there is none.
    pub(crate) fn queue_size(&self, queue: u16) -> u16 {
        self.common.write(common::QUEUE_SELECT, queue);
        self.common.read(common::QUEUE_SIZE)
    }

    /// Sets a queue up: where its table, available ring and used ring are.
    pub(crate) fn set_queue(&self, queue: u16, size: u16, addresses: [u64; 3]) {
        self.common.write(common::QUEUE_SELECT, queue);
        self.common.write(common::QUEUE_SIZE, size);
        for (n, address) in addresses.into_iter().enumerate() {
            let at = common::QUEUE_ADDRESSES + 8 * n;
            self.common.write(at, address as u32);
            self.common.write(at + 4, (address >> 32) as u32);
        }
        self.common.write(common::QUEUE_ENABLE, 1_u16);
    }

    /// Tells the device that there is something in a queue.
    pub(crate) fn kick(&self, queue: u16) {
        self.common.write(common::QUEUE_SELECT, queue);
        let offset: u16 = self.common.read(common::QUEUE_NOTIFY_OFF);
        let at = u64::from(offset) * u64::from(self.multiplier);
        if let Some(at) = usize::try_from(at).ok().filter(|&at| at + 2 <= self.notify.length()) {
            self.notify.write(at, queue);
        }
    }

    /// Gives the device back to the kernel.
    pub(crate) fn give(self) -> Result<()> {
        self.reset()?;
        let path = self.path.clone();
        // Its registers are out of reach as soon as the kernel has it.
        drop(self);
        let name = path.file_name().context("a device without a name")?;
        fs::write(Path::new(DRIVER).join("bind"), name.as_encoded_bytes())
            .context("the kernel doesn't take the device back")
    }
}

fn find() -> Result<PathBuf> {
    for entry in fs::read_dir(DEVICES).context("no PCI bus")? {
        let path = entry?.path();
        let is = |file: &str, value: &str| {
            fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == value)
        };
        if is("vendor", VENDOR) && is("device", DEVICE) {
            return Ok(path);
        }
    }
    bail!("this VM has no virtio-gpu")
}

fn read<const N: usize>(config: &File, offset: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    config.read_exact_at(&mut bytes, offset).context("can't read the configuration space")?;
    Ok(bytes)
}

/// Where the device's structures are. The first of each kind counts.
fn places(config: &File) -> Result<HashMap<u8, Place>> {
    let mut places = HashMap::new();
    let [mut at] = read::<1>(config, CAPABILITIES)?;
    while at != 0 {
        let capability: [u8; 24] = read(config, u64::from(at & !3))?;
        let [id, next, length, kind, bar, ..] = capability;
        if id == CAPABILITY {
            let word = |at: usize, is_there: bool| {
                let word = capability[at..at + 4].try_into().expect("four bytes");
                if is_there { u32::from_le_bytes(word) } else { 0 }
            };
            // Beyond the first 16 bytes it depends on the kind.
            let high = |at| u64::from(word(at, kind == SHARED_MEMORY && length >= 24)) << 32;
            places.entry(kind).or_insert(Place {
                bar,
                offset: u64::from(word(8, true)) | high(16),
                length: u64::from(word(12, true)) | high(20),
                multiplier: word(16, kind == NOTIFY && length >= 20),
            });
        }
        at = next;
    }
    Ok(places)
}

/// Where a base address register points to.
fn bar(config: &File, index: u8) -> Result<u64> {
    let at = BARS + 4 * u64::from(index);
    let low = u32::from_le_bytes(read(config, at)?);
    // Bits 1 and 2: 64 bits wide.
    let high = if low & 6 == 4 { u32::from_le_bytes(read(config, at + 4)?) } else { 0 };
    Ok(u64::from(low & !15) | u64::from(high) << 32)
}
