#![no_main]
//! See `postrider_fuzz::enrolment`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::enrolment(data));
