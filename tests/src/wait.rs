//! Waiting with a deadline.

use crate::sanitizer::IS_ON;
use std::time::{Duration, Instant};

/// How long a test waits for anything before it fails. Generous: a loaded machine isn't a bug, nor are programs that take
/// several times as long.
pub const PATIENCE: Duration = Duration::from_secs(if IS_ON { 60 } else { 15 });

/// How often [`until`] looks. Only for what the kernel announces to nobody, such as another process's fds.
const GLANCE: Duration = Duration::from_millis(5);

/// Looks until `look` finds something.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Whether tests may take minutes: `WLPROXY_SLOW=1` in the environment.
pub fn slow() -> bool {
    std::env::var_os("WLPROXY_SLOW").is_some_and(|value| value == "1")
}
