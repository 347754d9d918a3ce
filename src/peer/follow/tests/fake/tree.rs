//! A log in memory, with all its hashes.

use crate::tlog::{CompactRange, Hash, TILE_WIDTH, TileReader, TreeSize, leaf_hash, tree_hash};

/// A log in memory.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) texts: Vec<Vec<u8>>,
    range: CompactRange,
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    pub(super) fn push(&mut self, text: Vec<u8>) {
        let levels = &mut self.levels;
        self.range.push_with(leaf_hash(&text), |level, _, hash| {
            if level % 8 == 0 {
                let level = usize::from(level / 8);
                if levels.len() == level {
                    levels.push(Vec::new());
                }
                levels[level].push(hash);
            }
        });
        self.texts.push(text);
    }

    pub(super) fn size(&self) -> u64 {
        self.texts.len() as u64
    }

    pub(super) fn root_at(&mut self, size: u64) -> Hash {
        tree_hash(self, TreeSize::new(size).unwrap()).unwrap()
    }
}

impl TileReader for Tree {
    type Error = String;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        let hashes = self.levels.get(usize::from(level)).map_or(&[][..], |level| &level[..]);
        let first = usize::try_from(index * TILE_WIDTH).unwrap();
        hashes.get(first..first + usize::from(width)).map(<[Hash]>::to_vec).ok_or_else(|| "no such tile".to_owned())
    }
}
