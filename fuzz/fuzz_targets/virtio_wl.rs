//! libFuzzer's way to `wlproxy_fuzz::virtio_wl`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wlproxy_fuzz::virtio_wl::run(data));
