//! How one VM is started.

use super::cpio::Cpio;
use super::image::Images;
use super::programs::Program;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A VM's RAM, in MiB: sway, clients and what they have read use 300, and what is written is there, too.
const MEMORY: u32 = 1024;

/// The size of the device's queues, in descriptors: the most that virtio over PCI has with QEMU, and that wlproxy takes.
/// How many clients a VM has at a time depends on it.
const QUEUE: u32 = 1024;

/// Who runs a VM's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Accel {
    /// QEMU itself, anywhere
    Tcg,
    /// The processor, where /dev/kvm truly works
    Kvm,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accel::Tcg => "tcg",
            Accel::Kvm => "kvm",
        })
    }
}

/// The terminal that a shell on the console has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Its kind, as in `TERM`.
    pub(super) kind: String,
    /// Rows and columns, if they are known.
    pub(super) size: Option<(u16, u16)>,
}

/// What a VM is like.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// Its name, also as its host's.
    pub(super) name: String,
    /// Who runs its instructions.
    pub(super) accel: Accel,
    /// The socket of the vhost-user device that it has.
    pub(super) device: Option<PathBuf>,
    /// With one there is a shell on its console; without, a runner.
    pub(super) terminal: Option<Terminal>,
    /// Whether programs in it find the Wayland socket of the usual parts without being told.
    pub(super) display: bool,
    /// The usual parts that start with it, by name; the runner starts others.
    pub(super) parts: &'static [&'static str],
}

/// The usual parts, of which each VM has some: programs in /usr/local/bin, with `vm-` before their names.
const PARTS: &[(&str, &[u8])] = &[
    ("sway", include_bytes!("parts/sway.sh")),
    ("serve", include_bytes!("parts/serve.sh")),
    ("run", include_bytes!("parts/run.sh")),
];

/// Where the Wayland socket of the usual parts is, be it the compositor's or the agent's.
pub(super) const DISPLAY: &str = "/run/user/1000/wayland-1";

/// The folder of a VM that runs. Nobody else runs one of this name meanwhile.
#[derive(Debug)]
pub(super) struct Room {
    /// Where it is.
    pub(super) path: PathBuf,
    _lock: Flock<File>,
}

impl Room {
    /// Makes it, in `folder`.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(fits) {
            bail!("{name:?} is no name for a VM: those are of a-z, 0-9 and -");
        }
        let path = folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
        let lock = File::create(path.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| errno).with_context(|| {
            format!("a VM {name} runs already, by this or another `cargo xtask vm`")
        })?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for file in [INITRD, RUNNER_SOCKET] {
            let _ = fs::remove_file(self.path.join(file));
        }
    }
}

impl Setup {
    /// Writes the VM's initial RAM disk into its room: the part that doesn't change, and what is ours.
    pub(super) fn write_initrd(
        &self,
        images: &Images,
        programs: &[Program],
        room: &Room,
    ) -> Result<()> {
        let mut cpio = Cpio::default();
        cpio.program("init", include_bytes!("init.sh"));
        cpio.program("fresh/usr/local/sbin/vm-start", include_bytes!("start.sh"));
        cpio.file("fresh/etc/passwd", PASSWD.as_bytes());
        cpio.file("fresh/etc/group", GROUP.as_bytes());
        cpio.file("fresh/etc/hosts", format!("127.0.0.1 localhost {}\n", self.name).as_bytes());
        cpio.file("fresh/root/.bash_profile", PROFILE.as_bytes());
        for (name, content) in PARTS {
            cpio.program(&format!("fresh/usr/local/bin/vm-{name}"), content);
        }
        cpio.file("fresh/usr/local/etc/sway.conf", include_bytes!("parts/sway.conf"));
        for Program { name, path } in programs {
            let content =
                fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
            cpio.program(&format!("fresh/usr/local/bin/{name}"), &content);
        }
        let mut bytes = fs::read(&images.initrd)
            .with_context(|| format!("can't read {}", images.initrd.display()))?;
        bytes.extend(cpio.finish());
        fs::write(room.path.join(INITRD), bytes).context("can't write the VM's initial RAM disk")
    }

    /// What QEMU gets, to run in the VM's room.
    pub(super) fn arguments(&self, images: &Images) -> Vec<String> {
        let share = |name: &str| images.qemu.join("usr/share").join(name).display().to_string();
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|&word| word.to_owned()));
        add(&["-L", &share("qemu"), "-L", &share("seabios")]);
        add(&["-name", &self.name]);
        match self.accel {
            // One processor: one thread for each VM is enough for the machines that run tests.
            Accel::Tcg => add(&["-accel", "tcg,thread=multi", "-cpu", "qemu64"]),
            Accel::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
        }
        // In a memfd, so that a device in another process can map it.
        let memory = format!("{MEMORY}M");
        add(&["-smp", "1", "-m", &memory]);
        add(&["-object", &format!("memory-backend-memfd,id=memory,size={memory},share=on")]);
        add(&["-machine", "q35,memory-backend=memory"]);
        add(&["-nodefaults", "-no-user-config", "-display", "none"]);
        add(&["-kernel", &images.kernel.display().to_string(), "-initrd", INITRD]);
        add(&["-append", &self.command_line()]);
        let userland = quoted(&images.userland);
        add(&["-drive", &format!("if=none,id=userland,format=raw,readonly=on,file={userland}")]);
        add(&["-device", "virtio-blk-pci,drive=userland"]);
        add(&["-device", "virtio-rng-pci"]);
        if self.terminal.is_some() {
            // Ctrl-A x ends it, as QEMU's own manual tells; Ctrl-C is the shell's.
            add(&["-serial", "mon:stdio"]);
            // A kernel that panics ends it; with a runner, the host notices that the VM starts again.
            add(&["-no-reboot"]);
        } else {
            add(&["-serial", "stdio"]);
            add(&["-chardev", &format!("socket,id=runner,path={RUNNER_SOCKET}")]);
            add(&["-device", "virtio-serial-pci"]);
            let port = wlproxy_runner::PORT;
            add(&["-device", &format!("virtserialport,chardev=runner,name={port}")]);
        }
        if let Some(device) = &self.device {
            add(&["-chardev", &format!("socket,id=device,path={}", quoted(device))]);
            // Who listens there says what it is: a virtio-gpu (id 16), 16 bytes of configuration.
            let kind = format!("virtio-id=16,num_vqs=2,vq_size={QUEUE},config_size=16");
            add(&["-device", &format!("vhost-user-test-device-pci,chardev=device,{kind}")]);
        }
        args
    }

    /// The kernel's. What it doesn't know is the first process's environment.
    fn command_line(&self) -> String {
        let mut line = "console=ttyS0 panic=-1 mitigations=off".to_owned();
        line.push_str(&format!(" vm_name={}", self.name));
        if self.display {
            line.push_str(&format!(" WAYLAND_DISPLAY={DISPLAY} SWAYSOCK={SWAYSOCK}"));
        }
        if !self.parts.is_empty() {
            line.push_str(&format!(" vm_parts={}", self.parts.join(",")));
        }
        if let Some(Terminal { kind, size }) = &self.terminal {
            // In a log the kernel may say what it does.
            line.push_str(&format!(" quiet vm_shell=1 TERM={kind}"));
            if let Some((rows, columns)) = size {
                line.push_str(&format!(" vm_rows={rows} vm_columns={columns}"));
            }
        }
        line
    }

    /// What QEMU needs in its environment.
    pub(super) fn environment(images: &Images) -> (String, String) {
        let modules = images.qemu.join("usr/lib/x86_64-linux-gnu/qemu");
        ("QEMU_MODULE_DIR".to_owned(), modules.display().to_string())
    }
}

/// Where sway listens for its own messages.
const SWAYSOCK: &str = "/run/user/1000/sway.sock";

/// The initial RAM disk, in a VM's room.
const INITRD: &str = "initrd";

/// Where the host waits for the runner's port, in a VM's room.
pub(super) const RUNNER_SOCKET: &str = "runner.sock";

/// Who there is in a VM. sway refuses to run as root.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:/home/user:/bin/bash\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nuser:x:1000:\n";

/// What a shell on the console says before each command.
const PROFILE: &str = "PS1='\\u@\\h:\\w\\$ '\n";

/// A path as the value of an option of QEMU's, where a comma ends it unless there are two.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn images() -> Images {
        Images {
            qemu: "/vm/qemu".into(),
            kernel: "/vm/vmlinuz".into(),
            initrd: "/vm/initrd".into(),
            userland: "/v,m/userland".into(),
            rooms: "/vm/rooms".into(),
        }
    }

    fn setup() -> Setup {
        let name = "work".to_owned();
        Setup { name, accel: Accel::Tcg, device: None, terminal: None, display: false, parts: &[] }
    }

    #[test]
    fn commas_in_paths_are_not_taken_for_ends() {
        let setup = Setup { device: Some("/run/a,b.sock".into()), ..setup() };
        let line = setup.arguments(&images()).join(" ");
        assert!(line.contains("file=/v,,m/userland -device"), "{line}");
        assert!(line.contains("path=/run/a,,b.sock -device vhost-user-test-device-pci"), "{line}");
    }

    #[test]
    fn the_console_is_a_shells_or_the_log_and_then_there_is_a_runner() {
        let terminal = Terminal { kind: "xterm".to_owned(), size: Some((24, 80)) };
        let shell = Setup { terminal: Some(terminal), ..setup() };
        let line = shell.arguments(&images()).join(" ");
        assert!(
            line.contains(" vm_name=work quiet vm_shell=1 TERM=xterm vm_rows=24 vm_columns=80")
        );
        assert!(!line.contains(wlproxy_runner::PORT), "{line}");
        let line = setup().arguments(&images()).join(" ");
        assert!(line.contains(wlproxy_runner::PORT) && !line.contains("vm_shell"), "{line}");
    }

    #[test]
    fn the_kernel_passes_on_what_starts_with_the_vm() {
        assert!(!setup().command_line().contains("vm_parts"));
        let setup = Setup { display: true, parts: &["sway", "serve"], ..setup() };
        let line = setup.command_line();
        assert!(line.contains(" WAYLAND_DISPLAY=/run/user/1000/wayland-1 "), "{line}");
        assert!(line.ends_with(" vm_parts=sway,serve"), "{line}");
        for part in setup.parts {
            assert!(PARTS.iter().any(|(name, _)| name == part), "{part}");
        }
    }

    #[test]
    fn one_name_is_one_vm() {
        let dir = TempDir::new().unwrap();
        let room = Room::new(dir.path(), "work").unwrap();
        let error = Room::new(dir.path(), "work").unwrap_err();
        assert!(format!("{error:#}").contains("a VM work runs already"), "{error:#}");
        Room::new(dir.path(), "gui-2").unwrap();
        fs::write(room.path.join(INITRD), "").unwrap();
        drop(room);
        assert!(!dir.path().join("work").join(INITRD).exists());
        Room::new(dir.path(), "work").unwrap();
        for name in ["", "..", "a/b", "A", "-v", "a b"] {
            assert!(Room::new(dir.path(), name).is_err(), "{name}");
        }
    }
}
