//! The dashboards as files.
#![cfg(test)]
