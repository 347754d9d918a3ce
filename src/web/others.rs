//! The same program otherwise: other versions, targets, Go versions, variants and commands, with
//! those that have a record marked and linked straight to their result.

use std::collections::{BTreeSet, HashMap};

use super::State;
use super::pages::result_path;
use crate::model::{Spec, Target, Variant};

/// Records of a module that are looked at for marks.
const RECORDS: usize = 1000;
/// Choices in one group: a module may have thousands of versions.
const CHOICES: usize = 40;

/// Choices of one kind.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) choices: Vec<Choice>,
}

/// One other spec, or this one.
pub(super) struct Choice {
    pub(super) label: String,
    pub(super) path: String,
    pub(super) recorded: bool,
    pub(super) current: bool,
}

/// All groups for a spec. What the module proxy does not say quickly is left out.
pub(super) async fn groups(state: &State, spec: &Spec) -> anyhow::Result<Vec<Group>> {
    let module = spec.module.clone();
    let rows = state.store.read(move |reader| reader.records_of(&module, RECORDS)).await?;
    let results: HashMap<Spec, String> = rows.iter().map(|row| (row.record.spec.clone(), result_path(row))).collect();
    let (listed, go) = tokio::join!(state.resolver().versions(&spec.module), state.resolver().go_versions());

    // What is recorded counts even if no proxy lists it any more.
    let mut versions: BTreeSet<_> = listed.iter().take(CHOICES).cloned().collect();
    let mut goversions: BTreeSet<_> = go.iter().filter(|go| go.is_release()).take(CHOICES).copied().collect();
    let mut dirs = BTreeSet::from([spec.dir.clone()]);
    versions.insert(spec.version.clone());
    goversions.insert(spec.goversion);
    for known in results.keys() {
        versions.insert(known.version.clone());
        goversions.insert(known.goversion);
        if known.version == spec.version {
            dirs.insert(known.dir.clone());
        }
    }

    let choice = |label: String, other: Spec| {
        let result = results.get(&other);
        Choice {
            label,
            path: result.cloned().unwrap_or_else(|| format!("/{other}")),
            recorded: result.is_some(),
            current: other == *spec,
        }
    };
    // A combination that does not exist is no choice.
    let checked = |other: Spec| other.to_string().parse::<Spec>().ok();
    let group = |title, others: Vec<(String, Spec)>| Group {
        title,
        choices: others
            .into_iter()
            .filter_map(|(label, other)| Some(choice(label, checked(other)?)))
            .take(2 * CHOICES)
            .collect(),
    };
    let with = |change: &dyn Fn(&mut Spec)| {
        let mut other = spec.clone();
        change(&mut other);
        other
    };
    Ok(vec![
        group(
            "Versions",
            versions
                .iter()
                .rev()
                .map(|version| (version.to_string(), with(&|other| other.version = version.clone())))
                .collect(),
        ),
        group(
            "Targets",
            Target::all().map(|target| (target.to_string(), with(&|other| other.target = target))).collect(),
        ),
        group(
            "Go versions",
            goversions.iter().rev().map(|go| (go.to_string(), with(&|other| other.goversion = *go))).collect(),
        ),
        group(
            "Variants",
            [(Variant::Plain, "with symbols"), (Variant::Stripped, "stripped")]
                .map(|(variant, label)| (label.to_owned(), with(&|other| other.variant = variant)))
                .to_vec(),
        ),
        group(
            "Commands of this version in the log",
            dirs.iter().map(|dir| (dir.to_string(), with(&|other| other.dir = dir.clone()))).collect(),
        ),
    ])
}
