//! libFuzzer's way to `wlproxy_fuzz::report`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::report::run(data));
