#![no_main]
//! See `postrider_fuzz::client_state`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::client_state(data));
