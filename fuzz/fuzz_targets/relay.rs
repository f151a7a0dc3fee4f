//! libFuzzer's way to `wlproxy_fuzz::relay`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::relay::run(data));
