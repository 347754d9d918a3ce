//! What kind of difference it is, by a fixed order of questions, and what to do about each kind.
//!
//! The first question that is answered with yes decides:
//!
//! 1. Does build information differ in more than `-trimpath`? → `build-info`
//! 2. Is all that is loaded the same but for the build id? → `build-id-only`
//! 3. Is one file longer, and all that is loaded the same, or the shorter one its beginning? → `size`; so too if one
//!    lacks parts for debuggers, code is the same, and data has kept its sizes: PE files move what follows such parts
//! 4. Do the same source files have other folders? → `paths`
//! 5. Does build information differ at all? → `build-info`
//! 6. Does code differ? → `code`
//! 7. Else → `data`
//!
//! Build information comes first because other inputs explain every other difference. It comes from the programs
//! themselves, so a class is where to look first, and no excuse for anybody.

use serde::{Deserialize, Serialize};

use super::parts::Difference;
use super::paths::Found;
use super::{Binary, Part};
use crate::evidence::buildinfo::BuildInfo;
use crate::evidence::image::Role;

/// What kind of difference there is between two executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// One has more: symbols, debug information, or bytes at its end. What is loaded is the same.
    Size,
    /// They say that they were made of other inputs or in another way.
    BuildInfo,
    /// Nothing but the name of the build.
    BuildIdOnly,
    /// Names of folders on the machine that built it.
    Paths,
    /// What runs.
    Code,
    /// What is loaded with it.
    Data,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 6] =
        [Class::Size, Class::BuildInfo, Class::BuildIdOnly, Class::Paths, Class::Code, Class::Data];

    /// Its name in evidence and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Size => "size",
            Class::BuildInfo => "build-info",
            Class::BuildIdOnly => "build-id-only",
            Class::Paths => "paths",
            Class::Code => "code",
            Class::Data => "data",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Class::Size => {
                "The instructions that run are the same. One file has symbols or debug information that the other lacks, or it \
                 was cut, or something was added to its end."
            }
            Class::BuildInfo => {
                "The two programs say themselves that they were made of other inputs or with other settings, named below. \
                 Their other differences may follow from that."
            }
            Class::BuildIdOnly => "Nothing that is loaded differs but the name that the linker gave the build.",
            Class::Paths => {
                "The same source files, but under names of folders of the machine that built one of the programs."
            }
            Class::Code => {
                "Both say that they were made of the same inputs in the same way, and yet other instructions run. A \
                 broken machine does this, a Go release that does not build the same everywhere, and somebody who \
                 changed the compiler or the source."
            }
            Class::Data => {
                "Both say that they were made of the same inputs in the same way, and run the same instructions, but on \
                 other constants, tables or texts."
            }
        }
    }

    /// What an operator does about it.
    pub fn advice(self) -> &'static str {
        match self {
            Class::Size => {
                "See which part only one file has. If it is symbols, one side has built the stripped program or the other \
                 one: compare the build logs. If it is the end of the file, find what changed it after the build."
            }
            Class::BuildInfo => {
                "Compare where both sides have the named input from: Go release, module proxy, checksum database. A \
                 module of one version with two hashes is the gravest case: somebody was given other source. Do not \
                 settle it before you know who."
            }
            Class::BuildIdOnly => {
                "One side did not build with -ldflags=-buildid= alone. Its operator should compare the command in the \
                 build log with the one on the page of the program."
            }
            Class::Paths => {
                "One side did not build with -trimpath, or keeps Go where -trimpath does not remove it. Its operator \
                 should compare the command in the build log with the one on the page of the program."
            }
            Class::Code => {
                "Run neither. Build it on a third machine and see whom it agrees with; then look at the first functions \
                 below in both files (go tool objdump -s NAME FILE). A few bytes at odd places are memory or a disk that \
                 fails; a function that is longer, or that only one file has, is a change that somebody made."
            }
            Class::Data => {
                "Run neither. Build it on a third machine and see whom it agrees with; then look at the first variables \
                 below, and at both files from the first differing byte on (cmp -l FILE FILE)."
            }
        }
    }
}

/// Answers the questions. `whole` is how the files differ as they are.
pub(super) fn decide(binaries: &[Binary; 2], whole: &Difference, sections: &[Part], paths: Option<&Found>) -> Class {
    let differs = |role: Role| {
        let uneven = |part: &Part| part.first_difference.is_some() || part.sizes[0] != part.sizes[1];
        sections.iter().any(|part| part.role == role.as_str() && uneven(part))
    };
    let loaded = differs(Role::Code) || differs(Role::Data);
    let longer = binaries[0].size != binaries[1].size;
    let stripped = || {
        let lacks = |part: &Part| part.role == Role::Debug.as_str() && part.sizes.contains(&None);
        let kept = |part: &Part| part.role != Role::Data.as_str() || part.sizes[0] == part.sizes[1];
        !differs(Role::Code) && sections.iter().any(lacks) && sections.iter().all(kept)
    };
    let inputs = inputs(binaries);
    if inputs == Inputs::Differ {
        Class::BuildInfo
    } else if !loaded && differs(Role::BuildId) {
        Class::BuildIdOnly
    } else if longer && (!loaded || whole.bytes == 0 || stripped()) {
        Class::Size
    } else if paths.is_some_and(|found| found.same_files) {
        Class::Paths
    } else if inputs == Inputs::Trimmed {
        Class::BuildInfo
    } else if differs(Role::Code) {
        Class::Code
    } else {
        Class::Data
    }
}

/// How build information differs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inputs {
    Same,
    /// In whether names of folders were to be removed, and in what is only written down if they were not.
    Trimmed,
    Differ,
}

fn inputs(binaries: &[Binary; 2]) -> Inputs {
    let [Some(one), Some(other)] = [&binaries[0].build_info, &binaries[1].build_info] else {
        return Inputs::Same;
    };
    if one == other {
        return Inputs::Same;
    }
    if one.setting("-trimpath") == other.setting("-trimpath") {
        return Inputs::Differ;
    }
    let rest = |info: &BuildInfo| {
        let mut info = info.clone();
        let goes =
            |key: &str| matches!(key, "-trimpath" | "-ldflags") || (key.starts_with("CGO_") && key.ends_with("FLAGS"));
        info.settings.retain(|(key, _)| !goes(key));
        info
    };
    if rest(one) == rest(other) { Inputs::Trimmed } else { Inputs::Differ }
}
