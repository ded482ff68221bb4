#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mmface_live::fuzzing::picture(bytes));
