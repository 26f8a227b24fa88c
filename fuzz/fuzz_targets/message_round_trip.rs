#![no_main]
//! See `postrider_fuzz::message_round_trip`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::message_round_trip(data));
