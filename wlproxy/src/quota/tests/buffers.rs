//! What buffers and pools a client may have, and how long one counts.

use super::*;

#[test]
fn pools_and_buffers_share_a_quota() {
    let mut client = Client::new(SMALL);
    let pool = client.pool().unwrap();
    let buffers: Vec<_> = (0..3).map(|_| client.buffer(pool, 100, 100).unwrap()).collect();
    client.say(pool, POOL_DESTROY, &[]).unwrap();
    let pool = client.pool().unwrap();
    client.say(buffers[0], BUFFER_DESTROY, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    let violation = client.buffer(pool, 1, 1).unwrap_err();
    check(violation, "wl_shm_pool@", &["4 buffers and pools", "`buffers`"]);
    check(client.pool().unwrap_err(), "wl_shm@4.create_pool", &["4 buffers and pools"]);
}

#[test]
fn a_buffer_is_no_larger_than_it_may_be() {
    for (width, height) in [(101, 1), (1, 101), (i32::MAX, i32::MAX)] {
        let mut client = Client::new(SMALL);
        let pool = client.pool().unwrap();
        let violation = client.buffer(pool, width, height).unwrap_err();
        check(violation, "wl_shm_pool@8.create_buffer", &["100 pixels", "`buffer_side`"]);
    }
    // What is wrong otherwise, the compositor tells.
    let mut client = Client::new(SMALL);
    let pool = client.pool().unwrap();
    client.buffer(pool, -1, i32::MIN).unwrap();
}

#[test]
fn a_buffer_counts_as_long_as_it_is_shown() {
    let mut client = Client::new(MANY);
    let pool = client.pool().unwrap();
    let surfaces = [0, 1].map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap());
    for _ in 0..100 {
        surfaces.iter().for_each(|&surface| client.flash(pool, surface).unwrap());
    }
    // A pool, and what two surfaces show.
    client.buffer(pool, 1, 1).unwrap();
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.attach(surfaces[0], 0);
    client.say(surfaces[0], COMMIT, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    client.say(surfaces[1], SURFACE_DESTROY, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
}
