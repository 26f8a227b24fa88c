#![no_main]
//! See `postrider_fuzz::canary`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::canary(data));
