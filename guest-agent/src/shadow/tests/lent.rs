//! Clients that draw into lent allocations.

use super::*;

/// Neither a whole number of pages nor of rows.
const SIZE: u64 = 300_000;

/// A wl_buffer of 100 by 100 pixels; the second begins where the first ends.
const BYTES: usize = 40_000;
const FIRST: [i32; 4] = [0, 100, 100, 400];
const SECOND: [i32; 4] = [BYTES as i32, 100, 100, 400];

fn lent_client() -> (Client, Rc<Lent>) {
    let mut client = Client::new(4096);
    let lent = client.draw_in_lent(POOL, SIZE);
    (client, lent)
}

/// Where the compositor finds a wl_buffer that it was asked for as the client has asked.
fn at(lent: &Lent, numbers: [i32; 4]) -> Placement {
    Placement { vfd: lent.vfd(), pool_size: lent.size() as i32, offset: numbers[0] }
}

#[test]
fn nothing_is_copied_or_allocated() {
    let (mut client, lent) = lent_client();
    assert_eq!(client.made(POOL, 5, FIRST, XRGB), Ok(None));
    assert_eq!(client.made(POOL, 6, SECOND, XRGB), Ok(None));
    client.draw(0, BYTES, 7);
    for buffer in [5, 6, 5, 6] {
        client.attach(X, buffer);
        client.shadows.damage(X, Rect::new(0, 0, 10, 10));
        let copied = client.shadows.commit(X, &mut client.host).unwrap();
        assert_eq!(copied, Copied { copied: 0, damaged: 400, seen: true });
    }
    assert_eq!(client.refresh(5), Copied { copied: 0, damaged: 0, seen: true });
    assert_eq!(client.host.read(at(&lent, FIRST), 0, BYTES), vec![7; BYTES]);
    assert_eq!(client.host.held(), 0);
    // Two wl_buffers and their pool use it; what is shown is used longest.
    assert_eq!(Rc::strong_count(&lent), 4);
    client.destroy_buffer(5);
    client.destroy_buffer(6);
    client.shadows.destroy_pool(POOL, &mut client.host);
    assert_eq!(Rc::strong_count(&lent), 2);
    client.shadows.destroy_surface(X, &mut client.host);
    assert_eq!((Rc::strong_count(&lent), client.host.given_back), (1, 3));
    client.end();
}

#[test]
fn all_of_it_is_given_back_at_the_end() {
    let (mut client, lent) = lent_client();
    client.made(POOL, 5, FIRST, XRGB).unwrap();
    client.show(X, 5);
    client.end();
    assert_eq!(Rc::strong_count(&lent), 1);
}

#[test]
fn a_demoted_client_is_copied_to_where_its_buffers_are() {
    let (mut client, lent) = lent_client();
    client.made(POOL, 5, FIRST, XRGB).unwrap();
    client.made(POOL, 6, SECOND, XRGB).unwrap();
    client.draw(0, 2 * BYTES, 1);
    client.show(X, 5);
    client.show(Y, 6);
    client.demote(&lent);
    client.draw(0, 2 * BYTES, 2);
    assert_eq!(client.host.read(at(&lent, FIRST), 0, BYTES), vec![1; BYTES]);
    // All is stale once, then only what is damaged.
    assert_eq!(client.commit(X), BYTES as u64);
    assert_eq!(client.host.read(at(&lent, FIRST), 0, BYTES), vec![2; BYTES]);
    assert_eq!(client.host.read(at(&lent, SECOND), 0, BYTES), vec![1; BYTES], "not committed");
    client.shadows.damage(X, Rect::new(0, 0, 1, 1));
    assert_eq!(client.commit(X), 4);
    assert_eq!(client.show(Y, 6), BYTES as u64);
    assert_eq!(client.host.read(at(&lent, SECOND), 0, BYTES), vec![2; BYTES]);
    assert_eq!(client.host.held(), 0);
    // A wl_buffer that comes back is where it was; a new one has a shadow.
    client.destroy_buffer(5);
    assert_eq!(client.buffer(5, 0, (100, 100)), at(&lent, FIRST));
    let new = client.buffer(7, 80_000, (200, 200));
    assert_ne!(new.vfd, lent.vfd());
    assert_eq!(client.host.held(), 1);
    client.end();
    assert_eq!(Rc::strong_count(&lent), 1);
}

#[test]
fn a_demoted_pool_grows() {
    let (mut client, lent) = lent_client();
    client.demote(&lent);
    client.file.set_len(1 << 20).unwrap();
    client.resize(POOL, 1 << 20).unwrap();
    client.draw((1 << 20) - BYTES, BYTES, 3);
    let placement = client.buffer(5, (1 << 20) - BYTES as i32, (100, 100));
    assert_eq!(client.show(X, 5), BYTES as u64);
    assert_eq!(client.host.read(placement, 0, BYTES), vec![3; BYTES]);
    client.end();
}

#[test]
fn a_pool_that_is_not_all_of_it_has_shadows() {
    for demoted in [false, true] {
        let mut client = Client::new(4096);
        let (lent, file) = client.host.lend(SIZE);
        client.file = file;
        let pool = PoolFile::Lent(lent.clone());
        assert_eq!(client.shadows.create_pool(SHM, 9, pool, 100_000), Ok(None));
        let placement = client.try_buffer(9, 5, SECOND, XRGB).unwrap();
        assert_ne!(placement.vfd, lent.vfd());
        client.draw(BYTES, BYTES, 4);
        assert_eq!(client.show(X, 5), BYTES as u64);
        assert_eq!(client.host.read(placement, 0, BYTES), vec![4; BYTES]);
        if demoted {
            client.demote(&lent);
        }
        client.draw(BYTES, BYTES, 5);
        client.shadows.damage(X, Rect::new(0, 0, 1, 1));
        assert_eq!(client.commit(X), if demoted { BYTES as u64 } else { 4 });
        // It can have as much as there is.
        let grown = client.resize(9, 1 << 20);
        assert_eq!(grown.is_ok(), demoted);
        client.resize(9, SIZE as i32).unwrap_or_else(|error| assert!(demoted, "{error}"));
        client.end();
        assert_eq!(Rc::strong_count(&lent), 1);
    }
}

#[test]
fn a_pool_of_what_was_demoted_before_reads_the_file() {
    let mut client = Client::new(4096);
    let (lent, _) = client.host.lend(SIZE);
    client.demote(&lent);
    let pool = PoolFile::Lent(lent.clone());
    assert_eq!(client.shadows.create_pool(SHM, 9, pool, SIZE as i32), Ok(None));
    let placement = client.try_buffer(9, 5, FIRST, XRGB).unwrap();
    client.draw(0, BYTES, 6);
    client.show(X, 5);
    assert_eq!(client.host.read(placement, 0, BYTES), vec![6; BYTES]);
    assert_eq!(Rc::strong_count(&lent), 1, "it isn't needed for anything");
    client.end();
}

#[test]
fn more_than_there_is_can_not_be_mapped() {
    let mut client = Client::new(4096);
    let (lent, _) = client.host.lend(SIZE);
    let pool = PoolFile::Lent(lent.clone());
    let error = client.shadows.create_pool(SHM, 9, pool, 1 << 20).unwrap_err();
    assert_eq!((error.object, error.code), (SHM, 2));
    let pool = PoolFile::Lent(lent.clone());
    client.shadows.create_pool(SHM, 9, pool, SIZE as i32).unwrap();
    let mut resize = |size| client.shadows.resize_pool(9, size, &mut client.host);
    // Within the last page there is something, and the compositor is told.
    let pages = lent.size() as i32;
    assert_eq!((resize(SIZE as i32), resize(pages)), (Ok(true), Ok(true)));
    let error = resize(pages + 1).unwrap_err();
    assert_eq!((error.object, error.code), (9, 2));
    client.end();
}

#[test]
fn a_file_that_can_not_be_mapped_is_an_error_of_its_buffer() {
    let (mut client, lent) = lent_client();
    client.made(POOL, 5, FIRST, XRGB).unwrap();
    client.show(X, 5);
    lent.demote(File::open("/").unwrap().into());
    let error = client.shadows.commit(X, &mut client.host).unwrap_err();
    assert_eq!((error.object, error.code), (5, 2));
    client.end();
}
