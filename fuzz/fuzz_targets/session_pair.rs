#![no_main]
//! See `postrider_fuzz::session_pair`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::session_pair(data));
