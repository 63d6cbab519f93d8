//! Telemetry as a process sees it: real output, real connections to a collector that behaves or does not.

mod accounting;
mod collector;
mod environment;
mod logs;
mod program;
mod shutdown;
