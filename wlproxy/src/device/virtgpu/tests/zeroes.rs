//! What one client had in memory the next one doesn't find there.

use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// As many as could be kept for reuse.
const ROUNDS: u32 = 100;

#[test]
fn memory_of_one_that_ended_is_zeros_for_the_next() {
    const RESOURCE: u32 = 50;
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    let image = driver.image(1, 30, 20);
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        assert_eq!(driver.host_blob(1, RESOURCE, image.blob_id, image.size), OK);
        assert_eq!(driver.map(RESOURCE, 4096), message::RESP_OK_MAP_INFO);
        let pool = wayland::create_pool(wayland::FREE + round);
        assert_eq!(driver.send(1, &pool, &[(BLOB, RESOURCE)]), OK);
        let file = File::from(take(&peer).1.pop().unwrap());
        let mut content = vec![7; image.size as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(content.iter().all(|&byte| byte == 0), "round {round}");
        file.write_all_at(&vec![0xa5; image.size as usize], 0).unwrap();
        assert_eq!(driver.of_resource(message::RESOURCE_UNREF, RESOURCE), OK);
        // A compositor may still have some of them.
        kept.extend((round % 2 == 0).then_some(file));
    }
    let counters = &driver.counters;
    assert_eq!((counters.allocation_bytes.get(), counters.window_bytes.get()), (0, 0));
}
