//! libFuzzer's way into [`postrider_fuzz::frame_decoder`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::frame_decoder(data));
