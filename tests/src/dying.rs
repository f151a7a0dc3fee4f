//! Clients that die at a bad moment, before any compositor that links the shim.

use crate::{Arg, Desk, Part, Raw, message};

/// Clients of the VM "work" say a part of a message, and then the agent of that VM dies: nothing of them is left, the
/// compositor's own clients go on, and later ones of that VM are served.
pub fn die_in_a_message(desk: &mut Desk) {
    let baseline = desk.totals();
    for length in [1, 7, 8, 11] {
        let mut client = Raw::connect(&desk.through("work"));
        client.sync();
        client.send(&message(1, 0, &[Arg::Uint(9)])[..length], []);
    }
    desk.kill(Part::Run("work"));
    Raw::connect(&desk.direct()).sync();
    desk.revive(Part::Run("work"));
    desk.ready("work");
    Raw::connect(&desk.through("work")).sync();
    desk.expect_totals(&baseline);
    // It is another process.
    desk.take_baseline();
}
