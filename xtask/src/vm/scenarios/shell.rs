//! `cargo xtask vm shell`, with a pipe for a terminal.

use super::super::lab::{DEADLINE, Lab, Vm};
use super::itself::killed;
use crate::family;
use crate::part::end_with_caller;
use crate::supervisor::Step;
use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdout, Command, Stdio};

/// A VM is killed. Root's shell in one that takes its place has a device that works, and the VM ends with it.
pub(super) fn takes_its_place(lab: &mut Lab) -> Result<()> {
    let vm = Vm::Untrusted;
    killed(lab, vm)?;
    let processes = family::descendants().len();
    let mut command = Command::new(env::current_exe()?);
    command.args(["vm", "shell", vm.name()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(File::create(lab.logs().join("shell.log"))?);
    end_with_caller(&mut command);
    let mut child = command.spawn().context("can't run the shell")?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (stdin, mut stdout) = (stdin.as_mut().expect("piped"), stdout.expect("piped"));
    let mut said = String::new();
    read_until(lab, &mut stdout, &mut said, &format!("root@{vm}:~# "))?;
    // The terminal echoes what is typed; only the shell makes 42 of it.
    stdin.write_all(b"echo it is $((6 * 7))\n")?;
    read_until(lab, &mut stdout, &mut said, "it is 42")?;
    stdin.write_all(b"foot -T 'of a shell' sleep infinity &\n")?;
    let windows = lab.wait_for_windows(&["of a shell"])?;
    ensure!(windows[0].visible, "the window isn't shown");
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let status = lab.until("end of the shell", |_| Ok(child.try_wait()?))?;
    let code = 128 + Signal::SIGTERM as i32;
    ensure!(status.code() == Some(code), "when it was told to stop, it ended with {status}");
    let left = family::descendants().len();
    ensure!(left == processes, "of a shell {} processes are left", left - processes);
    lab.revive(vm)
}

fn read_until(lab: &mut Lab, from: &mut ChildStdout, said: &mut String, text: &str) -> Result<()> {
    let mut bytes = vec![0; 4096];
    while !said.contains(text) {
        let wake = from.as_fd();
        let ready = || {
            let mut fds = [PollFd::new(wake, PollFlags::POLLIN)];
            Ok(match poll(&mut fds, PollTimeout::ZERO)? {
                0 => Step::Waiting("the shell".to_owned()),
                _ => Step::Done(()),
            })
        };
        lab.supervisor().wait_for(text, &["shell"], DEADLINE, &[wake], ready)?;
        let length = from.read(&mut bytes)?;
        ensure!(length > 0, "the shell ended before it said {text:?}; it said: {said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    Ok(())
}
