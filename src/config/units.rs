//! Lengths of time and sizes as people write them in a configuration file.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A length of time in whole seconds: `"15s"`, `"10m"`, `"1h30m"`, `"2d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u64);

/// Longer than any setting can mean; it keeps sums of times from overflowing.
const MAX_PERIOD_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

/// Units of time from large to small, in seconds.
const TIME_UNITS: [(&str, u64); 4] = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];

impl Period {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Period {
        Period(seconds)
    }

    /// So many minutes.
    pub const fn from_mins(minutes: u64) -> Period {
        Period(minutes * 60)
    }

    /// The same as the standard library has it.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Whether it lasts no time at all.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        for (unit, seconds) in TIME_UNITS {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let wrong = || format!("{text:?} is not a length of time such as \"15s\", \"10m\" or \"1h30m\"");
        let mut left = text;
        let mut total = 0_u64;
        let mut units = TIME_UNITS.iter();
        while !left.is_empty() {
            let (number, rest) = split_number(left).ok_or_else(wrong)?;
            let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            // Units come from large to small, each at most once.
            let (_, seconds) = units.find(|(unit, _)| *unit == &rest[..end]).ok_or_else(wrong)?;
            total = number.checked_mul(*seconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            left = &rest[end..];
        }
        if text.is_empty() {
            return Err(wrong());
        }
        if total > MAX_PERIOD_SECONDS {
            return Err(format!("{text:?} is longer than ten years"));
        }
        Ok(Period(total))
    }
}

/// A size in bytes: `"512MiB"`, `"2GiB"`, `"4096B"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// Units of size from large to small, in bytes.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// So many times 2^20 bytes.
    pub const fn from_mib(mebibytes: u64) -> Size {
        Size(mebibytes << 20)
    }

    /// So many times 2^30 bytes.
    pub const fn from_gib(gibibytes: u64) -> Size {
        Size(gibibytes << 30)
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match fits {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("{text:?} is not a size such as \"512MiB\" or \"2GiB\" (units: B, KiB, MiB, GiB, TiB)");
        let (number, rest) = split_number(text).ok_or_else(wrong)?;
        let (_, bytes) = SIZE_UNITS.iter().find(|(unit, _)| *unit == rest).ok_or_else(wrong)?;
        let bytes = number.checked_mul(*bytes).filter(|bytes| i64::try_from(*bytes).is_ok());
        bytes.map(Size).ok_or_else(|| format!("{text:?} is larger than any disk"))
    }
}

/// The number that a text starts with, and the rest.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        const HOW: &str = "a length of time in quotes, such as \"15s\"";
        deserializer.deserialize_any(TextVisitor(HOW, PhantomData))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(TextVisitor("a size in quotes, such as \"2GiB\"", PhantomData))
    }
}

/// Takes a string only; of anything else, such as a bare number, it says how the value is to be written.
/// It reads the value itself, so that an error points at it and not at the list around it.
struct TextVisitor<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_they_are_written() {
        for (text, seconds) in [("15s", 15), ("10m", 600), ("1h30m", 5400), ("2d1s", 172_801), ("0s", 0)] {
            let period: Period = text.parse().expect(text);
            assert_eq!((period.0, period.to_string().as_str()), (seconds, text));
        }
        assert_eq!("90s".parse::<Period>().expect("90s").to_string(), "1m30s");
        for bad in [
            "",
            "s",
            "15",
            "15 s",
            "-1s",
            "+1s",
            "1.5h",
            "1s1m",
            "1m1m",
            "1w",
            "1M",
            "١s",
            "4000d",
            "99999999999999999999s",
            "18446744073709551615d",
            "1h30",
        ] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_read_as_they_are_written() {
        for (text, bytes) in [("2GiB", 2 << 30), ("512MiB", 512 << 20), ("1B", 1), ("0B", 0), ("1025KiB", 1025 << 10)] {
            let size: Size = text.parse().expect(text);
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("1024MiB".parse::<Size>().expect("1024MiB").to_string(), "1GiB");
        for bad in ["", "2", "2GB", "2G", "2 GiB", "-2GiB", "1.5GiB", "GiB", "2gib", "16777216TiB", "8388608TiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
