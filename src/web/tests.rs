//! The router as a client sees it, over a real store and a module proxy on the loopback address.
//!
//! Nothing is built here: what builds would find is put in by the same door that their reports take.

mod alerts;
mod api;
mod builds;
mod compared;
mod federation;
mod heard;
mod logs;
mod pages;
mod streams;
mod world;
