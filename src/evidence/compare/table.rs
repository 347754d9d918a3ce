//! A comparison for people: a few tables of words, the same on a terminal and on a page.

use std::collections::BTreeMap;

use super::{Class, Comparison};
use crate::evidence::buildinfo::{BuildInfo, Module};

/// Rows of one table. What is beyond is counted in its last row.
const ROWS: usize = 60;

/// Rows of words under a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: &'static str,
    /// What stands in each column.
    pub head: Vec<String>,
    /// As many words in each row.
    pub rows: Vec<Vec<String>>,
}

impl Comparison {
    /// What differs, from the whole to the smallest. `names` are what people call the two sides.
    pub fn tables(&self, names: [&str; 2]) -> Vec<Table> {
        let tables =
            [self.files(names), self.inputs(names), self.parts(names), self.functions(names), self.paths(names)];
        tables.into_iter().flatten().collect()
    }

    /// One sentence: what kind of difference it is, and where it begins.
    pub fn summary(&self) -> String {
        let Comparison { class, differing_bytes, first_difference, .. } = self;
        format!("{}: {differing_bytes} bytes differ, the first at {first_difference}", class.as_str())
    }

    fn files(&self, names: [&str; 2]) -> Option<Table> {
        let say = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
        let row = |name: &str, value: &dyn Fn(usize) -> String| vec![name.to_owned(), value(0), value(1)];
        let binaries = &self.binaries;
        let version =
            |at: usize| binaries[at].build_info.as_ref().map_or_else(String::new, |info| info.go_version.clone());
        let mut rows = vec![
            row("bytes", &|at| binaries[at].size.to_string()),
            row("SHA-256", &|at| binaries[at].sha256.clone()),
            row("format", &|at| say(&binaries[at].format, "none that Go writes")),
            row("Go version", &version),
        ];
        if binaries.iter().any(|binary| binary.build_id.is_some()) {
            rows.push(row("build id", &|at| say(&binaries[at].build_id, "none")));
        }
        if binaries.iter().any(|binary| binary.trouble.is_some()) {
            rows.push(row("trouble", &|at| say(&binaries[at].trouble, "")));
        }
        Some(Table { title: "The two files", head: head("", names), rows })
    }

    /// Build information, where it differs.
    fn inputs(&self, names: [&str; 2]) -> Option<Table> {
        let [Some(one), Some(other)] = [&self.binaries[0].build_info, &self.binaries[1].build_info] else {
            return None;
        };
        table("What they say of their builds", head("input", names), input_rows(one, other))
    }

    fn parts(&self, names: [&str; 2]) -> Option<Table> {
        let number = |value: Option<u64>| value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
        let row = |part: &super::Part| {
            let missing = part.sizes.iter().any(Option::is_none);
            let differing = if missing { String::new() } else { part.differing_bytes.to_string() };
            let first = part.first_difference.map(|at| at.to_string()).unwrap_or_default();
            let mut row = vec![part.name.clone(), part.role.clone()];
            row.extend(part.sizes.map(number));
            row.extend([differing, first]);
            row
        };
        let [one, other] = names.map(|name| format!("bytes, {name}"));
        let columns = ["part", "role", &one, &other, "differing", "first at"].map(str::to_owned);
        table("Their parts", columns.to_vec(), self.sections.iter().map(row).collect())
    }

    fn functions(&self, names: [&str; 2]) -> Option<Table> {
        let symbols = self.symbols.as_ref()?;
        let number = |value: Option<u64>| value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
        let mut rows: Vec<Vec<String>> = Vec::new();
        for pair in &symbols.first {
            let first = pair.first_difference.map(|at| at.to_string()).unwrap_or_default();
            rows.push(vec![pair.name.clone(), number(pair.sizes[0]), number(pair.sizes[1]), first]);
        }
        let all = symbols.differing + symbols.only.iter().sum::<u64>();
        let more = all.saturating_sub(symbols.first.len() as u64);
        if more > 0 {
            rows.push(vec![format!("and {more} more"), String::new(), String::new(), String::new()]);
        }
        let [one, other] = names.map(|name| format!("bytes, {name}"));
        table(
            "Functions and variables that differ",
            ["symbol", &one, &other, "first at"].map(str::to_owned).to_vec(),
            rows,
        )
    }

    fn paths(&self, names: [&str; 2]) -> Option<Table> {
        // Other files follow from other inputs; only where they say something new are they shown.
        let paths = self.paths.as_ref().filter(|_| self.class != Class::BuildInfo)?;
        let longest = paths.first.iter().map(Vec::len).max().unwrap_or_default();
        let word = |side: usize, at: usize| paths.first[side].get(at).cloned().unwrap_or_default();
        let mut rows: Vec<Vec<String>> = (0..longest).map(|at| vec![word(0, at), word(1, at)]).collect();
        let more = |side: usize| match paths.only[side].saturating_sub(paths.first[side].len() as u64) {
            0 => String::new(),
            more => format!("and {more} more"),
        };
        if [more(0), more(1)].iter().any(|text| !text.is_empty()) {
            rows.push(vec![more(0), more(1)]);
        }
        table("Source files that only one names", names.map(str::to_owned).to_vec(), rows)
    }
}

fn head(first: &str, names: [&str; 2]) -> Vec<String> {
    [first, names[0], names[1]].map(str::to_owned).to_vec()
}

/// A table, unless it would be empty.
fn table(title: &'static str, head: Vec<String>, mut rows: Vec<Vec<String>>) -> Option<Table> {
    if rows.len() > ROWS {
        let more = rows.len() - ROWS;
        rows.truncate(ROWS);
        let mut last = vec![String::new(); head.len()];
        last[0] = format!("and {more} more");
        rows.push(last);
    }
    (!rows.is_empty()).then_some(Table { title, head, rows })
}

/// What differs in the build information of two files: its name, and what each says.
fn input_rows(one: &BuildInfo, other: &BuildInfo) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: String, one: String, other: String| {
        if one != other {
            rows.push(vec![name, one, other]);
        }
    };
    row("Go version".to_owned(), one.go_version.clone(), other.go_version.clone());
    row("package".to_owned(), one.path.clone(), other.path.clone());
    let main = |info: &BuildInfo| info.main.as_ref().map(|main| format!("{} {}", main.path, show(main)));
    row("main module".to_owned(), main(one).unwrap_or_default(), main(other).unwrap_or_default());
    let modules = |info: &BuildInfo| info.deps.iter().map(|dep| (dep.path.clone(), show(dep))).collect();
    for (path, [one, other]) in side_by_side([modules(one), modules(other)]) {
        row(format!("module {path}"), one, other);
    }
    for (name, [one, other]) in side_by_side([one.settings.clone(), other.settings.clone()]) {
        row(name, one, other);
    }
    rows
}

/// What stands under each name on both sides.
fn side_by_side(sides: [Vec<(String, String)>; 2]) -> BTreeMap<String, [String; 2]> {
    let mut names = BTreeMap::<String, [String; 2]>::new();
    for (at, side) in sides.into_iter().enumerate() {
        for (name, value) in side {
            let text = &mut names.entry(name).or_default()[at];
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&value);
        }
    }
    names
}

fn show(module: &Module) -> String {
    let text = format!("{} {}", module.version, module.sum).trim_end().to_owned();
    match &module.replace {
        Some(by) => format!("{text} => {} {}", by.path, show(by)),
        None => text,
    }
}
