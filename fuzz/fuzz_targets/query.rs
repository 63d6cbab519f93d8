//! The parameters of a list, as they stand behind the question mark.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok((_, page)) = flask_api::http::read_orders_query(text) {
        assert!((1..=100).contains(&page.limit));
    }
});
