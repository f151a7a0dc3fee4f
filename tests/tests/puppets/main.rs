//! Devices of the host on which the test plays by hand: every VM here is a [`Puppet`](wlproxy_tests::Puppet).
//!
//! So these stand on the `process` channel, whatever `WLPROXY_TEST_CHANNEL` says, and tell nothing of another one.

mod channel;
mod drivers;
mod flow;
mod hostile;
mod reports;
mod reset;
