//! libFuzzer's way to `wlproxy_fuzz::policy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::policy::run(data));
