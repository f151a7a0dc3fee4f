use super::*;
use crate::family::descendants;
use crate::watch::Watch;
use std::fs;
use std::sync::{Mutex, MutexGuard};
use tempfile::TempDir;

/// A supervisor looks after all children of the process, so there is one at a time.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const LONG: Duration = Duration::from_secs(20);

struct Bench {
    supervisor: Supervisor,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        let turn = turn();
        let dir = TempDir::new().unwrap();
        let supervisor = Supervisor::new(None, dir.path(), Progress::quiet()).unwrap();
        Self { supervisor, dir, _turn: turn }
    }

    fn spec(&self, name: &str, script: &str) -> Spec {
        Spec {
            name: name.to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            dir: self.dir.path().to_owned(),
            stdout: None,
        }
    }

    /// Starts a script that makes the file `NAME.ready` when it is ready to be stopped.
    fn start(&mut self, name: &str, script: &str) {
        let watch = Watch::new(&[self.dir.path()]).unwrap();
        self.supervisor.start(&self.spec(name, script)).unwrap();
        let ready = self.dir.path().join(format!("{name}.ready"));
        self.supervisor
            .wait_for("file", &[name], LONG, &[watch.as_fd()], || {
                watch.drain();
                Ok(if ready.exists() { Step::Done(()) } else { Step::Waiting(String::new()) })
            })
            .unwrap();
    }
}

#[test]
fn parts_end_in_reverse_order_and_with_their_children() {
    let mut bench = Bench::new();
    for name in ["first", "second"] {
        bench.start(
            name,
            &format!(
                "trap 'echo {name} >> order; exit 0' TERM; sleep 1000 & : > {name}.ready; while :; do wait; done"
            ),
        );
    }
    assert_eq!(descendants().len(), 4);
    bench.supervisor.stop().unwrap();
    assert_eq!(fs::read_to_string(bench.dir.path().join("order")).unwrap(), "second\nfirst\n");
    assert!(descendants().is_empty());
}

#[test]
fn a_part_that_ends_by_itself_is_named_with_its_log() {
    let mut bench = Bench::new();
    bench.supervisor.start(&bench.spec("steady", "exec sleep 1000")).unwrap();
    bench.supervisor.start(&bench.spec("brittle", "echo what went wrong >&2; exit 3")).unwrap();
    let error = bench
        .supervisor
        .wait_for("wonder", &["steady"], LONG, &[], || Ok(Step::<()>::Waiting(String::new())))
        .unwrap_err();
    assert_eq!(error.to_string(), "brittle exited with status 3");
    let tails = error.downcast_ref::<Failure>().unwrap().log_tails();
    assert!(tails.ends_with("brittle.log (last 1 of 1 lines)\nwhat went wrong\n"), "{tails}");
    bench.supervisor.stop().unwrap();
    assert!(descendants().is_empty());
}

#[test]
fn an_error_is_explained_by_a_part_that_ends() {
    let mut bench = Bench::new();
    bench.supervisor.start(&bench.spec("steady", "exec sleep 1000")).unwrap();
    bench.start("dying", "echo last words; : > dying.ready; exec sleep 1000");
    bench.supervisor.signal("dying", Signal::SIGKILL).unwrap();
    let error = anyhow!("it doesn't answer").context(Blame::on(&["steady"]));
    let error = bench.supervisor.explain(error);
    assert_eq!(error.to_string(), "dying was ended by SIGKILL (steady: it doesn't answer)");
    let tails = error.downcast_ref::<Failure>().unwrap().log_tails();
    assert!(tails.ends_with("dying.log (last 1 of 1 lines)\nlast words\n"), "{tails}");
    bench.supervisor.stop().unwrap();
}

#[test]
fn an_error_shows_the_logs_of_whom_it_blames_or_all() {
    let mut bench = Bench::new();
    for name in ["first", "second"] {
        bench.start(name, &format!("echo {name} speaks; : > {name}.ready; exec sleep 1000"));
    }
    let mut explain = |error| {
        let error = bench.supervisor.explain(error);
        let tails = error.downcast_ref::<Failure>().map(Failure::log_tails);
        (error.to_string(), tails.unwrap_or_default())
    };
    let (text, tails) = explain(anyhow!("it is odd").context(Blame::on(&["second"])));
    assert_eq!(text, "second: it is odd");
    assert!(tails.contains("second speaks") && !tails.contains("first speaks"), "{tails}");
    let (text, tails) = explain(anyhow!("all is odd"));
    assert_eq!(text, "all is odd");
    assert!(tails.contains("second speaks") && tails.contains("first speaks"), "{tails}");
    let (text, tails) = explain(Interrupted(Signal::SIGINT).into());
    assert_eq!((text.as_str(), tails.as_str()), ("stopped by SIGINT", ""));
    bench.supervisor.stop().unwrap();
}

#[test]
fn stopping_tells_of_parts_that_had_ended_or_end_wrongly() {
    let mut bench = Bench::new();
    bench
        .start("wrong", "trap 'exit 7' TERM; : > wrong.ready; while :; do sleep 1000 & wait; done");
    bench.supervisor.start(&bench.spec("early", ":")).unwrap();
    let early = bench.supervisor.part("early").unwrap();
    while early.end().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(
        bench.supervisor.stop().unwrap_err().to_string(),
        "early exited with status 0 before it was told to; wrong exited with status 7 when it was told to stop"
    );
}

#[test]
fn others_are_waited_for_when_what_has_ended_was_buried() {
    let mut bench = Bench::new();
    bench.supervisor.start(&bench.spec("steady", "exec sleep 1000")).unwrap();
    bench.start("dying", ": > dying.ready; exec sleep 1000");
    assert!(bench.supervisor.bury().is_empty());
    bench.supervisor.signal("dying", Signal::SIGKILL).unwrap();
    let error = bench.supervisor.explain(anyhow!("it doesn't answer"));
    assert!(error.to_string().starts_with("dying was ended by SIGKILL"), "{error}");
    assert_eq!(bench.supervisor.bury(), ["dying"]);
    assert!(bench.supervisor.has("steady") && !bench.supervisor.has("dying"));
    bench.supervisor.wait_for("nothing", &[], LONG, &[], || Ok(Step::Done(()))).unwrap();
    bench.supervisor.stop().unwrap();
}

#[test]
fn what_takes_too_long_is_named() {
    let mut bench = Bench::new();
    bench.supervisor.start(&bench.spec("slow", "exec sleep 1000")).unwrap();
    let deadline = Duration::from_millis(20);
    let error = bench
        .supervisor
        .wait_for("socket", &["slow"], deadline, &[], || Ok(Step::<()>::Waiting("0 of 1".into())))
        .unwrap_err();
    assert_eq!(error.to_string(), "slow: no socket after 0.02 s (0 of 1)");
    let slow = bench.spec("question", "exec sleep 1000");
    let error = bench.supervisor.run(&slow, deadline).unwrap_err();
    assert_eq!(error.to_string(), "question: no end after 0.02 s (it still runs)");
    bench.supervisor.stop().unwrap();
    assert!(descendants().is_empty());
}

#[test]
fn a_program_is_run_to_its_end() {
    let mut bench = Bench::new();
    let mut spec = bench.spec("question", "echo answer; echo remark >&2");
    let answer = bench.dir.path().join("answer");
    spec.stdout = Some(answer.clone());
    bench.supervisor.run(&spec, LONG).unwrap();
    assert_eq!(fs::read_to_string(answer).unwrap(), "answer\n");
    assert_eq!(fs::read_to_string(bench.dir.path().join("question.log")).unwrap(), "remark\n");
    let error = bench.supervisor.run(&bench.spec("question", "kill -KILL $$"), LONG).unwrap_err();
    assert_eq!(error.to_string(), "question was ended by SIGKILL");
}

#[test]
fn a_process_that_slipped_away_is_found_and_ended() {
    let mut bench = Bench::new();
    // In a session of its own it gets no signal that its part gets.
    bench.start(
        "leaky",
        "setsid sh -c 'trap \"\" TERM HUP; : > leaky.ready; exec sleep 1000' & wait",
    );
    let error = bench.supervisor.stop().unwrap_err();
    assert_eq!(error.to_string(), "processes were left behind: sleep");
    assert!(descendants().is_empty());
}

#[test]
fn dropping_ends_everything() {
    let bench = {
        let mut bench = Bench::new();
        bench.start("stubborn", "trap '' TERM; sleep 1000 & : > stubborn.ready; wait");
        assert_eq!(descendants().len(), 2);
        bench
    };
    let Bench { supervisor, _turn, .. } = bench;
    drop(supervisor);
    assert!(descendants().is_empty());
}

#[test]
fn a_signal_of_the_user_ends_a_wait_but_not_the_stopping() {
    let mut bench = Bench::new();
    bench.start(
        "part",
        "trap 'echo 1 > stopped; exit 0' TERM; : > part.ready; while :; do sleep 1000 & wait; done",
    );
    // Blocked in this thread, which is the one it is sent to.
    nix::sys::signal::raise(Signal::SIGINT).unwrap();
    let error = bench
        .supervisor
        .wait_for("wonder", &["part"], LONG, &[], || Ok(Step::<()>::Waiting(String::new())))
        .unwrap_err();
    assert_eq!(error.downcast_ref::<Interrupted>().unwrap().exit_code(), 130);
    nix::sys::signal::raise(Signal::SIGINT).unwrap();
    bench.supervisor.stop().unwrap();
    assert!(bench.dir.path().join("stopped").exists());
}

/// Names the directory of a test program that is to be killed.
const VICTIM: &str = "XTASK_TEST_VICTIM";

#[test]
#[ignore = "the next test starts it"]
fn a_supervisor_that_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let mut bench = Bench::new();
        bench.start("part", "trap '' TERM HUP; : > part.ready; exec sleep 1000");
        nix::sys::signal::raise(Signal::SIGKILL).unwrap();
    }
}

#[test]
fn parts_end_with_a_supervisor_that_is_killed() {
    let mut bench = Bench::new();
    let mut spec = bench.spec("victim", "");
    spec.program = std::env::current_exe().unwrap();
    let test = "supervisor::tests::a_supervisor_that_is_killed";
    spec.args = ["--exact", "--ignored", test].map(str::to_owned).into();
    for name in [VICTIM, "TMPDIR"] {
        spec.env.push((name.to_owned(), bench.dir.path().to_str().unwrap().to_owned()));
    }
    let error = bench.supervisor.run(&spec, LONG).unwrap_err();
    assert_eq!(error.to_string(), "victim was ended by SIGKILL");
    // What the victim leaves would come to this process, which ends none of it here.
    bench
        .supervisor
        .wait_for("end", &["victim"], LONG, &[], || {
            let left = descendants();
            Ok(if left.is_empty() { Step::Done(()) } else { Step::Waiting(format!("{left:?}")) })
        })
        .unwrap();
}
