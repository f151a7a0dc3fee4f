//! What every channel has to do, in front of a device that does what the bytes sent to a context say.
//!
//! | bytes | what the device does |
//! |---|---|
//! | `hold` | sends `held`, and doesn't answer before somebody sends `release` |
//! | `refuse` | answers that the vfd is of the wrong kind |
//! | `hang up` | sends `bye` and hangs up |
//! | `flood` | sends [`FLOOD`] messages, each its number |
//! | `pipe` | sends `here` and a pipe that can be read, in which `early` stands |
//! | anything else | sends them back, and the memory that came along, as new vfds |
//!
//! The names of [`token`] and of reports can be opened, and no other.

use super::{Arrived, Channel, Error, Event, PipeEnd, Received, Sent, VfdId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wlproxy_protocol::accept::{Token, Way};
use wlproxy_protocol::limits::{MAX_ALLOCATION, MAX_SEND, PAGE_SIZE};
use wlproxy_protocol::report::Report;
use wlproxy_protocol::virtio_wl::QUEUE_SIZE;
use wlproxy_unix::memory;

/// How long anything may take, in milliseconds; far more than it does.
pub(crate) const PATIENCE: u16 = 20_000;

/// More messages than there are receive buffers.
pub(crate) const FLOOD: u16 = 3 * QUEUE_SIZE;

/// What stands for a stream that can be opened.
pub(crate) fn token() -> Token {
    Token::new([7; 16])
}

/// A channel, and what it told.
pub(crate) trait Lab {
    fn channel(&mut self) -> &mut dyn Channel;

    /// Events that nobody has waited for.
    fn events(&mut self) -> &mut Vec<Event>;

    /// Waits until the channel has something to do, and lets it.
    fn turn(&mut self) -> Result<(), Error> {
        let mut fds = [PollFd::new(self.channel().poll_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(PATIENCE)).unwrap(), 1, "nothing came");
        let mut events = Vec::new();
        let result = self.channel().dispatch(&mut events);
        self.events().append(&mut events);
        result
    }

    /// Waits for one event.
    fn wait(&mut self, event: Event) {
        while !self.events().contains(&event) {
            self.turn().unwrap();
        }
        self.events().retain(|other| *other != event);
    }

    /// Sends when it is possible.
    fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) {
        while self.channel().send(vfd, bytes, vfds).unwrap() == Sent::Busy {
            self.wait(Event::Writable(vfd));
        }
    }

    /// Waits for one message or the end (`None`).
    fn receive(&mut self, vfd: VfdId) -> Option<(Vec<u8>, Vec<Arrived>)> {
        let mut bytes = Vec::new();
        loop {
            match self.channel().receive(vfd, &mut bytes).unwrap() {
                Received::Message(arrived) => return Some((bytes, arrived)),
                Received::HangUp => return None,
                Received::Nothing => self.wait(Event::Readable(vfd)),
            }
        }
    }

    /// A context that is known to work.
    fn context(&mut self) -> VfdId {
        let context = self.channel().connect().unwrap();
        self.echo(context);
        context
    }

    fn echo(&mut self, context: VfdId) {
        self.send(context, b"echo", &[]);
        assert_eq!(self.receive(context).unwrap().0, b"echo");
    }
}

/// Makes a test of each scenario, which runs on each of the labs.
macro_rules! test_scenarios {
    ($labs:expr) => {
        $crate::channel::scenarios::test_scenarios!(
            $labs;
            bytes_go_there_and_back
            memory_comes_back_with_its_size
            sizes_that_no_device_has_are_refused_at_once
            one_send_at_a_time_and_writable_after_it
            a_refused_send_ends_its_vfd_only
            a_hang_up_comes_after_what_was_sent_before
            nothing_of_a_flood_is_lost
            an_unread_vfd_is_silent_once_closed
            what_came_before_a_vfd_was_handed_out_is_told_after
            a_record_is_opened_by_its_name
            reports_have_a_context_of_their_own
        );
    };
    ($labs:expr; $($scenario:ident)*) => {
        $(
            #[test]
            fn $scenario() {
                $labs.into_iter().for_each(|mut lab| $crate::channel::scenarios::$scenario(&mut lab));
            }
        )*
    };
}
pub(crate) use test_scenarios;

pub(crate) fn bytes_go_there_and_back(lab: &mut impl Lab) {
    let context = lab.channel().connect().unwrap();
    let most = vec![b'x'; MAX_SEND];
    for bytes in [&b"hello"[..], &most] {
        lab.send(context, bytes, &[]);
        assert_eq!(lab.receive(context).unwrap().0, bytes);
    }
    let mut bytes = Vec::new();
    assert!(matches!(lab.channel().receive(context, &mut bytes), Ok(Received::Nothing)));
    let more = [&most[..], b"x"].concat();
    assert!(matches!(lab.channel().send(context, &more, &[]), Err(Error::Refused(_))));
    lab.channel().close(context);
    assert!(matches!(lab.channel().send(context, b"x", &[]), Err(Error::NotFound)));
    assert!(matches!(lab.channel().receive(context, &mut bytes), Err(Error::NotFound)));
}

pub(crate) fn memory_comes_back_with_its_size(lab: &mut impl Lab) {
    let context = lab.context();
    for pages in [1, 2, 3, 15, 16, 17, 255, 8100] {
        let allocation = lab.channel().allocate(pages * PAGE_SIZE - 1).unwrap();
        assert_eq!(allocation.size, pages * PAGE_SIZE);
        lab.send(context, b"back", &[allocation.vfd]);
        let (bytes, arrived) = lab.receive(context).unwrap();
        let [Arrived::Allocation(back)] = &arrived[..] else { panic!("{arrived:?}") };
        assert_eq!((&bytes[..], back.size), (&b"back"[..], allocation.size));
        assert_ne!(back.vfd, allocation.vfd);
        assert!(memory::same_file(&back.fd, &allocation.fd));
        lab.channel().close(allocation.vfd);
        lab.channel().close(back.vfd);
    }
}

pub(crate) fn sizes_that_no_device_has_are_refused_at_once(lab: &mut impl Lab) {
    assert!(matches!(lab.channel().allocate(0), Err(Error::Refused(_))));
    for size in [MAX_ALLOCATION + 1, u64::from(u32::MAX) + 1, u64::MAX] {
        assert!(matches!(lab.channel().allocate(size), Err(Error::OutOfMemory)), "{size}");
    }
}

pub(crate) fn one_send_at_a_time_and_writable_after_it(lab: &mut impl Lab) {
    let (slow, other) = (lab.context(), lab.context());
    lab.send(slow, b"hold", &[]);
    assert_eq!(lab.receive(slow).unwrap().0, b"held");
    assert_eq!(lab.channel().send(slow, b"more", &[]).unwrap(), Sent::Busy);
    lab.echo(other);
    assert_eq!(lab.channel().send(slow, b"more", &[]).unwrap(), Sent::Busy);
    lab.send(other, b"release", &[]);
    lab.wait(Event::Writable(slow));
    assert_eq!(lab.channel().send(slow, b"more", &[]).unwrap(), Sent::Accepted);
    assert_eq!(lab.receive(slow).unwrap().0, b"more");
    assert!(!lab.events().contains(&Event::Writable(slow)), "nobody was told that it is busy");
}

pub(crate) fn a_refused_send_ends_its_vfd_only(lab: &mut impl Lab) {
    let (bad, good) = (lab.context(), lab.context());
    lab.send(bad, b"refuse", &[]);
    assert!(lab.receive(bad).is_none());
    let Err(Error::Refused(why)) = lab.channel().send(bad, b"more", &[]) else {
        panic!("refused for good");
    };
    assert!(why.contains("INVALID_TYPE"), "{why}");
    lab.echo(good);
}

pub(crate) fn a_hang_up_comes_after_what_was_sent_before(lab: &mut impl Lab) {
    let context = lab.context();
    lab.send(context, b"hang up", &[]);
    assert_eq!(lab.receive(context).unwrap().0, b"bye");
    assert!(lab.receive(context).is_none());
    assert!(lab.receive(context).is_none(), "and stays");
}

pub(crate) fn nothing_of_a_flood_is_lost(lab: &mut impl Lab) {
    let (unread, other) = (lab.context(), lab.context());
    lab.send(unread, b"flood", &[]);
    lab.wait(Event::Readable(unread));
    lab.send(other, b"echo", &[]);
    let sent: Vec<u8> = (0..FLOOD).flat_map(u16::to_le_bytes).collect();
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.extend(lab.receive(unread).unwrap().0);
    }
    assert!(got == sent);
    assert_eq!(lab.receive(other).unwrap().0, b"echo");
}

pub(crate) fn an_unread_vfd_is_silent_once_closed(lab: &mut impl Lab) {
    let (unread, other) = (lab.context(), lab.context());
    lab.send(unread, b"flood", &[]);
    lab.wait(Event::Readable(unread));
    lab.channel().close(unread);
    lab.events().clear();
    lab.echo(other);
    assert!(!lab.events().contains(&Event::Readable(unread)));
}

pub(crate) fn what_came_before_a_vfd_was_handed_out_is_told_after(lab: &mut impl Lab) {
    let context = lab.context();
    lab.send(context, b"pipe", &[]);
    let (bytes, arrived) = lab.receive(context).unwrap();
    let [Arrived::Pipe(pipe, PipeEnd::Read)] = arrived[..] else {
        panic!("{arrived:?}");
    };
    assert_eq!(bytes, b"here");
    assert!(!lab.events().contains(&Event::Readable(pipe)));
    lab.wait(Event::Readable(pipe));
    assert_eq!(lab.receive(pipe).unwrap().0, b"early");
}

pub(crate) fn a_record_is_opened_by_its_name(lab: &mut impl Lab) {
    let ways = lab.channel().ways();
    assert!(ways.contains(Way::Name));
    let stream = lab.channel().open(Way::Name, token()).unwrap();
    lab.echo(stream);
    let unknown = lab.channel().open(Way::Name, Token::new([9; 16]));
    assert!(matches!(unknown, Err(Error::NotFound)));
    let refused = lab.channel().open(Way::ChannelType(1), token());
    assert!(matches!(refused, Err(Error::Refused(_))));
    match lab.channel().open(Way::DialBack, token()) {
        // The default stream, as somebody else's device has no other.
        Ok(stream) if ways.contains(Way::DialBack) => lab.echo(stream),
        dialled => assert!(matches!(dialled, Err(Error::Refused(_)))),
    }
}

pub(crate) fn reports_have_a_context_of_their_own(lab: &mut impl Lab) {
    let reports = lab.channel().open_reports().unwrap();
    let report = Report { frames: 1, ..Report::default() }.encode();
    lab.send(reports, &report, &[]);
    assert_eq!(lab.receive(reports).unwrap().0, report);
    lab.channel().close(reports);
    lab.context();
}
