//! What differs where the programs have AddressSanitizer in them, which `cargo xtask test --asan` builds so and says.
//!
//! It can't live in wlproxy's sandbox. Its map of all memory counts as memory of a worker's own, of which that may have no
//! more then: the first allocation fails. To look for leaks it starts a process that stops all threads, and what it finds is
//! written into a new file; no worker may do either. So wlproxy and its workers aren't shut in then.

use std::env;
use std::process::Command;

/// Whether they have it: what builds them says so to what builds this.
pub(crate) const IS_ON: bool = option_env!("WLPROXY_TEST_SANITIZED").is_some();

/// Variables that the sanitizer reads, and its search for leaks.
const ASAN: &str = "ASAN_OPTIONS";
const LSAN: &str = "LSAN_OPTIONS";

/// What wlproxy is told, and what is in its warning.
const NO_SANDBOX: &str = "--no-sandbox";

/// Leaks of libraries that compositors in C use.
const C_LEAKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/leaks.supp");

/// Gives a process of ours, whose environment isn't the test's, what the sanitizer reads there.
pub(crate) fn configure(command: &mut Command) {
    let set = [ASAN, LSAN].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
    command.envs(set);
}

/// The same for a compositor in C, whose libraries lose some memory.
pub(crate) fn configure_c(command: &mut Command) {
    if let Some(options) = env::var_os(ASAN).filter(|_| IS_ON) {
        // They keep no frame pointers, and suppressions name functions that are farther up.
        let options = format!("{}:fast_unwind_on_malloc=0", options.display());
        command.env(ASAN, options);
        command.env(LSAN, format!("print_suppressions=0:suppressions={C_LEAKS}"));
    }
}

/// More flags for what is in C and linked with what has it.
pub(crate) fn c_flags() -> &'static str {
    if IS_ON { " -fsanitize=address" } else { "" }
}

/// More arguments of `wlproxy run`.
pub(crate) fn arguments() -> Option<&'static str> {
    IS_ON.then_some(NO_SANDBOX)
}

/// Whether wlproxy warns of nothing but that.
pub(crate) fn is_meant(line: &str) -> bool {
    IS_ON && line.contains(NO_SANDBOX)
}
