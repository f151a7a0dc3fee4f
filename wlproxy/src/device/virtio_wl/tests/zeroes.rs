//! What one client had in memory the next one doesn't find there.

use super::*;
use std::os::unix::fs::FileExt;

/// As many as could be kept for reuse.
const ROUNDS: u32 = 100;

#[test]
fn memory_of_one_that_ended_is_zeros_for_the_next() {
    const SIZE: usize = 8192;
    const ID: u32 = 9;
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        driver.new_vfd(VfdNew { size: SIZE as u32, ..new(message::VFD_NEW, ID) });
        let pool = wayland::create_pool(wayland::FREE + round);
        assert_eq!(driver.sent(1, &pool, &[ID]), OK);
        let file = File::from(take(&peer).1.pop().unwrap());
        let mut content = vec![7; SIZE];
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(content.iter().all(|&byte| byte == 0), "round {round}");
        file.write_all_at(&[0xa5; SIZE], 0).unwrap();
        let slot = driver.close(ID);
        assert_eq!(driver.kind(slot), OK);
        // A compositor may still have some of them.
        kept.extend((round % 2 == 0).then_some(file));
    }
    let counters = &driver.counters;
    assert_eq!((counters.allocation_bytes.get(), counters.window_bytes.get()), (0, 0));
}
