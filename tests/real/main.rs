//! Real modules, the real go command, the configured module proxy.

mod audit;
mod builds;
mod compare;
#[expect(dead_code, reason = "peers that vote are for others")]
#[path = "../shared/small.rs"]
mod small;
mod toolchain;
mod upstream;
