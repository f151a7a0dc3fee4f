//! The name of a channel: what `--channel` says.

use super::process::{Options, ProcessChannel};
use super::virtgpu::{self, VirtgpuChannel};
use super::virtio_wl::{NODE, VirtioWlChannel};
use super::{Channel, Error};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Which way out of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelSpec {
    /// The device that this VM has.
    Auto,
    /// The VM has a virtio-gpu with the cross-domain capset, at this render node, or at the one that is found.
    Virtgpu(Option<PathBuf>),
    /// The VM's kernel has a virtio_wl driver, which has made this device node.
    VirtioWl(PathBuf),
    /// This process is the VM: its device listens at the path.
    Process(PathBuf),
}

impl FromStr for ChannelSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "virtgpu" => Ok(Self::Virtgpu(None)),
            Some(("virtgpu", path)) if !path.is_empty() => Ok(Self::Virtgpu(Some(path.into()))),
            None if text == "virtio_wl" => Ok(Self::VirtioWl(NODE.into())),
            Some(("virtio_wl", path)) if !path.is_empty() => Ok(Self::VirtioWl(path.into())),
            Some(("process", path)) if !path.is_empty() => Ok(Self::Process(path.into())),
            _ => Err(format!(
                "there is no such channel. `auto` takes the device that the VM has. In a VM with a virtio-gpu of wlproxy's \
                 use `virtgpu`, or `virtgpu:NODE` to name its render node. In a VM whose kernel has a virtio_wl driver \
                 use `virtio_wl`, or `virtio_wl:NODE` if the driver's device node isn't {NODE}. Without a VM use \
                 `process:SOCKET`, with the vhost-user socket of a VM's worker"
            )),
        }
    }
}

impl ChannelSpec {
    /// Opens the channel, if the host is there.
    pub fn open(&self) -> Result<Box<dyn Channel>, Error> {
        match self {
            Self::Auto => open_any(Path::new(NODE), virtgpu::find),
            Self::Virtgpu(None) => open_virtgpu(&virtgpu::find()?),
            Self::Virtgpu(Some(path)) => open_virtgpu(path),
            Self::VirtioWl(path) => Ok(Box::new(VirtioWlChannel::open(path)?)),
            Self::Process(path) => Ok(Box::new(ProcessChannel::connect(path, Options::default())?)),
        }
    }
}

fn open_virtgpu(path: &Path) -> Result<Box<dyn Channel>, Error> {
    Ok(Box::new(VirtgpuChannel::open(path)?))
}

/// Opens what this VM has: the node of a virtio_wl driver, which nothing else makes, or else a virtio-gpu.
fn open_any(
    wl0: &Path,
    virtgpu: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<Box<dyn Channel>, Error> {
    if wl0.exists() {
        let channel = VirtioWlChannel::open(wl0)?;
        tracing::info!(
            "this VM has a virtio_wl device: the channel is virtio_wl:{}",
            wl0.display()
        );
        return Ok(Box::new(channel));
    }
    let node = virtgpu().map_err(|error| match error {
        Error::Lost(why) => Error::Lost(format!(
            "this VM has no virtio_wl device ({} isn't there), and {why}",
            wl0.display()
        )),
        error => error,
    })?;
    let channel = open_virtgpu(&node)?;
    tracing::info!("this VM has a virtio-gpu: the channel is virtgpu:{}", node.display());
    Ok(channel)
}

#[cfg(test)]
mod tests;
