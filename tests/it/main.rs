//! The one integration binary: everything that is tested from outside, through the real router or the real program.

mod acme;
mod alerts;
mod audit;
mod builds;
mod cli;
mod conditions;
mod crash;
mod disk;
mod evidence;
mod federation;
mod flood;
mod get;
#[path = "../shared/liar.rs"]
mod liar;
mod limits;
#[path = "../bench/made.rs"]
mod made;
mod mail;
mod mirror;
mod operator;
mod peers;
mod progress;
mod proxies;
mod refusals;
mod sandbox;
#[path = "../shared/small.rs"]
mod small;
mod starts;
mod stop;
mod streams;
mod tidy;
mod tls;
mod verify;
mod watch;
mod watching;
mod world;
