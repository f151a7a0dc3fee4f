//! A VM that does what the host asks for.

use super::image::Images;
use super::programs::Program;
use super::setup::{RUNNER_SOCKET, Room, Setup};
use crate::failure::{Blame, Failure};
use crate::part::Spec;
use crate::supervisor::{Step, Supervisor};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use wlproxy_runner::{Answer, Inbox, Request};

/// The user id of programs that root is too much for.
pub(super) const USER: u32 = 1000;

/// How long a VM may take to its first answer. Without KVM and alone it takes 8 seconds.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);

/// How long what is ended has for that before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long it may take to do what takes no time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Most output of one script, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// What a script did.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Its exit status, or 128 and the signal that ended it.
    pub(super) status: i32,
    /// What it wrote.
    pub(super) stdout: Vec<u8>,
    /// What it complained about.
    pub(super) stderr: Vec<u8>,
}

/// A VM. It runs as long as its supervisor lets it.
pub(super) struct Machine {
    name: String,
    listener: UnixListener,
    runner: Option<UnixStream>,
    inbox: Inbox,
    /// Whether it starts again.
    rebooting: bool,
    _room: Room,
}

impl Machine {
    /// Starts it, without waiting for anything. Its console and what QEMU says go to the log `NAME.log`.
    pub(super) fn start(
        setup: &Setup,
        images: &Images,
        programs: &[Program],
        supervisor: &mut Supervisor,
    ) -> Result<Self> {
        let name = setup.name.clone();
        let room = Room::new(&images.rooms, &name)?;
        setup.write_initrd(images, programs, &room)?;
        let listener = listen(&room)?;
        supervisor.start(&Spec {
            name: name.clone(),
            program: images.qemu.join("usr/bin/qemu-system-x86_64"),
            args: setup.arguments(images),
            env: vec![Setup::environment(images)],
            dir: room.path.clone(),
            stdout: None,
        })?;
        Ok(Self {
            name,
            listener,
            runner: None,
            inbox: Inbox::default(),
            rebooting: false,
            _room: room,
        })
    }

    /// Waits until it takes requests.
    pub(super) fn boot(&mut self, supervisor: &mut Supervisor) -> Result<()> {
        if self.runner.is_none() {
            let listener = &self.listener;
            let accept = || match listener.accept() {
                Ok((stream, _)) => Ok(Step::Done(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    Ok(Step::Waiting(format!("{} starts", self.name)))
                }
                Err(error) => Err(error.into()),
            };
            let wake = [listener.as_fd()];
            let blame = [&*self.name];
            let stream = supervisor.wait_for("QEMU", &blame, BOOT_DEADLINE, &wake, accept)?;
            stream.set_nonblocking(true)?;
            self.runner = Some(stream);
        }
        loop {
            match self.answer(supervisor, "runner", BOOT_DEADLINE)? {
                Answer::Ready => break,
                // That it will reboot, if it came to say so.
                Answer::Exit(0) if self.rebooting => {}
                other => return Err(self.unexpected(&other)),
            }
        }
        self.rebooting = false;
        Ok(())
    }

    /// Has it start again from the inside, while the programs in it run and QEMU stays. [`Machine::boot`] waits for that.
    pub(super) fn reboot(&mut self) -> Result<()> {
        let script = "exec busybox reboot -f".to_owned();
        self.rebooting = true;
        self.send(&Request::Start { uid: 0, name: "reboot".to_owned(), script })
    }

    /// Whether it takes requests.
    pub(super) fn listens(&self) -> bool {
        self.runner.is_some()
    }

    /// Runs a script to its end. What it leaves running must not hold its output: that is waited for, too.
    pub(super) fn run(
        &mut self,
        supervisor: &mut Supervisor,
        uid: u32,
        script: &str,
        deadline: Duration,
    ) -> Result<Output> {
        self.send(&Request::Run { uid, script: script.to_owned() })?;
        let mut output = Output::default();
        loop {
            match self.answer(supervisor, "end of a script", deadline)? {
                Answer::Out(bytes) => output.stdout.extend(bytes),
                Answer::Err(bytes) => output.stderr.extend(bytes),
                Answer::Exit(status) => {
                    output.status = status;
                    return Ok(output);
                }
                Answer::Fail(reason) => bail!("{}: {reason}", self.name),
                Answer::Ready => return Err(self.unexpected(&Answer::Ready)),
            }
            if output.stdout.len() + output.stderr.len() > MAX_OUTPUT {
                bail!("{}: a script wrote more than {} MiB", self.name, MAX_OUTPUT >> 20);
            }
        }
    }

    /// Runs a script that must succeed. What it wrote.
    pub(super) fn check(
        &mut self,
        supervisor: &mut Supervisor,
        uid: u32,
        script: &str,
        deadline: Duration,
    ) -> Result<Vec<u8>> {
        let output = self.run(supervisor, uid, script, deadline)?;
        if output.status != 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {script}: exit status {}: {}", self.name, output.status, said.trim());
        }
        Ok(output.stdout)
    }

    /// Starts a script that goes on, called `name`.
    pub(super) fn background(
        &mut self,
        supervisor: &mut Supervisor,
        uid: u32,
        name: &str,
        script: &str,
    ) -> Result<()> {
        let (name, script) = (name.to_owned(), script.to_owned());
        self.send(&Request::Start { uid, name, script })?;
        match self.answer(supervisor, "start of a script", ANSWER_DEADLINE)? {
            Answer::Exit(0) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Ends a script that goes on, and all that it has started. Returns its status.
    pub(super) fn end(&mut self, supervisor: &mut Supervisor, name: &str) -> Result<i32> {
        let milliseconds = u32::try_from(GRACE.as_millis()).unwrap_or(u32::MAX);
        self.send(&Request::End { milliseconds, name: name.to_owned() })?;
        match self.answer(supervisor, "end of a script", 2 * GRACE + ANSWER_DEADLINE)? {
            Answer::Exit(status) => Ok(status),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits for a file, folder or socket that one of those that go on, `who`, makes.
    pub(super) fn wait_for(
        &mut self,
        supervisor: &mut Supervisor,
        path: &str,
        who: &str,
        deadline: Duration,
    ) -> Result<()> {
        let milliseconds = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.send(&Request::Wait { milliseconds, path: path.to_owned() })?;
        // The VM waits itself; this is for when it doesn't even do that.
        match self.answer(supervisor, path, deadline + ANSWER_DEADLINE)? {
            Answer::Exit(0) => Ok(()),
            Answer::Exit(_) => {
                let log =
                    self.run(supervisor, 0, &format!("tail /run/log/{who}"), ANSWER_DEADLINE)?;
                let log = String::from_utf8_lossy(&log.stdout).into_owned();
                let seconds = deadline.as_secs_f32();
                bail!("{}: no {path} after {seconds} s; {who} says:\n{log}", self.name)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let told = || format!("{} takes no requests", self.name);
        let runner = self.runner.as_mut().with_context(told)?;
        // A request fits into a socket's buffer, and the one before was answered: so the socket needn't block.
        runner.write_all(&request.to_bytes()).with_context(told)
    }

    /// The next answer. Without one, the VM takes no more requests: it would come later, and be taken for another's.
    fn answer(
        &mut self,
        supervisor: &mut Supervisor,
        what: &str,
        deadline: Duration,
    ) -> Result<Answer> {
        let answer = self.receive(supervisor, what, deadline);
        if answer.is_err() {
            self.runner = None;
        }
        answer
    }

    fn receive(
        &mut self,
        supervisor: &mut Supervisor,
        what: &str,
        deadline: Duration,
    ) -> Result<Answer> {
        let runner = self.runner.as_ref().with_context(|| format!("{} is off", self.name))?;
        let (name, inbox) = (&self.name, &mut self.inbox);
        let mut bytes = vec![0; wlproxy_runner::MAX_BODY];
        let read = || loop {
            if let Some(answer) = inbox.answer()? {
                return Ok(Step::Done(answer));
            }
            match (&mut &*runner).read(&mut bytes) {
                Ok(0) => return Err(anyhow!("{name} is gone")).context(Blame::on(&[name])),
                Ok(length) => inbox.push(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Step::Waiting(name.clone()));
                }
                Err(error) => {
                    let told = format!("{name} is gone");
                    return Err(error).context(told).context(Blame::on(&[name]));
                }
            }
        };
        supervisor.wait_for(what, &[name], deadline, &[runner.as_fd()], read)
    }

    fn unexpected(&self, answer: &Answer) -> anyhow::Error {
        let reason = match answer {
            Answer::Fail(reason) => format!("{}: {reason}", self.name),
            other => format!("{} answers out of turn: {other:?}", self.name),
        };
        Failure::new(reason, Vec::new()).into()
    }
}

/// Listens for QEMU, which connects from the room. A socket's path has at most 107 bytes, and the room's may be longer:
/// so the room is named by a file descriptor.
fn listen(room: &Room) -> Result<UnixListener> {
    let folder = fs::File::open(&room.path)?;
    let path = format!("/proc/self/fd/{}/{RUNNER_SOCKET}", folder.as_raw_fd());
    // A VM that was killed left it.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("can't listen in {}", room.path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
