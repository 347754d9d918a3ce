//! Real modules, the real go command, the configured module proxy.

mod builds;
mod compare;
mod toolchain;
mod upstream;
