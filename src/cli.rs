//! (being written)

pub mod helper;
