//! The one integration binary: everything that is tested from outside, through the real router or the real program.

mod sandbox;
mod tidy;
