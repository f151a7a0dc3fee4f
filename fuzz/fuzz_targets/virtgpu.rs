//! libFuzzer's way to `wlproxy_fuzz::virtgpu`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::virtgpu::run(data));
