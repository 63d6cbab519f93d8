//! The dashboards as they are committed: by Grafana's own types, by the published rules of its dashboard linter, and
//! by what they refer to. That their queries return data is for `lab`'s tests, which have a lab.
#![cfg(test)]

mod project;
mod provisioning;
mod rendering;
mod rules;
mod schema;
