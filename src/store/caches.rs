//! What was fetched and checked, and can be fetched again: module files, checksum database heads, toolchains.

use anyhow::Context;
use rusqlite::{OptionalExtension, params};

use super::{Reader, Tx};
use crate::model::{GoVersion, Target};

/// A file of the module proxy that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFile {
    /// Path below the proxy's address.
    pub path: String,
    /// Of its bytes; the name under which they are kept.
    pub hash: [u8; 32],
    /// Bytes.
    pub size: u64,
}

/// A toolchain that is unpacked, checked and tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolchainRow {
    /// Dirhash of its zip, as the checksum database has it.
    pub h1: String,
    /// What it can build for.
    pub targets: Vec<Target>,
}

impl Reader<'_> {
    /// The kept file of a path.
    pub fn module_file(&self, path: &str) -> anyhow::Result<Option<ModuleFile>> {
        let mut query = self.conn.prepare_cached("SELECT path, sha256, size FROM module_file WHERE path = ?1")?;
        Ok(query.query_row([path], module_file).optional()?)
    }

    /// The files whose last use is longest ago.
    pub fn oldest_module_files(&self, limit: usize) -> anyhow::Result<Vec<ModuleFile>> {
        let mut query =
            self.conn.prepare_cached("SELECT path, sha256, size FROM module_file ORDER BY used_at LIMIT ?1")?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], module_file)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many paths share the bytes of a hash.
    pub fn module_paths_of(&self, hash: &[u8; 32]) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT count(*) FROM module_file WHERE sha256 = ?1")?;
        Ok(query.query_row([hash], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// Bytes of all kept module files.
    pub fn module_bytes(&self) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT coalesce(sum(size), 0) FROM module_file")?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// The newest proven head of a checksum database, as its signed note.
    pub fn sumdb_head(&self, name: &str) -> anyhow::Result<Option<String>> {
        let mut query = self.conn.prepare_cached("SELECT note FROM sumdb_head WHERE name = ?1")?;
        Ok(query.query_row([name], |row| row.get(0)).optional()?)
    }

    /// A toolchain that is ready for use.
    pub fn toolchain(&self, goversion: &GoVersion) -> anyhow::Result<Option<ToolchainRow>> {
        let mut query = self.conn.prepare_cached("SELECT h1, targets FROM toolchain WHERE goversion = ?1")?;
        let row: Option<(String, String)> =
            query.query_row([goversion.to_string()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        row.map(|(h1, targets)| {
            let targets = targets
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .context("a stored toolchain has an unknown target")?;
            Ok(ToolchainRow { h1, targets })
        })
        .transpose()
    }

    /// All toolchains that are ready for use.
    pub fn toolchains(&self) -> anyhow::Result<Vec<GoVersion>> {
        let mut query = self.conn.prepare_cached("SELECT goversion FROM toolchain")?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| row?.parse().context("a stored toolchain has no Go version")).collect()
    }
}

impl Tx<'_> {
    /// Notes a file whose bytes are in place and synced.
    pub fn put_module_file(&mut self, path: &str, hash: &[u8; 32], size: u64) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO module_file (path, sha256, size, used_at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![path, hash, size.cast_signed(), super::now()])?;
        Ok(())
    }

    /// Notes that files were used now.
    pub fn touch_module_files(&mut self, paths: &[String]) -> anyhow::Result<()> {
        let mut update = self.conn.prepare_cached("UPDATE module_file SET used_at = ?2 WHERE path = ?1")?;
        for path in paths {
            update.execute(params![path, super::now()])?;
        }
        Ok(())
    }

    /// Forgets a file; its bytes may be unlinked once this is committed and no other path shares them.
    pub fn remove_module_file(&mut self, path: &str) -> anyhow::Result<()> {
        self.conn.prepare_cached("DELETE FROM module_file WHERE path = ?1")?.execute([path])?;
        Ok(())
    }

    /// Moves the head of a checksum database from the one it was proven against; false if someone else moved it.
    pub fn set_sumdb_head(&mut self, name: &str, note: &str, expected: Option<&str>) -> anyhow::Result<bool> {
        let changed = match expected {
            None => self
                .conn
                .prepare_cached("INSERT INTO sumdb_head (name, note) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute([name, note])?,
            Some(expected) => self
                .conn
                .prepare_cached("UPDATE sumdb_head SET note = ?2 WHERE name = ?1 AND note = ?3")?
                .execute([name, note, expected])?,
        };
        Ok(changed == 1)
    }

    /// Notes a toolchain that is in place, checked and tried.
    pub fn put_toolchain(&mut self, goversion: &GoVersion, row: &ToolchainRow) -> anyhow::Result<()> {
        let targets: Vec<String> = row.targets.iter().map(Target::to_string).collect();
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO toolchain (goversion, h1, targets, at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![goversion.to_string(), row.h1, targets.join(" "), super::now()])?;
        Ok(())
    }

    /// Forgets a toolchain whose folder is gone or about to go.
    pub fn remove_toolchain(&mut self, goversion: &GoVersion) -> anyhow::Result<()> {
        self.conn.prepare_cached("DELETE FROM toolchain WHERE goversion = ?1")?.execute([goversion.to_string()])?;
        Ok(())
    }
}

fn module_file(row: &rusqlite::Row<'_>) -> rusqlite::Result<ModuleFile> {
    Ok(ModuleFile { path: row.get(0)?, hash: row.get(1)?, size: row.get::<_, i64>(2)?.cast_unsigned() })
}
