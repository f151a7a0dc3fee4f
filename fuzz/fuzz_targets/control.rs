//! libFuzzer's way to `wlproxy_fuzz::control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::control::run(data));
