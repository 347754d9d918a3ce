//! What changed between two configurations, and what of it can be changed without a restart.

use serde_json::Value;

use super::Config;

/// Settings, and tables of them, that a running node takes over when it reloads its file.
const RELOADABLE: &[&str] = &["lookup-wait", "notes"];

/// Names of settings that differ, such as `build-limits.time`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// A running node can take these over.
    pub reloadable: Vec<String>,
    /// These need a restart.
    pub needs_restart: Vec<String>,
}

impl Differences {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.reloadable.is_empty() && self.needs_restart.is_empty()
    }
}

impl Config {
    /// What differs in a configuration that was read later.
    pub fn differences(&self, new: &Config) -> Differences {
        let tree = |config: &Config| {
            serde_json::to_value(config).expect("settings are texts, numbers, lists and tables of them")
        };
        let mut differing = Vec::new();
        compare("", &tree(self), &tree(new), &mut differing);
        let reloadable =
            |name: &String| RELOADABLE.iter().any(|known| name == known || name.starts_with(&format!("{known}.")));
        let (reloadable, needs_restart) = differing.into_iter().partition(reloadable);
        Differences { reloadable, needs_restart }
    }
}

/// Collects the names of settings that differ; tables are compared setting by setting, lists as a whole.
fn compare(name: &str, old: &Value, new: &Value, differing: &mut Vec<String>) {
    match (old, new) {
        // Both come from one type, so both have the same names.
        (Value::Object(old), Value::Object(new)) => {
            for (key, old) in old {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                compare(&name, old, new.get(key).unwrap_or(&Value::Null), differing);
            }
        }
        (old, new) if old != new => differing.push(name.to_owned()),
        _ => {}
    }
}
