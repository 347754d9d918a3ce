//! Nodes that wait for each other's accepted logs in a circle, so that none of them ever accepts.
//!
//! Pure: who waits for whom is brought by [`super::circle`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A node as far as it is known whom it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// As people call it.
    pub name: String,
    /// Verifier keys of the voters whose accepted logs it needs.
    pub on: BTreeSet<String>,
}

/// The shortest ring through the node with the key `through`, by name, beginning with it; none if it is in none.
pub fn ring(through: &str, nodes: &BTreeMap<String, Waits>) -> Option<Vec<String>> {
    let mut queue = VecDeque::from([through]);
    // From where each node was reached first.
    let mut reached: BTreeMap<&str, &str> = BTreeMap::new();
    while let Some(key) = queue.pop_front() {
        let Some(node) = nodes.get(key) else {
            continue;
        };
        for next in &node.on {
            if next == through {
                let mut names = Vec::new();
                let mut at = key;
                while at != through {
                    names.push(name(at, nodes));
                    at = reached[at];
                }
                names.push(name(through, nodes));
                names.reverse();
                return Some(names);
            }
            if !reached.contains_key(next.as_str()) {
                reached.insert(next, key);
                queue.push_back(next);
            }
        }
    }
    None
}

fn name(key: &str, nodes: &BTreeMap<String, Waits>) -> String {
    nodes.get(key).map_or(key, |node| node.name.as_str()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(graph: &str, through: &str, wanted: &str) {
        let mut nodes = BTreeMap::new();
        for edge in graph.split_whitespace() {
            let (from, on) = edge.split_once('>').expect("an edge");
            let node =
                nodes.entry(from.to_owned()).or_insert_with(|| Waits { name: from.to_uppercase(), ..Waits::default() });
            node.on.insert(on.to_owned());
        }
        let found = ring(through, &nodes).map(|names| names.join(" ")).unwrap_or_default();
        assert_eq!(found, wanted, "{graph} through {through}");
    }

    #[test]
    fn rings_of_any_length_are_found() {
        check("", "a", "");
        check("a>b", "a", "");
        check("a>a", "a", "A");
        check("a>b b>a", "a", "A B");
        check("a>b b>a", "b", "B A");
        check("a>b b>c c>d d>a", "a", "A B C D");
        check("a>b b>c c>d d>a c>a", "a", "A B C");
        check("a>b b>c c>b", "a", "");
        check("a>b b>c c>b", "b", "B C");
        check("a>b a>c b>d c>d d>e", "a", "");
        let long: String = (0..1000).map(|n| format!("{n}>{} ", (n + 1) % 1000)).collect();
        let wanted: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        check(&long, "0", &wanted.join(" "));
    }
}
