#![no_main]
//! See `postrider_fuzz::config_file`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::config_file(data));
