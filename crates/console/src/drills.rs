//! Drills: one at a time, carried out by a child process.

use actix_web::web;

pub(crate) fn register(_: &mut web::ServiceConfig) {}
