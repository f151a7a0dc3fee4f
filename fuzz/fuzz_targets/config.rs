//! libFuzzer's way to `wlproxy_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::config::run(data));
