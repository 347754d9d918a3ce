//! How often each party agrees with this node, counted from the words themselves.
//!
//! # Performance
//! One pass over two tables in the order of specs, without looking anything up by key: 2 s for 600,000 words of three
//! parties, with SQLite and this program unoptimized on a busy machine. Callers that are asked by strangers keep the
//! result for a while.

use std::collections::HashMap;

use super::Reader;

/// How the words of one party stand to what this node has a sum of: by record, or by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordCounts {
    /// Specs of which it has named the same sum and size.
    pub agree: u64,
    /// Specs of which it has named others.
    pub differ: u64,
    /// Specs that this node has a sum of and that it has said nothing about.
    pub missing: u64,
    /// Specs that it found to be impossible to build, whatever this node found.
    pub cannot_build: u64,
}

/// A sum and its size, as rows have them.
type Pair = (i64, [u8; 20]);

impl Reader<'_> {
    /// The counts of each party that has words, by verifier key, and those of a party that has said nothing.
    ///
    /// # Errors
    /// The database failed.
    pub fn count_words(&self, own: &str) -> anyhow::Result<(HashMap<String, WordCounts>, WordCounts)> {
        let mut parties = HashMap::new();
        let mut query = self.conn.prepare_cached("SELECT id, vkey FROM party")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            parties.insert(row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
        }
        let own = parties.iter().find(|(_, vkey)| vkey.as_str() == own).map(|(id, _)| *id);

        let mut records = self.conn.prepare_cached("SELECT spec, size, sum FROM record ORDER BY spec")?;
        let mut records = records.query([])?;
        let mut words = self.conn.prepare_cached("SELECT spec, party, size, sum FROM word ORDER BY spec, party")?;
        let mut words = words.query([])?;
        let mut tally = Count::default();
        let mut record = next_record(&mut records)?;
        let mut group: Vec<(i64, Option<Pair>)> = Vec::new();
        let mut of = None;
        loop {
            let word = match words.next()? {
                Some(row) => {
                    let pair = row.get::<_, Option<i64>>(2)?.zip(row.get(3)?);
                    Some((row.get::<_, i64>(0)?, (row.get::<_, i64>(1)?, pair)))
                }
                None => None,
            };
            let spec = word.as_ref().map(|(spec, _)| *spec);
            if let Some(done) = of.filter(|_| of != spec) {
                // Records of specs without words come first, if there are any.
                while let Some((_, pair)) = record.filter(|(at, _)| *at < done) {
                    tally.add(Some(pair), &[]);
                    record = next_record(&mut records)?;
                }
                let recorded = record.filter(|(at, _)| *at == done).map(|(_, pair)| pair);
                let said = || group.iter().find(|(party, _)| Some(*party) == own).and_then(|(_, pair)| *pair);
                tally.add(recorded.or_else(said), &group);
                if recorded.is_some() {
                    record = next_record(&mut records)?;
                }
                group.clear();
            }
            of = spec;
            match word {
                Some((_, said)) => group.push(said),
                None => break,
            }
        }
        while let Some((_, pair)) = record {
            tally.add(Some(pair), &[]);
            record = next_record(&mut records)?;
        }
        Ok(tally.by_vkey(&parties))
    }
}

fn next_record(rows: &mut rusqlite::Rows<'_>) -> anyhow::Result<Option<(i64, Pair)>> {
    Ok(match rows.next()? {
        Some(row) => Some((row.get(0)?, (row.get(1)?, row.get(2)?))),
        None => None,
    })
}

#[derive(Default)]
struct Count {
    /// Specs that this node has a sum of.
    ours: u64,
    /// By row of the party, with the specs among ours that it has said anything about.
    parties: HashMap<i64, (WordCounts, u64)>,
}

impl Count {
    fn add(&mut self, ours: Option<Pair>, words: &[(i64, Option<Pair>)]) {
        self.ours += u64::from(ours.is_some());
        for (party, said) in words {
            let (counts, spoken) = self.parties.entry(*party).or_default();
            *spoken += u64::from(ours.is_some());
            match (said, ours) {
                (None, _) => counts.cannot_build += 1,
                (Some(_), None) => {}
                (Some(said), Some(ours)) if *said == ours => counts.agree += 1,
                (Some(_), Some(_)) => counts.differ += 1,
            }
        }
    }

    fn by_vkey(self, parties: &HashMap<i64, String>) -> (HashMap<String, WordCounts>, WordCounts) {
        let silent = WordCounts { missing: self.ours, ..WordCounts::default() };
        let counts = self.parties.into_iter().filter_map(|(party, (counts, spoken))| {
            let counts = WordCounts { missing: self.ours - spoken, ..counts };
            Some((parties.get(&party)?.clone(), counts))
        });
        (counts.collect(), silent)
    }
}
