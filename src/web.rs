//! The node as strangers see it: HTTP.
pub mod server;
