//! Tile paths in both forms: refused, or written back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::Tile;

fuzz_target!(|path: &str| {
    if let Some(tile) = Tile::parse_sumdb(path) {
        assert_eq!(tile.sumdb_path(), path);
    }
    if let Some(tile) = Tile::parse_c2sp(path) {
        assert_eq!(tile.c2sp_path(), path);
    }
});
