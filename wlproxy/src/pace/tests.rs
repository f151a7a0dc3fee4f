use super::*;
use std::time::Duration;

/// Where time stands still until it is moved, and clients that send as fast as they may.
struct World {
    crowd: Arc<Crowd>,
    start: Instant,
    now: Instant,
}

impl World {
    fn new(each: u32, all: u32) -> Self {
        let (crowd, start) = (Crowd::new(speed(each, all)), Instant::now());
        Self { crowd, start, now: start }
    }

    fn client(&self) -> Pace {
        Pace::new(self.crowd.clone(), self.now)
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// A client sends these, unless it has to wait. Whether it did.
    fn send(&self, client: &mut Pace, requests: u64) -> bool {
        if client.waits(self.now) {
            return false;
        }
        if !client.is_paid(requests) {
            client.pay(requests, self.now);
        }
        true
    }

    /// Lets these send so many at a time in so many steps of 10 ms, which is how often who waits is looked at; what each has
    /// sent.
    fn flood(&mut self, clients: &mut [Pace], batch: u64, steps: usize) -> Vec<u64> {
        let mut sent = vec![0; clients.len()];
        for _ in 0..steps {
            for (client, sent) in clients.iter_mut().zip(&mut sent) {
                while self.send(client, batch) {
                    *sent += batch;
                }
            }
            self.pass(10);
        }
        sent
    }

    /// As many as all may have sent until now, but for what each sends last.
    fn most(&self, all: u32) -> u64 {
        let passed = (self.now - self.start).as_secs_f64();
        (f64::from(all) * (1.0 + passed)) as u64
    }
}

fn speed(each: u32, all: u32) -> Speed {
    Speed { each: Rate::per_second(each), all: Rate::per_second(all) }
}

#[test]
fn a_client_sends_as_many_at_once_and_then_so_many_in_a_second() {
    let mut world = World::new(1000, 1_000_000);
    let mut clients = [world.client()];
    assert_eq!(world.flood(&mut clients, 10, 1), [1010], "one more tells that it is too many");
    assert_eq!(world.flood(&mut clients, 10, 100), [1000]);
    assert!(world.send(&mut world.client(), 10), "another one doesn't wait");
}

#[test]
fn why_it_waits_is_news_once() {
    let mut world = World::new(100, 1000);
    let mut client = world.client();
    let told = |paid: Paid| (paid.pauses, paid.news);
    assert_eq!(told(client.pay(100, world.now)), (false, None));
    assert_eq!(told(client.pay(1, world.now)), (true, Some(Excess::Own(100))));
    assert_eq!(told(client.pay(1, world.now)), (false, None), "it waits already");
    world.pass(60_000);
    assert!(!client.waits(world.now));
    assert_eq!(told(client.pay(200, world.now)), (true, None));

    let mut world = World::new(1000, 300);
    let [mut first, mut second] = [world.client(), world.client()];
    for _ in 0..2 {
        assert_eq!(told(first.pay(299, world.now)), (false, None));
        assert_eq!(told(second.pay(400, world.now)), (true, Some(Excess::All(300))));
        assert_eq!(told(first.pay(400, world.now)), (true, None), "of one of them");
        world.pass(60_000);
        assert!(!first.waits(world.now) && !second.waits(world.now));
    }
    let text = [Excess::Own(7), Excess::All(9)].map(|why| why.to_string());
    assert!(text[0].contains("7 messages") && text[1].contains("9 messages"), "{text:?}");
}

/// All of them together are no faster than they may be, however many there are, and each gets as much as another.
#[test]
fn many_share_what_all_may_send_evenly() {
    for count in [2, 10, 100, 1000] {
        let (each, all, batch) = (20_000, 100_000, 100);
        let mut world = World::new(each, all);
        let mut clients: Vec<_> = (0..count).map(|_| world.client()).collect();
        let sent = world.flood(&mut clients, batch, 3000);
        let (sum, most) = (sent.iter().sum::<u64>(), world.most(all));
        let slack = 2 * count * (batch + AHEAD);
        if count * u64::from(each) > u64::from(all) {
            assert!((most * 9 / 10..=most + slack).contains(&sum), "{count}: {sum} of {most}");
        }
        let (least, greatest) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        // Who comes first may take what others have left; nobody gets less than an even part, from its second second on.
        let even = most / count * 8 / 10;
        let own = u64::from(each) * 30;
        assert!(*least >= even.min(own), "{count}: {least} to {greatest}, {even}");
    }
}

/// Whoever else floods, and however many: a client that stays within an even part never waits.
#[test]
fn who_sends_no_more_than_its_part_never_waits() {
    let mut world = World::new(50_000, 100_000);
    let mut clients: Vec<_> = (0..99).map(|_| world.client()).collect();
    let mut modest = world.client();
    world.flood(&mut clients, 500, 200);
    // 5 at a time, 500 in a second: half of its part.
    for _ in 0..500 {
        assert!(world.send(&mut modest, 5), "after {:?}", world.now - world.start);
        world.flood(&mut clients, 500, 1);
    }
}

/// One that has taken what nobody else wanted isn't kept waiting for that when others come.
#[test]
fn what_was_left_is_owed_to_nobody() {
    let mut world = World::new(1_000_000, 100_000);
    let mut clients = vec![world.client()];
    world.flood(&mut clients, 100, 1000);
    clients.insert(0, world.client());
    let sent = world.flood(&mut clients, 100, 200);
    assert!(sent[1] >= 80_000, "{sent:?}");
}

/// Who leaves and comes again has no more than who stays.
#[test]
fn whoever_comes_again_is_no_faster() {
    let (all, batch, count) = (100_000, 8000, 50);
    let mut world = World::new(50_000, all);
    let mut clients: Vec<Pace> = (0..count).map(|_| world.client()).collect();
    let mut sent = 0;
    for _ in 0..6000 {
        for client in &mut clients {
            if world.send(client, batch) {
                sent += batch;
                *client = world.client();
            }
        }
        world.pass(10);
    }
    let most = world.most(all) + 2 * count * batch;
    assert!((most / 2..=most).contains(&sent), "{sent} of {most}");
}

/// Nor does it have as much at once again.
#[test]
fn whoever_comes_again_begins_where_it_has_left() {
    let (mut world, mut sent) = (World::new(1000, 1_000_000), 0);
    for _ in 0..100 {
        let mut clients = [world.client()];
        sent += world.flood(&mut clients, 10, 1)[0];
    }
    // At once, in a second, and each time one that tells that it is too many.
    assert!((2000..=3010).contains(&sent), "{sent}");
    // What one owes that has left, no other does.
    let mut client = world.client();
    client.pay(1_000_000, world.now);
    drop(client);
    assert!(world.send(&mut world.client(), 1));
    world.pass(1000);
    assert!(world.send(&mut world.client(), 1000));
}

#[test]
fn a_new_speed_holds_for_who_is_there() {
    let mut world = World::new(1, 1_000_000);
    let mut clients = [world.client()];
    assert_eq!(
        world.flood(&mut clients, 1000, 100),
        [1000],
        "it has to wait for a quarter of an hour"
    );
    world.crowd.set(speed(100_000, 1_000_000));
    world.pass(10);
    assert!(world.send(&mut clients[0], 1000));
    world.crowd.set(speed(100_000, 1));
    assert!(world.send(&mut clients[0], 1000) && !world.send(&mut clients[0], 1));
}

#[test]
fn little_is_paid_for_ahead() {
    let world = World::new(100_000, 400_000);
    let mut client = world.client();
    let paid = client.pay(5, world.now);
    assert_eq!((paid.own.at(world.now), paid.all.at(world.now)), (5 + AHEAD, 5 + AHEAD));
    assert!(client.is_paid(AHEAD - 1) && !client.is_paid(2) && client.is_paid(1));
    assert_eq!(client.pay(2, world.now).own.at(world.now), 2 + 5 + 2 * AHEAD);
    // Of little, nothing.
    world.crowd.set(speed(60, 400_000));
    assert!(!World::new(60, 100).client().is_paid(1));
    client.pay(3 * AHEAD, world.now + Duration::from_secs(10));
    assert!(!client.is_paid(1));
    assert_eq!(Fill::default().at(world.now), 0);
}

#[test]
fn whoever_is_gone_has_no_part() {
    let world = World::new(10_000, 10_000);
    let mut stays = world.client();
    let others: Vec<_> = (0..99).map(|_| world.client()).collect();
    assert_eq!(world.crowd.state().part().per_second, 100);
    drop(others);
    assert_eq!(world.crowd.state().part().per_second, 10_000);
    assert!(world.send(&mut stays, 1));
}
