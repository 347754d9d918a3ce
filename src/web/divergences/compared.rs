//! How the binaries behind the words of a divergence differ, or what is missing to tell: as JSON, and for people.

use serde_json::{Value, json};

use super::names;
use crate::evidence::{Comparison, Table};
use crate::model::Sum;
use crate::store::{ComparisonRow, DivergenceRow};
use crate::tally::Names;
use crate::web::State;
use crate::web::api::rfc3339;

/// Two sums of a divergence, that of this node first if it named one of them.
pub(super) struct Pair {
    /// Who named each.
    pub(super) between: [String; 2],
    /// How the files differ, in that order; else what is missing.
    found: Result<Comparison, String>,
    next_at: i64,
}

/// The pairs of a divergence.
///
/// # Errors
/// The store failed.
pub(super) async fn pairs(state: &State, row: &DivergenceRow) -> anyhow::Result<Vec<Pair>> {
    let id = row.id;
    let rows = state.store.read(move |reader| reader.comparisons(id)).await?;
    let names = names(state);
    // What was given up is not waited for.
    Ok(rows.into_iter().filter_map(|pair| Pair::of(pair, row, &names)).collect())
}

impl Pair {
    fn of(pair: ComparisonRow, row: &DivergenceRow, names: &Names) -> Option<Pair> {
        let own = names.own.to_string();
        let ours = |sum: &Sum| row.words.iter().any(|said| said.sum == *sum && said.vkey == own);
        let who = |sum: &Sum| {
            let mut who: Vec<String> =
                row.words.iter().filter(|said| said.sum == *sum).map(|said| names.of(&said.vkey)).collect();
            who.dedup();
            who.join(", ")
        };
        let turn = ours(&pair.other) && !ours(&pair.one);
        let sums = if turn { [pair.other, pair.one] } else { [pair.one, pair.other] };
        let found = match (pair.text, pair.missing) {
            (Some(text), _) => {
                let value = serde_json::from_str(&text).ok()?;
                let comparison = Comparison::from_json(&value).ok()?;
                Ok(if comparison.sums()[0].1 == sums[0] { comparison } else { comparison.reversed() })
            }
            (None, Some(missing)) => Err(missing),
            (None, None) => Err("not compared yet".to_owned()),
        };
        Some(Pair { between: sums.each_ref().map(who), found, next_at: pair.next_at })
    }

    /// As the API has it.
    pub(super) fn object(&self) -> Value {
        match &self.found {
            Ok(comparison) => json!({"between": self.between, "comparison": comparison}),
            Err(missing) if self.next_at == 0 => json!({"between": self.between, "missing": missing}),
            Err(missing) => {
                json!({"between": self.between, "missing": missing, "next_at": rfc3339(self.next_at)})
            }
        }
    }

    /// As the page has it.
    pub(super) fn shown(&self) -> Shown {
        let [one, other] = &self.between;
        let between = format!("{one} and {other}");
        match &self.found {
            Ok(comparison) => Shown {
                between,
                summary: comparison.summary(),
                meaning: comparison.class.meaning(),
                advice: comparison.class.advice(),
                tables: comparison.tables([one, other]),
                missing: String::new(),
            },
            Err(missing) => Shown {
                between,
                summary: String::new(),
                meaning: "",
                advice: "",
                tables: Vec::new(),
                missing: missing.clone(),
            },
        }
    }
}

/// A pair in words.
pub(super) struct Shown {
    pub(super) between: String,
    pub(super) summary: String,
    pub(super) meaning: &'static str,
    pub(super) advice: &'static str,
    pub(super) tables: Vec<Table>,
    /// Why there is nothing to show; empty if there is.
    pub(super) missing: String,
}
