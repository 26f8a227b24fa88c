#![no_main]
//! See `postrider_fuzz::server_session`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::server_session(data));
