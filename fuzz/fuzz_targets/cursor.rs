//! Cursors: only what this service has made itself is one.
#![no_main]

use flask_api::http::Cursor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for kind in [Cursor::Product, Cursor::Order] {
        if let Some(id) = kind.decode(text) {
            assert_eq!(kind.encode(id), text);
        }
    }
});
