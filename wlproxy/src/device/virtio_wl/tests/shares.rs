//! What one VM may have of what there is for all.

use super::driver::{Driver, new};
use super::{LINK, OK};
use crate::quota::vm::VmQuota;
use wlproxy_protocol::virtio_wl::{VfdNew, message};

const MIB: u32 = 1 << 20;

/// Who has sent an allocation may close it; but the host has it as long as its message isn't whole.
#[test]
fn memory_counts_as_long_as_anything_here_has_it() {
    let mut driver = Driver::within(VmQuota { memory_mib: 4, ..VmQuota::default() });
    let _peer = driver.open(1, LINK);
    let allocate = |driver: &mut Driver, id| {
        let command = VfdNew { size: MIB, ..new(message::VFD_NEW, id) };
        driver.code(bytemuck::bytes_of(&command), 64)
    };
    for _ in 0..4 {
        assert_eq!(allocate(&mut driver, 2), message::RESP_VFD_NEW);
        // Of a header.
        assert_eq!(driver.sent(1, b"x", &[2]), OK);
        let slot = driver.close(2);
        assert_eq!(driver.kind(slot), OK);
    }
    assert_eq!(allocate(&mut driver, 2), message::RESP_OUT_OF_MEMORY);
    assert_eq!(driver.counters.allocation_bytes.get(), 4 << 20);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(driver.counters.allocation_bytes.get(), 0);
    assert_eq!(allocate(&mut driver, 2), message::RESP_VFD_NEW);
}
