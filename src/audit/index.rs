//! Pages of a module index, and what in them is new: values only.
//!
//! The index is Go's: lines of JSON with `Path`, `Version` and `Timestamp`, asked for by `since`, which is inclusive, at
//! most [`PAGE`] a page. So the rows of the newest moment come again with the next page. They are remembered, which also
//! shows when a feed no longer has what it had. Nothing in it is signed or proven: it only says when to look at a module.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Rows of a page, as Go's index has them.
pub const PAGE: usize = 2000;
/// Bytes of a page: rows of the longest module paths there are.
pub const PAGE_LIMIT_BYTES: usize = 8 << 20;
/// Rows of one moment that are remembered.
const SEEN: usize = 2 * PAGE;

/// A version that was first seen at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of the module, as it stands there.
    pub path: String,
    /// As it stands there.
    pub version: String,
    /// When the index got it.
    pub at: Timestamp,
}

/// An answer of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order in which they stand there.
    pub rows: Vec<Row>,
    /// Lines, good and bad.
    pub lines: usize,
    /// Lines that are no rows, and what is wrong with the first of them.
    pub garbage: Option<(usize, String)>,
}

/// How far an index was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The newest moment.
    pub since: Timestamp,
    /// Short hashes of the rows of that moment.
    seen: BTreeSet<String>,
}

/// What a page brings.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// Rows that were not there before.
    pub rows: Vec<Row>,
    /// What is odd about the page, in sentences.
    pub told: Vec<String>,
    /// Whether there is more to be had at once.
    pub more: bool,
}

impl Page {
    /// Reads an answer. Lines that are no rows are counted and passed over.
    pub fn parse(body: &[u8]) -> Page {
        let mut page = Page::default();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            page.lines += 1;
            match row(line) {
                Ok(row) => page.rows.push(row),
                Err(why) => {
                    let number = page.lines;
                    let (count, _) = page.garbage.get_or_insert_with(|| (0, format!("line {number}: {why}")));
                    *count += 1;
                }
            }
        }
        page
    }
}

fn row(line: &[u8]) -> Result<Row, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        path: String,
        version: String,
        timestamp: Timestamp,
    }
    let Line { path, version, timestamp } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(Row { path, version, at: timestamp })
}

impl Cursor {
    /// Nothing before this moment counts.
    pub fn at(since: Timestamp) -> Cursor {
        Cursor { since, seen: BTreeSet::new() }
    }

    /// From the texts of [`Cursor::to_texts`].
    pub fn from_texts(since: &str, seen: &str) -> Option<Cursor> {
        Some(Cursor { since: since.parse().ok()?, seen: seen.split_whitespace().map(str::to_owned).collect() })
    }

    /// For the store.
    pub fn to_texts(&self) -> (String, String) {
        (self.since.to_string(), self.seen.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    }

    /// Takes in the page that was asked for with `since`; `full` rows are a whole page. The cursor never goes back, and
    /// never beyond tomorrow.
    pub fn advance(&mut self, page: Page, full: usize, now: Timestamp) -> News {
        let mut told = Vec::new();
        if let Some((count, first)) = &page.garbage {
            told.push(format!("{count} of {} lines are no rows of a module index: {first}", page.lines));
        }
        let tomorrow = now.checked_add(24.hours()).unwrap_or(now);
        let (early, late) = (
            page.rows.iter().filter(|row| row.at < self.since).count(),
            page.rows.iter().filter(|row| row.at > tomorrow).count(),
        );
        if early > 0 {
            told.push(format!(
                "it goes back in time: {early} rows are from before {}, which was asked for",
                self.since
            ));
        }
        if late > 0 {
            told.push(format!("{late} rows are from the future"));
        }
        let good: Vec<Row> = page.rows.into_iter().filter(|row| row.at >= self.since && row.at <= tomorrow).collect();
        if !self.seen.is_empty() && !good.iter().any(|row| self.seen.contains(&short(row))) {
            told.push(format!(
                "there is a gap: it no longer has what it had at {}; versions may be missing",
                self.since
            ));
        }
        let good_rows = good.len();
        let newest = good.iter().map(|row| row.at).max().unwrap_or(self.since);
        let now_seen = good.iter().filter(|row| row.at == newest).map(short).take(SEEN);
        let (since, seen) = (newest, now_seen.collect::<BTreeSet<_>>());
        let rows = good.into_iter().filter(|row| row.at > self.since || !self.seen.contains(&short(row))).collect();
        let mut more = page.lines >= full;
        if since > self.since {
            (self.since, self.seen) = (since, seen);
        } else {
            more = good_rows >= full;
            let room = SEEN.saturating_sub(self.seen.len());
            self.seen.extend(seen.into_iter().take(room));
            if more {
                // Asking again would bring the same page for ever.
                self.since = self.since.checked_add(1.microsecond()).unwrap_or(self.since);
                self.seen.clear();
                told.push("more rows than a page holds are of one moment: versions may be missing".to_owned());
            }
        }
        News { rows, told, more }
    }
}

/// What tells a row from others of its moment.
fn short(row: &Row) -> String {
    let hash = Sha256::new().chain_update(&row.path).chain_update("@").chain_update(&row.version).finalize();
    data_encoding::HEXLOWER.encode(&hash[..8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn line(number: usize, second: i64) -> String {
        format!("{{\"Path\":\"example.com/m\",\"Version\":\"v1.0.{number}\",\"Timestamp\":\"{}\"}}\n", time(second))
    }

    /// What such an index answers: rows from a moment on, at most so many.
    fn answer(rows: &[(usize, i64)], since: Timestamp, full: usize) -> String {
        let from = rows.iter().filter(|(_, second)| time(*second) >= since);
        from.take(full).map(|(number, second)| line(*number, *second)).collect()
    }

    #[test]
    fn what_is_odd_is_told() {
        let mut cursor = Cursor::at(time(10));
        let mut check = |body: &str, new: usize, words: &[&str]| {
            let news = cursor.advance(Page::parse(body.as_bytes()), 3, time(100));
            let told = news.told.join("; ");
            assert_eq!((news.rows.len(), news.told.len()), (new, words.len()), "{body}: {told}");
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        };
        check("", 0, &[]);
        check(&line(1, 20), 1, &[]);
        check(&line(1, 20), 0, &[]);
        check(&(line(1, 20) + &line(2, 20)), 1, &[]);
        check(&format!("<html>\n{}{{}}\n", line(2, 20)), 0, &["2 of 3 lines are no rows of a module index: line 1: "]);
        check(&(line(1, 20) + &line(2, 20) + &line(3, 20)), 1, &["of one moment"]);
        check(&line(4, 30), 1, &[]);
        check("", 0, &["gap"]);
        check(&line(5, 40), 1, &["gap"]);
        check(&line(3, 5), 0, &["back in time", "gap"]);
        check(&(line(5, 40) + &line(6, 100_000_000)), 0, &["from the future"]);
    }

    #[test]
    fn a_cursor_comes_back_from_the_store() {
        let mut cursor = Cursor::at(time(1));
        cursor.advance(Page::parse((line(1, 20) + &line(2, 20)).as_bytes()), PAGE, time(100));
        let (since, seen) = cursor.to_texts();
        assert_eq!(Cursor::from_texts(&since, &seen), Some(cursor));
        assert_eq!(Cursor::from_texts("yesterday", ""), None);
    }

    proptest! {
        #[test]
        fn each_row_is_new_once(seconds in prop::collection::vec(0i64..12, 0..60), grown in 1usize..5) {
            let mut rows: Vec<(usize, i64)> = seconds.into_iter().enumerate().collect();
            rows.sort_by_key(|(_, second)| *second);
            // No moment has as many rows as a page.
            let full = 1 + (0..12).map(|at| rows.iter().filter(|row| row.1 == at).count()).max().unwrap_or(0);
            let mut cursor = Cursor::at(time(0));
            let mut found = Vec::new();
            for end in (0..=rows.len()).step_by(grown).chain([rows.len()]) {
                // The index gets more of a moment, too.
                loop {
                    let page = Page::parse(answer(&rows[..end], cursor.since, full).as_bytes());
                    let news = cursor.advance(page, full, time(100));
                    prop_assert_eq!(&news.told, &Vec::<String>::new());
                    found.extend(news.rows);
                    if !news.more { break }
                }
            }
            let wanted = Page::parse(answer(&rows, time(0), usize::MAX).as_bytes()).rows;
            prop_assert_eq!(found.len(), wanted.len());
            prop_assert!(wanted.iter().all(|row| found.contains(row)));
        }

        #[test]
        fn nothing_panics_or_goes_back(
            body in prop::collection::vec("(\\{|\\}|\"|Path|Version|Timestamp|:|,|1|Z|\n| ){0,20}", 0..20),
            seconds in prop::collection::vec(-50i64..200, 0..20),
        ) {
            let mut cursor = Cursor::at(time(0));
            let lines: String = seconds.iter().enumerate().map(|(number, second)| line(number, *second)).collect();
            for body in [body.concat(), lines.clone(), body.concat() + &lines] {
                let before = cursor.since;
                let news = cursor.advance(Page::parse(body.as_bytes()), 5, time(100));
                prop_assert!(cursor.since >= before);
                prop_assert!(news.rows.iter().all(|row| row.at >= before));
            }
        }
    }
}
