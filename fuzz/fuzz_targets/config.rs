//! Command lines, environment variables and fault parameters: refused with words, or taken; never a panic.
#![no_main]

use std::ffi::OsString;

use clap::Parser as _;
use libfuzzer_sys::fuzz_target;
use service::{Fault, Settings};

fuzz_target!(|text: &str| {
    // Arguments are separated by what no argument can hold.
    let mut arguments = text.split('\0');
    let _ = flask_api::Args::try_parse_from(["flask-api"].into_iter().chain(arguments.clone()));
    let _ = payments::Args::try_parse_from(["payments"].into_iter().chain(arguments.clone()));

    let value = arguments.next().unwrap_or_default();
    let _ = service::parse_duration(value);
    let _ = telemetry::check_log_filter(value);
    // Every variable that is asked for has this value.
    let _ = telemetry::environment_warnings(|_| Some(OsString::from(value)));

    let parameters = arguments.filter_map(|argument| argument.split_once('='));
    for fault in Fault::ALL {
        if let Ok(settings) = Settings::read(fault, parameters.clone()) {
            // What was taken is within its caps, however it was written.
            assert!(settings.lifetime().as_secs() <= 3600);
        }
    }
});
