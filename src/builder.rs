//! (being written)

pub mod classify;
pub mod home;
pub mod queue;
pub mod run;
pub mod sandbox;
pub mod seed;
pub mod transcript;
