//! Starts the parts of the demo, waits for their windows, and takes the picture and the numbers.

use super::Output;
use super::numbers::{AgentStats, Numbers};
use super::picture::Picture;
use super::rooms::Rooms;
use super::scene::{
    self, CLIENT_VMS, COMPOSITOR_VM, ClientVm, HOST, SWAY, WLPROXY, Window, agent_name,
};
use super::sway::{Changes, Sway, View};
use crate::failure::{Blame, Failure};
use crate::part::Spec;
use crate::supervisor::{Step, Supervisor};
use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a server may take until it can be reached.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How long the windows of a VM may take: on a slow machine the font cache is made first.
pub(super) const WINDOWS_DEADLINE: Duration = Duration::from_secs(60);

/// How long it may take until every window has drawn.
const DRAWN_DEADLINE: Duration = Duration::from_secs(30);

/// How long a question may take: a picture, a status, an agent's numbers.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How often wlproxy is asked for its status.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);

/// What the program is called that takes the pictures.
pub(super) const GRIM: &str = "grim";

/// The demo while it runs.
pub(crate) struct Show<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) output: &'a Output,
    pub(crate) supervisor: &'a mut Supervisor,
}

/// A window that is shown, and whose it is.
struct Shown {
    vm: ClientVm,
    view: View,
}

impl Show<'_> {
    /// Runs it until the picture and the numbers are written. Returns the table. Every error is a [`Failure`], but for a
    /// signal of the user.
    pub(crate) fn run(mut self) -> Result<String> {
        self.steps().map_err(|error| self.supervisor.explain(error))
    }

    fn steps(&mut self) -> Result<String> {
        let compositor = self.start_sway()?;
        let config = self.start_wlproxy()?;
        self.start_serve(&compositor)?;
        let mut sway = Sway::connect(&self.sway_socket())?;
        let mut ids = Vec::new();
        // One VM after the other: sway can't tell whose a window is, so what arrives meanwhile is this VM's.
        for vm in CLIENT_VMS {
            ids.extend(self.start_client_vm(vm, &mut sway, &ids)?);
        }
        let (shown, picture) = self.take_picture(&compositor, &mut sway, &ids)?;
        let numbers = self.count(&config)?;
        self.supervisor.progress.done();
        self.write_report(&shown, &picture, &numbers)?;
        numbers.check(CLIENT_VMS[0].windows().len() as u64)?;
        Ok(numbers.table())
    }

    /// Starts sway. Returns its Wayland socket.
    fn start_sway(&mut self) -> Result<PathBuf> {
        self.supervisor
            .progress
            .stage(format!("starting sway in the compositor VM `{COMPOSITOR_VM}`"));
        let room = self.rooms.room(COMPOSITOR_VM);
        let config = self.rooms.write(COMPOSITOR_VM, "sway.conf", &scene::sway_config())?;
        let watch = Watch::new(&[&room])?;
        let mut spec = self.spec(SWAY, COMPOSITOR_VM, Path::new("sway"));
        spec.args = words(&["--config", text(&config)?]);
        for (name, value) in [
            ("SWAYSOCK", text(&self.sway_socket())?),
            ("WLR_BACKENDS", "headless"),
            ("WLR_RENDERER", "pixman"),
            ("WLR_LIBINPUT_NO_DEVICES", "1"),
        ] {
            spec.env.push((name.to_owned(), value.to_owned()));
        }
        self.supervisor.start(&spec)?;
        let control = self.sway_socket();
        self.supervisor.wait_for("socket", &[SWAY], START_DEADLINE, &[watch.as_fd()], || {
            watch.drain();
            // Only a sway that answers runs: one that still starts forgets a SIGTERM.
            Ok(match wayland_socket(&room)? {
                Some(socket)
                    if Sway::connect(&control).and_then(|mut sway| sway.views()).is_ok() =>
                {
                    Step::Done(socket)
                }
                _ => Step::Waiting("sway starts".to_owned()),
            })
        })
    }

    /// Starts wlproxy. Returns its configuration file.
    pub(super) fn start_wlproxy(&mut self) -> Result<PathBuf> {
        self.supervisor.progress.stage("starting wlproxy, with a worker for each VM");
        let room = self.rooms.room(HOST);
        let config = self.rooms.write(HOST, "wlproxy.toml", &scene::wlproxy_config(&room))?;
        let watch = Watch::new(&[&room])?;
        let mut spec = self.spec(WLPROXY, HOST, self.rooms.wlproxy());
        spec.args = words(&["run", "--config", text(&config)?]);
        self.supervisor.start(&spec)?;
        let devices: Vec<PathBuf> = [COMPOSITOR_VM]
            .into_iter()
            .chain(CLIENT_VMS.map(|vm| vm.name))
            .map(|vm| self.rooms.device(vm))
            .collect();
        let wake = [watch.as_fd()];
        self.supervisor.wait_for(
            "socket for each VM",
            &[WLPROXY],
            START_DEADLINE,
            &wake,
            || {
                watch.drain();
                let there = devices.iter().filter(|device| device.exists()).count();
                Ok(match there == devices.len() {
                    true => Step::Done(()),
                    false => Step::Waiting(format!("{there} of {}", devices.len())),
                })
            },
        )?;
        Ok(config)
    }

    /// Starts the accept side of the compositor VM. Clients that come before it is ready wait for it.
    pub(super) fn start_serve(&mut self, compositor: &Path) -> Result<()> {
        let mut spec = self.agent(COMPOSITOR_VM, "serve")?;
        spec.args.extend(words(&["--compositor", text(compositor)?]));
        self.supervisor.start(&spec)
    }

    /// Starts the applications of a client VM, waits for their windows and puts them in their places. Returns which
    /// windows they are.
    fn start_client_vm(
        &mut self,
        vm: ClientVm,
        sway: &mut Sway,
        known: &[(ClientVm, i64)],
    ) -> Result<Vec<(ClientVm, i64)>> {
        self.supervisor
            .progress
            .stage(format!("waiting for the windows of client VM `{}`", vm.name));
        let mut changes = Changes::subscribe(&self.sway_socket())?;
        let mut spec = self.agent(vm.name, "run")?;
        spec.args.extend(words(&["--", "sh", "-c", &vm.script()]));
        self.supervisor.start(&spec)?;

        let windows = vm.windows();
        let client = agent_name(vm.name);
        let blame = [client.as_str(), &agent_name(COMPOSITOR_VM), WLPROXY];
        let wake = changes.as_fd().try_clone_to_owned()?;
        let arrived = self.supervisor.wait_for(
            &format!("{} windows of {}", windows.len(), vm.name),
            &blame,
            WINDOWS_DEADLINE,
            &[wake.as_fd()],
            || {
                changes.drain();
                let mut views = sway.views()?;
                views.retain(|view| !known.iter().any(|(_, id)| *id == view.id));
                assign(&windows, &views).with_context(|| Blame::on(&[&client, SWAY]))
            },
        )?;
        for (id, window) in &arrived {
            sway.command(&scene::placement(*id, window))?;
        }
        Ok(arrived.into_iter().map(|(id, _)| (vm, id)).collect())
    }

    /// Takes pictures until one shows what every window has drawn.
    fn take_picture(
        &mut self,
        compositor: &Path,
        sway: &mut Sway,
        ids: &[(ClientVm, i64)],
    ) -> Result<(Vec<Shown>, Picture)> {
        self.supervisor.progress.stage("taking the picture in the compositor VM");
        let mut grim = self.spec(GRIM, COMPOSITOR_VM, Path::new(GRIM));
        grim.env.push(("WAYLAND_DISPLAY".to_owned(), text(compositor)?.to_owned()));
        grim.args = words(&["-"]);
        grim.stdout = Some(self.output.picture.clone());
        let begin = Instant::now();
        loop {
            let shown = find(ids, &sway.views()?)?;
            self.supervisor.run(&grim, ANSWER_DEADLINE)?;
            let picture = read_picture(&self.output.picture).context(Blame::on(&[GRIM]))?;
            let Some(lacking) = lacking(&shown, &picture) else {
                return Ok((shown, picture));
            };
            if begin.elapsed() > DRAWN_DEADLINE {
                let (part, what) = lacking;
                let seconds = DRAWN_DEADLINE.as_secs();
                let reason = format!("{part}: after {seconds} s the picture doesn't show {what}");
                let logs =
                    self.supervisor.logs(&[&part, &agent_name(COMPOSITOR_VM), WLPROXY, SWAY]);
                return Err(Failure::new(reason, logs).into());
            }
        }
    }

    /// Asks the agents and wlproxy what they counted.
    pub(super) fn count(&mut self, config: &Path) -> Result<Numbers> {
        self.supervisor.progress.stage("counting");
        let agents = [COMPOSITOR_VM]
            .into_iter()
            .chain(CLIENT_VMS.map(|vm| vm.name))
            .map(|vm| Ok(AgentStats { vm, stats: self.agent_stats(vm)? }))
            .collect::<Result<Vec<_>>>()?;
        let begin = Instant::now();
        loop {
            let numbers = Numbers::new(self.status(config)?, &agents)?;
            let Some(lagging) = numbers.lagging() else { return Ok(numbers) };
            if begin.elapsed() > ANSWER_DEADLINE {
                let seconds = ANSWER_DEADLINE.as_secs();
                let reason = format!("wlproxy: after {seconds} s its status tells of {lagging}");
                return Err(Failure::new(reason, self.supervisor.logs(&[WLPROXY])).into());
            }
            // What wlproxy tells may be a second old.
            self.supervisor.pause(STATUS_INTERVAL, &lagging)?;
        }
    }

    fn status(&mut self, config: &Path) -> Result<Value> {
        let answer = self.output.logs.join("status.json");
        let mut spec = self.spec("wlproxy-status", HOST, self.rooms.wlproxy());
        spec.args = words(&["status", "--config", text(config)?, "--json"]);
        spec.stdout = Some(answer.clone());
        self.supervisor.run(&spec, ANSWER_DEADLINE)?;
        serde_json::from_slice(&fs::read(&answer)?)
            .context("its status is no JSON")
            .with_context(|| Blame::on(&[&spec.name, WLPROXY]))
    }

    /// Has an agent write its numbers.
    pub(super) fn agent_stats(&mut self, vm: &str) -> Result<Value> {
        let name = agent_name(vm);
        let path = self.rooms.stats(vm);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let watch = Watch::new(&[&self.rooms.room(vm)])?;
        self.supervisor.signal(&name, Signal::SIGUSR1)?;
        let wake = [watch.as_fd()];
        self.supervisor.wait_for("numbers", &[&name], ANSWER_DEADLINE, &wake, || {
            watch.drain();
            // Half a file isn't JSON yet.
            let stats = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            Ok(stats.map_or_else(|| Step::Waiting(name.clone()), Step::Done))
        })
    }

    fn write_report(&self, shown: &[Shown], picture: &Picture, numbers: &Numbers) -> Result<()> {
        let windows: Vec<Value> = shown
            .iter()
            .map(|Shown { vm, view: View { app_id, title, content, .. } }| {
                json!({
                    "vm": vm.name, "app_id": app_id, "title": title,
                    "x": content.x, "y": content.y,
                    "width": content.width, "height": content.height,
                })
            })
            .collect();
        let mut report = numbers.json();
        report["picture"] = json!({ "width": picture.width, "height": picture.height });
        report["windows"] = windows.into();
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(&self.output.report, text)
            .with_context(|| format!("can't write {}", self.output.report.display()))
    }

    /// A program in a room: it sees the sockets of that room only.
    pub(super) fn spec(&self, name: &str, room: &str, program: &Path) -> Spec {
        let dir = self.rooms.room(room);
        let mut env: Vec<(String, String)> = [
            ("HOME", dir.display().to_string()),
            ("XDG_RUNTIME_DIR", dir.display().to_string()),
            ("LANG", "C.UTF-8".to_owned()),
            ("SHELL", "/bin/sh".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for name in ["PATH", "RUST_LOG"] {
            env.extend(env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        let program = program.to_owned();
        Spec { name: name.to_owned(), program, args: Vec::new(), env, dir, stdout: None }
    }

    pub(super) fn agent(&self, vm: &str, mode: &str) -> Result<Spec> {
        let mut spec = self.spec(&agent_name(vm), vm, self.rooms.guest_agent());
        let channel = format!("process:{}", text(&self.rooms.device(vm))?);
        let stats = self.rooms.stats(vm);
        spec.args = words(&[mode, "--channel", &channel, "--stats", text(&stats)?]);
        Ok(spec)
    }

    fn sway_socket(&self) -> PathBuf {
        self.rooms.room(COMPOSITOR_VM).join("sway.sock")
    }
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The Wayland socket in a runtime directory, whatever its number.
fn wayland_socket(dir: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("wayland-") && !name.ends_with(".lock") {
            return Ok(Some(dir.join(&*name)));
        }
    }
    Ok(None)
}

/// Which of the windows each view is, when all are there.
fn assign(windows: &[Window], views: &[View]) -> Result<Step<Vec<(i64, Window)>>> {
    let mut missing = windows.to_vec();
    let mut found = Vec::new();
    for view in views {
        match missing.iter().position(|window| view.app_id.ends_with(window.app_id)) {
            Some(index) => found.push((view.id, missing.swap_remove(index))),
            None => bail!("sway shows a window that nobody expects: {}", view.app_id),
        }
    }
    Ok(match missing.first() {
        None => Step::Done(found),
        Some(window) => Step::Waiting(format!(
            "{} of {} windows, {} isn't there",
            found.len(),
            windows.len(),
            window.app_id
        )),
    })
}

/// The windows with these ids; none may be gone.
fn find(ids: &[(ClientVm, i64)], views: &[View]) -> Result<Vec<Shown>> {
    ids.iter()
        .map(|&(vm, id)| {
            let view = views.iter().find(|view| view.id == id).cloned();
            let view = view.context("a window is gone").with_context(|| {
                Blame::on(&[&agent_name(vm.name), &agent_name(COMPOSITOR_VM), WLPROXY])
            })?;
            Ok(Shown { vm, view })
        })
        .collect()
}

/// A picture of the whole screen.
fn read_picture(path: &Path) -> Result<Picture> {
    let picture = Picture::read(path)?;
    if (picture.width, picture.height) != scene::SCREEN {
        bail!("the picture is {} x {} pixels", picture.width, picture.height);
    }
    Ok(picture)
}

/// Which part hasn't drawn yet what it should have, and what that is.
fn lacking(shown: &[Shown], picture: &Picture) -> Option<(String, String)> {
    if picture.corner() != Some(scene::DESKTOP) {
        return Some((SWAY.to_owned(), "the desktop".to_owned()));
    }
    let Shown { vm, view } = shown
        .iter()
        .find(|Shown { view, .. }| !view.visible || !picture.shows_content(view.content))?;
    Some((agent_name(vm.name), format!("the content of {}", view.app_id)))
}

#[cfg(test)]
mod tests;
