#![no_main]
//! See `postrider_fuzz::journal_damage`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::journal_damage(data));
