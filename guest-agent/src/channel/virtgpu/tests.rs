mod agent;
mod fake;

use super::*;
use crate::channel::scenarios::{Lab as _, test_scenarios, token};
use fake::{ANNOUNCED, Fake};
use wlproxy_protocol::limits::MAX_QUEUED;

/// A channel, and what stands in for the driver.
struct Lab {
    channel: VirtgpuChannel,
    fake: Fake,
    events: Vec<Event>,
}

impl Lab {
    fn new(fake: Fake) -> Self {
        let channel = VirtgpuChannel::new(Box::new(fake.clone())).unwrap();
        Self { channel, fake, events: Vec::new() }
    }

    fn obedient() -> Self {
        Self::new(Fake::obedient())
    }

    fn silent() -> Self {
        Self::new(Fake::new())
    }

    /// A context, and its file.
    fn connect(&mut self) -> (VfdId, u32) {
        let context = self.channel.connect().unwrap();
        (context, self.fake.newest())
    }

    /// A pipe that was given away over a context, and what it is called.
    fn pipe(&mut self, end: PipeEnd, over: VfdId, file: u32) -> (VfdId, u32) {
        let pipe = self.channel.pipe(end).unwrap();
        self.send(over, b"take it", &[pipe]);
        let name = *self.fake.file(file).pipes.last_key_value().unwrap().0;
        (pipe, name)
    }

    /// Takes in what there is now.
    fn dispatch(&mut self) {
        self.channel.dispatch(&mut self.events).unwrap();
    }
}

impl crate::channel::scenarios::Lab for Lab {
    fn channel(&mut self) -> &mut dyn Channel {
        &mut self.channel
    }

    fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
}

// Not those of refusals, which this driver doesn't tell, nor of names.
test_scenarios!(
    [Lab::obedient()];
    bytes_go_there_and_back
    memory_comes_back_with_its_size
    sizes_that_no_device_has_are_refused_at_once
    one_send_at_a_time_and_writable_after_it
    a_hang_up_comes_after_what_was_sent_before
    nothing_of_a_flood_is_lost
    an_unread_vfd_is_silent_once_closed
    what_came_before_a_vfd_was_handed_out_is_told_after
    reports_have_a_context_of_their_own
);

#[test]
fn a_record_is_opened_by_its_channel_type() {
    let mut lab = Lab::obedient();
    assert_eq!(lab.channel.ways(), Ways::CHANNEL_TYPE.or(Ways::DIAL_BACK));
    let stream = lab.channel.open(Way::ChannelType(ANNOUNCED), token()).unwrap();
    lab.echo(stream);
    for way in [Way::Name, Way::ChannelType(CHANNEL_WAYLAND)] {
        assert!(matches!(lab.channel.open(way, token()), Err(Error::Refused(_))), "{way:?}");
    }
}

#[test]
fn a_stream_that_is_dialled_back_is_the_default_one() {
    let mut lab = Lab::obedient();
    let stream = lab.channel.open(Way::DialBack, token()).unwrap();
    lab.echo(stream);
}

#[test]
fn what_is_not_connected_hangs_up() {
    let mut lab = Lab::obedient();
    let unknown = lab.channel.open(Way::ChannelType(ANNOUNCED + 1), token()).unwrap();
    assert!(lab.receive(unknown).is_none());
    assert!(matches!(lab.channel.send(unknown, b"x", &[]), Err(Error::Refused(_))));
    let file = lab.fake.newest();
    lab.channel.close(unknown);
    assert!(!lab.fake.is_open(file));
    lab.context();
}

#[test]
fn a_device_that_takes_no_reports_is_asked_for_nothing_over_that_context() {
    let mut lab = Lab::silent();
    let reports = lab.channel.open_reports().unwrap();
    assert!(matches!(lab.channel.allocate(1), Err(Error::Refused(_))), "nobody to ask");
    assert!(lab.receive(reports).is_none());
    lab.channel.close(reports);
    lab.connect();
    lab.channel.allocate(1).unwrap();
}

#[test]
fn a_pipe_is_read() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (pipe, name) = lab.pipe(PipeEnd::Read, context, file);
    assert_eq!(lab.fake.file(file).pipes[&name].kind, identifier::READ_PIPE);
    lab.fake.deliver_pipe(file, name, b"one, ", false);
    lab.fake.deliver_pipe(file, name, b"two", true);
    assert_eq!(lab.receive(pipe).unwrap().0, b"one, ");
    assert_eq!(lab.receive(pipe).unwrap().0, b"two");
    assert!(lab.receive(pipe).is_none());
    assert!(matches!(lab.channel.send(pipe, b"no", &[]), Err(Error::Refused(_))));
    lab.channel.close(pipe);
    assert!(!lab.fake.file(file).pipes[&name].closed, "the host knows already");
    assert!(matches!(lab.channel.receive(pipe, &mut Vec::new()), Err(Error::NotFound)));
}

#[test]
fn a_pipe_is_written_once_it_was_given_away() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let pipe = lab.channel.pipe(PipeEnd::Write).unwrap();
    assert_eq!(lab.channel.send(pipe, b"early", &[]).unwrap(), Sent::Busy);
    lab.send(context, b"take it", &[pipe]);
    lab.wait(Event::Writable(pipe));
    lab.send(pipe, b"one, ", &[]);
    lab.send(pipe, b"two", &[]);
    lab.channel.close(pipe);
    let file = lab.fake.file(file);
    let (name, of) = file.pipes.last_key_value().unwrap();
    // What other devices want the first to be called.
    assert_eq!((*name, of.kind), (0x8000_0001, identifier::WRITE_PIPE));
    assert!(of.bytes == b"one, two" && of.closed);
}

#[test]
fn a_pipe_that_nobody_reads_any_more_is_told() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (pipe, name) = lab.pipe(PipeEnd::Write, context, file);
    assert!(matches!(lab.channel.receive(pipe, &mut Vec::new()), Ok(Received::Nothing)));
    lab.fake.deliver_pipe(file, name, b"", true);
    assert!(lab.receive(pipe).is_none());
    assert!(matches!(lab.channel.send(pipe, b"no", &[]), Err(Error::Refused(_))));
}

#[test]
fn a_pipe_is_given_away_once() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (pipe, _) = lab.pipe(PipeEnd::Write, context, file);
    let again = lab.channel.send(context, b"x", &[pipe]);
    assert!(matches!(again, Err(Error::Refused(_))));
    let twice = lab.channel.pipe(PipeEnd::Read).unwrap();
    let again = lab.channel.send(context, b"x", &[twice, twice]);
    assert!(matches!(again, Err(Error::Refused(_))));
    lab.send(context, b"y", &[twice]);
    assert_eq!(lab.fake.file(file).bytes, b"take ity");
}

#[test]
fn a_context_that_is_closed_carries_its_pipes_on() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (write, _) = lab.pipe(PipeEnd::Write, context, file);
    let (read, name) = lab.pipe(PipeEnd::Read, context, file);
    lab.channel.close(context);
    assert!(lab.fake.file(file).hung_up);
    assert!(matches!(lab.channel.send(context, b"x", &[]), Err(Error::NotFound)));
    lab.fake.deliver(file, b"late");
    lab.fake.deliver_pipe(file, name, b"still", true);
    assert_eq!(lab.receive(read).unwrap().0, b"still");
    assert!(!lab.events.contains(&Event::Readable(context)), "nobody knows it");
    lab.send(write, b"on", &[]);
    lab.channel.close(read);
    assert!(lab.fake.is_open(file));
    lab.channel.close(write);
    assert!(!lab.fake.is_open(file));
}

#[test]
fn a_context_closes_after_what_it_sends_and_keeps_nobody_waiting() {
    let mut lab = Lab::silent();
    let ((slow, slow_file), (other, other_file)) = (lab.connect(), lab.connect());
    lab.fake.file(slow_file).held = true;
    lab.send(slow, b"last words", &[]);
    lab.channel.close(slow);
    lab.send(other, b"on", &[]);
    lab.channel.close(other);
    assert!(!lab.fake.is_open(other_file));
    lab.dispatch();
    assert!(lab.fake.is_open(slow_file));
    lab.fake.release();
    lab.dispatch();
    assert!(!lab.fake.is_open(slow_file));
    assert_eq!(lab.events, []);
}

#[test]
fn a_pipe_closes_after_what_it_sends() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (pipe, name) = lab.pipe(PipeEnd::Write, context, file);
    lab.fake.file(file).held = true;
    lab.send(pipe, b"the end", &[]);
    lab.channel.close(pipe);
    lab.channel.close(context);
    assert!(!lab.fake.file(file).pipes[&name].closed);
    lab.fake.release();
    lab.dispatch();
    assert!(!lab.fake.is_open(file));
    assert!(lab.fake.file(file).pipes[&name].closed);
}

#[test]
fn a_pipe_that_is_not_read_there_holds_up_no_other_vfd() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (pipe, _) = lab.pipe(PipeEnd::Write, context, file);
    lab.fake.file(file).held = true;
    lab.send(pipe, b"1", &[]);
    assert_eq!(lab.channel.send(pipe, b"2", &[]).unwrap(), Sent::Busy);
    lab.fake.file(file).held = false;
    lab.send(context, b"on", &[]);
    assert_eq!(lab.channel.send(pipe, b"2", &[]).unwrap(), Sent::Busy);
    lab.fake.release();
    lab.wait(Event::Writable(pipe));
    lab.send(pipe, b"2", &[]);
}

#[test]
fn memory_outlives_the_context_that_it_was_made_over() {
    let mut lab = Lab::silent();
    assert!(matches!(lab.channel.allocate(1), Err(Error::Refused(_))), "nobody to ask");
    let ((first, _), (second, file)) = (lab.connect(), lab.connect());
    lab.channel.close(second);
    let allocation = lab.channel.allocate(1).unwrap();
    lab.channel.close(first);
    let (third, third_file) = lab.connect();
    assert!(!lab.fake.is_open(file));
    lab.send(third, b"create_pool", &[allocation.vfd]);
    let resource = lab.fake.file(third_file).resources[0];
    assert!(lab.fake.has(resource));
    assert!(matches!(lab.channel.send(allocation.vfd, b"no", &[]), Err(Error::Refused(_))));
    assert!(matches!(lab.channel.receive(allocation.vfd, &mut Vec::new()), Ok(Received::Nothing)));
    lab.channel.close(allocation.vfd);
    assert!(!lab.fake.has(resource));
    assert!(matches!(lab.channel.send(third, b"x", &[allocation.vfd]), Err(Error::NotFound)));
    // Nor does the context hold any.
    let other = lab.channel.allocate(1).unwrap();
    lab.send(third, b"create_pool", &[other.vfd]);
    let resource = lab.fake.file(third_file).resources[1];
    lab.channel.close(other.vfd);
    assert!(!lab.fake.has(resource));
}

#[test]
fn nothing_is_told_of_a_pipe_before_it_is_known() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let memory = wlproxy_unix::memory::allocate("test", PAGE_SIZE).unwrap();
    let name = lab.fake.deliver_all(file, b"here", memory);
    lab.fake.deliver_pipe(file, name, b"", true);
    lab.dispatch();
    lab.dispatch();
    assert_eq!(lab.events, [Event::Readable(context)]);
    let (_, arrived) = lab.receive(context).unwrap();
    let [Arrived::Allocation(_), Arrived::Pipe(pipe, PipeEnd::Write)] = arrived[..] else {
        panic!("{arrived:?}");
    };
    lab.wait(Event::Readable(pipe));
    assert!(lab.receive(pipe).is_none());
}

#[test]
fn what_is_not_read_waits_at_the_host_and_holds_up_nobody_else() {
    const PART: usize = 16 * 1024;
    let mut lab = Lab::silent();
    let ((unread, file), (other, other_file)) = (lab.connect(), lab.connect());
    let parts = 2 * MAX_QUEUED / PART;
    for n in 0..parts {
        lab.fake.deliver(file, &[n as u8; PART]);
    }
    let mut before = usize::MAX;
    while lab.fake.waiting(file) < before {
        before = lab.fake.waiting(file);
        lab.dispatch();
    }
    assert!(before >= parts / 3, "{before} of {parts} wait");
    lab.fake.deliver(other_file, b"quick");
    assert_eq!(lab.receive(other).unwrap().0, b"quick");
    for n in 0..parts {
        assert!(lab.receive(unread).unwrap().0 == [n as u8; PART], "part {n}");
    }
}

#[test]
fn a_pipe_of_which_much_waits_is_held_until_it_was_read() {
    // Two of them are more than is kept as one.
    const PART: usize = 33 * 1024;
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let (pipe, name) = lab.pipe(PipeEnd::Read, context, file);
    let (closed, other) = lab.pipe(PipeEnd::Read, context, file);
    for n in 0..2 {
        assert!(!lab.fake.file(file).pipes[&name].held, "{n} parts");
        lab.fake.deliver_pipe(file, name, &[n; PART], false);
        lab.fake.deliver_pipe(file, other, &[n; PART], false);
        lab.dispatch();
        lab.dispatch();
    }
    assert!(lab.fake.file(file).pipes[&name].held);
    lab.channel.close(closed);
    // Its stream goes on.
    lab.fake.deliver(file, b"on");
    assert_eq!(lab.receive(context).unwrap().0, b"on");
    for n in 0..2 {
        assert!(lab.fake.file(file).pipes[&name].held, "{n} parts are read");
        assert!(lab.receive(pipe).unwrap().0 == [n; PART]);
    }
    assert!(!lab.fake.file(file).pipes[&name].held);
    // The last of it is followed by nothing.
    lab.fake.deliver_pipe(file, name, &[4; PART], true);
    assert!(lab.receive(pipe).unwrap().0 == [4; PART]);
    assert!(lab.receive(pipe).is_none() && !lab.fake.file(file).pipes[&name].held);
}

#[test]
fn pipes_that_nobody_reads_stop_their_stream_only_if_the_device_lets_none_of_them_wait() {
    // As much as one event brings.
    const PART: usize = 64 * 1024 - 24;
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    // Together more than a context keeps.
    let pipes: Vec<_> =
        (0..2 * MAX_QUEUED / (2 * PART)).map(|_| lab.pipe(PipeEnd::Read, context, file)).collect();
    // Less than is held, what is held for, and what is on its way then.
    for _ in 0..3 {
        for (_, name) in &pipes {
            lab.fake.deliver_pipe(file, *name, &[1; PART], false);
            lab.dispatch();
        }
    }
    assert!(pipes.iter().all(|(_, name)| lab.fake.file(file).pipes[name].held));
    lab.fake.deliver(file, b"on");
    assert_eq!(lab.receive(context).unwrap().0, b"on");
    // One that doesn't let it wait.
    while lab.fake.waiting(file) == 0 {
        lab.fake.deliver_pipe(file, pipes[0].1, &[1; PART], false);
        lab.dispatch();
    }
    lab.channel.close(pipes[0].0);
    lab.fake.deliver(file, b"and on");
    assert_eq!(lab.receive(context).unwrap().0, b"and on");
}

#[test]
fn a_device_that_does_not_answer_is_lost() {
    let mut lab = Lab::silent();
    lab.connect();
    lab.fake.fall_silent();
    let Err(Error::Lost(why)) = lab.channel.allocate(1) else { panic!("nobody answers") };
    assert!(why.contains("doesn't answer"), "{why}");
    assert!(matches!(lab.channel.connect(), Err(Error::Lost(_))));
    assert!(matches!(lab.channel.dispatch(&mut Vec::new()), Err(Error::Lost(_))));
}

#[test]
fn nothing_is_left() {
    let mut lab = Lab::silent();
    let (context, file) = lab.connect();
    let keeper = file - 1;
    lab.pipe(PipeEnd::Read, context, file);
    lab.channel.allocate(1).unwrap();
    let Lab { channel, fake, .. } = lab;
    drop(channel);
    assert!(!fake.is_open(file) && !fake.is_open(keeper));
}
