//! The console over the wire, in front of stand-ins of its back ends.
#![cfg(test)]
