#![no_main]
//! See `postrider_fuzz::journal_replay`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::journal_replay(data));
