#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mmface::fuzzing::record(bytes));
