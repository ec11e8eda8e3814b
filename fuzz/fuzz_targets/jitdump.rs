//! Reads bytes as a jitdump file. What is found at an address covers it.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use walker_user::symbolize::jitdump::read;

fuzz_target!(|data: &[u8]| {
    let Ok(dump) = read(Cursor::new(data)) else {
        return;
    };
    for word in data.windows(8).filter_map(|word| word.try_into().ok()) {
        let address = u64::from_le_bytes(word);
        if let Some((function, _)) = dump.find(address) {
            assert!(address - function.start < function.size);
        }
    }
});
