//! The node as strangers see it: HTTP.

pub mod server; pub mod limits; pub mod range;
pub mod paths;
