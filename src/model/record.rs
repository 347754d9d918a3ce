//! The line that the accepted log holds for a spec, byte for byte as upstream writes it.

use super::{Dir, ParseError, Spec, Sum, Target, Variant, canonical_decimal, quote};

/// The longest record that is accepted: a spec, two numbers, and what stands between.
pub const MAX_RECORD_BYTES: usize = super::MAX_SPEC_BYTES + 128;

/// No file is larger; it is what file systems and the store count with.
pub(super) const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// A sum that every voter agreed on: what came out of a spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What was built.
    pub spec: Spec,
    /// The size of the uncompressed binary in bytes.
    pub size: u64,
    /// The sum of the uncompressed binary.
    pub sum: Sum,
}

impl Record {
    /// The nine fields and a newline. The last field is empty for plain binaries, so that their line ends
    /// with a space: it belongs to what is hashed.
    pub fn to_text(&self) -> String {
        let Spec { module, version, dir, target, goversion, variant } = &self.spec;
        let (goos, goarch) = (target.goos(), target.goarch());
        let Record { size, sum, .. } = self;
        format!("{module} {version} {dir} {goos} {goarch} {goversion} {size} {sum} {variant}\n")
    }

    /// Reads a record, the newline at its end included. Eight fields are taken too, as old upstream logs
    /// may hold: `to_text` gives nine again, so hash what was received and not what it gives.
    pub fn parse(text: &[u8]) -> Result<Record, ParseError> {
        if text.len() > MAX_RECORD_BYTES {
            let bytes = text.len();
            return Err(ParseError::new(format!("a record of {bytes} bytes is longer than {MAX_RECORD_BYTES}")));
        }
        let text = str::from_utf8(text).map_err(|_| ParseError::new("the record is not UTF-8"))?;
        parse(text).map_err(|error| error.within(&format!("{} is not a record", quote(text))))
    }
}

fn parse(text: &str) -> Result<Record, ParseError> {
    let line = text.strip_suffix('\n').ok_or_else(|| ParseError::new("no newline at its end"))?;
    if let Some(bad) = line.chars().find(|&c| c < ' ') {
        return Err(ParseError::new(format!("it holds the control character {bad:?}")));
    }
    let fields: Vec<&str> = line.splitn(10, ' ').collect();
    let (fields, variant): ([&str; 8], Variant) = match fields.as_slice() {
        [fields @ .., variant] if fields.len() == 8 => (as_eight(fields)?, variant.parse()?),
        fields => (as_eight(fields)?, Variant::Plain),
    };
    let [module, version, dir, goos, goarch, goversion, size, sum] = fields;
    let size = canonical_decimal(size)
        .filter(|size| (1..=MAX_FILE_SIZE).contains(size))
        .ok_or_else(|| ParseError::new(format!("{} is not a file size", quote(size))))?;
    let dir: Dir = dir.parse()?;
    let target = Target::new(goos, goarch)?;
    let spec = Spec::new(module.parse()?, version.parse()?, dir, target, goversion.parse()?, variant)?;
    Ok(Record { spec, size, sum: sum.parse()? })
}

fn as_eight<'a>(fields: &[&'a str]) -> Result<[&'a str; 8], ParseError> {
    fields.try_into().map_err(|_| {
        let count = fields.len();
        ParseError::new(format!("it has {count} fields and not 8 or 9"))
    })
}
