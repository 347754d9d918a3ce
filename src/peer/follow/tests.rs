//! Peers that lie, lag and break off: a whole peer in memory, and what a follower makes of it.
