//! The parameters of a list, as they stand behind the question mark.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let pages = [
        flask_api::http::read_orders_query(text).map(|(_, page)| page),
        flask_api::http::read_products_query(text),
    ];
    for page in pages.into_iter().flatten() {
        assert!((1..=100).contains(&page.limit));
    }
});
