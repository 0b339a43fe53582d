//! A small HTTP/1.1 service on one thread, for WasmEdge and, from the same sources, native.
//!
//! * `config`: what the environment says, checked once at the start;
//! * `http`: bytes to request, response to bytes; knows no socket;
//! * `routes`: request to response; knows no bytes;
//! * `metrics`: what was asked and how it went, for Prometheus;
//! * `server`: the poll loop that keeps slow clients from holding up the others;
//! * `platform`: the few socket calls that differ between WasmEdge and Linux.

pub mod config;
pub mod http;
pub mod metrics;
pub mod platform;
pub mod routes;
pub mod server;
