#![no_main]
//! See `postrider_fuzz::store_history`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::store_history(data));
