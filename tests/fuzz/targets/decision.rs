#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| fuzz::decision_in_a_scene(body));
