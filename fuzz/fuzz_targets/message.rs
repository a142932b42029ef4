#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gusher::fuzzing::message(data));
