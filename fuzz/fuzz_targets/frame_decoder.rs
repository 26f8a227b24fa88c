#![no_main]
//! See `postrider_fuzz::frame_decoder`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::frame_decoder(data));
