//! libFuzzer's way to `wlproxy_fuzz::wire`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::wire::run(data));
