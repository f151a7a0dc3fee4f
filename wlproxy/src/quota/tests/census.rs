//! What all clients of a VM may have together.

use super::*;

/// Beside what a client of these tests has at first.
const OBJECTS: usize = 60_000;

fn client(census: &Arc<Census>) -> Client {
    let quota = Quota { objects: MAX_OBJECTS as u32, ..SMALL };
    Client { spent: Spent::among(census.clone()), ..Client::new(quota) }
}

#[test]
fn all_clients_have_no_more_objects_than_eight_that_have_many() {
    let census = Arc::<Census>::default();
    let mut greedy: Vec<Client> = Vec::new();
    let violation = 'full: loop {
        let mut client = client(&census);
        for _ in 0..OBJECTS {
            // wl_display.sync
            if let Err(violation) = client.make(1, 0, &[]) {
                greedy.push(client);
                break 'full violation;
            }
        }
        greedy.push(client);
        assert!(greedy.len() < 20, "it goes on");
    };
    assert_eq!(greedy.len(), 8 * MAX_OBJECTS / OBJECTS + 1);
    check(violation, "wl_display@1.sync", &["524288 objects of all clients", "`objects`"]);
    // Who has few goes on.
    let mut modest = client(&census);
    (0..400).for_each(|_| _ = modest.make(1, 0, &[]).unwrap());
    // There is room when one leaves.
    greedy.pop();
    greedy.pop();
    let mut next = client(&census);
    (0..10_000).for_each(|_| _ = next.make(1, 0, &[]).unwrap());
}

/// Of all of them a compositor has a mapping.
#[test]
fn nor_more_buffers_than_a_compositor_can_map() {
    let census = Arc::<Census>::default();
    let client = || {
        let quota = Quota { objects: MAX_OBJECTS as u32, buffers: 1000, ..SMALL };
        Client { spent: Spent::among(census.clone()), ..Client::new(quota) }
    };
    let mut greedy: Vec<Client> = Vec::new();
    let violation = 'full: loop {
        let mut client = client();
        for _ in 0..1000 {
            if let Err(violation) = client.pool() {
                greedy.push(client);
                break 'full violation;
            }
        }
        greedy.push(client);
        assert!(greedy.len() < 20, "it goes on");
    };
    assert_eq!(greedy.len(), 9);
    check(violation, "wl_shm@4.create_pool", &["8192 buffers and pools of all", "`buffers`"]);
    let mut modest = client();
    (0..16).for_each(|_| _ = modest.pool().unwrap());
    greedy.clear();
    (0..100).for_each(|_| _ = modest.pool().unwrap());
}
