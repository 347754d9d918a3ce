//! How often a build has hit a limit: only the third time is a finding about the module and not
//! about a busy machine.

use std::collections::HashMap;

use super::Outcome;
use crate::model::{Class, Spec};

/// Tries after which a limit is a finding.
const ENOUGH: u8 = 3;
/// Specs remembered. Beyond, all are forgotten, and their tries begin anew.
const REMEMBERED: usize = 10_000;

/// Counts the tries of specs that hit a limit.
#[derive(Debug, Default)]
pub(super) struct Tries {
    counts: HashMap<Spec, u8>,
}

impl Tries {
    /// The outcome as it is to be reported: the first tries that hit a limit are temporary trouble.
    pub(super) fn judge(&mut self, spec: &Spec, outcome: Outcome) -> Outcome {
        let Outcome::CannotBuild { class: class @ (Class::Timeout | Class::TooLarge), detail } = outcome else {
            if !matches!(outcome, Outcome::Temporary { .. }) {
                self.counts.remove(spec);
            }
            return outcome;
        };
        if self.counts.len() >= REMEMBERED {
            self.counts.clear();
        }
        let count = self.counts.entry(spec.clone()).or_default();
        *count += 1;
        if *count < ENOUGH {
            return Outcome::Temporary { detail: format!("{detail} (try {count} of {ENOUGH})") };
        }
        self.counts.remove(spec);
        Outcome::CannotBuild { class, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_third_time_is_a_finding() {
        let spec: Spec = "example.com/m@v1.0.0/linux-amd64-go1.27.1/".parse().unwrap();
        let mut tries = Tries::default();
        let cannot = |class| Outcome::CannotBuild { class, detail: "x".into() };
        let mut kinds = String::new();
        for outcome in [
            cannot(Class::Timeout),
            Outcome::Temporary { detail: "network".into() },
            cannot(Class::TooLarge),
            cannot(Class::Timeout),
            cannot(Class::Timeout),
            Outcome::NotFound { detail: "x".into() },
            cannot(Class::Timeout),
            cannot(Class::SourceError),
        ] {
            kinds += tries.judge(&spec, outcome).kind();
            kinds += " ";
        }
        assert_eq!(kinds, "temporary temporary temporary cannot-build temporary not-found temporary cannot-build ");
        assert!(tries.counts.is_empty());
    }
}
