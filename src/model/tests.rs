//! What the values promise: agreement with Go on recorded answers, and texts that come out as they went in.

mod claims;
mod roundtrip;
mod specs;
mod vectors;

use super::*;
