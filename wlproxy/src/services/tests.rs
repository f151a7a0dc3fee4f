use super::*;
use calloop::EventLoop;
use std::net::Shutdown;

/// Longest that anything here may take, on a machine that does much else.
const LONG: Duration = Duration::from_secs(20);

/// More than a socket takes at once (Linux, `net.core.wmem_default`: 208 KiB).
const LARGE: usize = 1 << 20;

/// Answers each line with itself, and `large` with much.
struct Echo(Option<Services<Self>>);

impl HasServices for Echo {
    fn services(&mut self) -> &mut Services<Self> {
        self.0.as_mut().unwrap()
    }

    fn answer(&mut self, _: Service, question: &[u8], _: &UnixStream) -> Option<Vec<u8>> {
        let line = question.strip_suffix(b"\n")?;
        Some(if line == b"large" { vec![b'x'; LARGE] } else { line.to_vec() })
    }
}

struct Rig {
    events: EventLoop<'static, Echo>,
    echo: Echo,
    path: std::path::PathBuf,
    _temp: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s.sock");
        let events = EventLoop::try_new().unwrap();
        let mut services = Services::new(events.handle());
        services.listen(Service::Control, Listening::bind(&path).unwrap()).unwrap();
        Self { events, echo: Echo(Some(services)), path, _temp: temp }
    }

    fn connect(&self) -> UnixStream {
        wlproxy_unix::connect(&self.path).unwrap()
    }

    /// Lets the loop do what there is to do, until `done` finds something.
    fn until<T>(&mut self, mut done: impl FnMut(&mut Echo) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        loop {
            self.events.dispatch(Duration::from_millis(1), &mut self.echo).unwrap();
            if let Some(found) = done(&mut self.echo) {
                return found;
            }
            assert!(Instant::now() < deadline, "not within {LONG:?}");
        }
    }

    /// All that comes until the end.
    fn answer(&mut self, mut asker: &UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until(|_| match asker.read_to_end(&mut bytes) {
            Ok(_) => Some(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // It was cut off with a question of its unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(()),
            Err(error) => panic!("{error}"),
        });
        bytes
    }

    fn askers(&mut self) -> usize {
        self.echo.services().askers.len()
    }
}

#[test]
fn a_question_may_come_in_pieces_and_an_answer_may_be_large() {
    let mut rig = Rig::new();
    let mut asker = rig.connect();
    asker.write_all(b"la").unwrap();
    rig.until(|echo| (echo.services().askers.first()?.question == b"la").then_some(()));
    asker.write_all(b"rge\n").unwrap();
    assert_eq!(rig.answer(&asker).len(), LARGE);
    assert_eq!(rig.askers(), 0);
}

#[test]
fn who_ends_its_side_after_the_question_is_answered_and_before_that_is_not() {
    let mut rig = Rig::new();
    for (question, answer) in [("hello\n", "hello"), ("hel", ""), ("", "")] {
        let mut asker = rig.connect();
        asker.write_all(question.as_bytes()).unwrap();
        asker.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rig.answer(&asker), answer.as_bytes(), "{question:?}");
        assert_eq!(rig.askers(), 0);
    }
    let mut asker = rig.connect();
    asker.write_all(b"large\n").unwrap();
    rig.until(|echo| (!echo.services().askers.first()?.answer.is_empty()).then_some(()));
    asker.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.answer(&asker).len(), LARGE);
}

#[test]
fn who_neither_asks_nor_reads_stops_nobody_and_is_cut_off_in_time() {
    let mut rig = Rig::new();
    let silent = rig.connect();
    let mut stuck = rig.connect();
    stuck.write_all(b"large\n").unwrap();
    rig.until(|echo| {
        echo.services().askers.iter().any(|asker| !asker.answer.is_empty()).then_some(())
    });
    let mut other = rig.connect();
    other.write_all(b"hello\n").unwrap();
    assert_eq!(rig.answer(&other), b"hello");
    assert_eq!(rig.askers(), 2);
    let now = Instant::now();
    let due = rig.echo.services().tick(now).expect("a deadline");
    assert!(due > now && due <= now + PATIENCE);
    assert_eq!(rig.echo.services().tick(now + PATIENCE), None);
    assert_eq!(rig.askers(), 0);
    assert!(rig.answer(&silent).is_empty());
    assert!(rig.answer(&stuck).len() < LARGE);
}

#[test]
fn when_too_many_ask_the_one_that_came_first_goes() {
    let mut rig = Rig::new();
    let silent: Vec<_> = (0..=MAX_ASKERS).map(|_| rig.connect()).collect();
    assert!(rig.answer(&silent[0]).is_empty());
    assert_eq!(rig.askers(), MAX_ASKERS);
    (&silent[1]).write_all(b"still here\n").unwrap();
    assert_eq!(rig.answer(&silent[1]), b"still here");
}

#[test]
fn a_question_without_end_is_refused() {
    let mut rig = Rig::new();
    let mut asker = rig.connect();
    asker.write_all(&[b'x'; MAX_QUESTION + 1]).unwrap();
    assert!(rig.answer(&asker).is_empty());
    let gone = rig.connect();
    rig.until(|echo| (echo.services().askers.len() == 1).then_some(()));
    drop(gone);
    rig.until(|echo| echo.services().askers.is_empty().then_some(()));
}
