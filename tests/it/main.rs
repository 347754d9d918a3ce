//! The one integration binary: everything that is tested from outside, through the real router or the real program.

mod builds;
mod cli;
mod crash;
mod disk;
mod evidence;
mod get;
mod limits;
#[path = "../bench/made.rs"]
mod made;
mod operator;
mod progress;
mod proxies;
mod refusals;
mod sandbox;
mod starts;
mod stop;
mod streams;
mod tidy;
mod world;
