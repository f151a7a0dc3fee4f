//! libFuzzer's way to `wlproxy_fuzz::accept`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::accept::run(data));
