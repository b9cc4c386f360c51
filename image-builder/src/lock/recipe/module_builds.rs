//! Kernel modules that are compiled: out of which sources, with which changes, by which words.

use serde::Deserialize;

use super::form::{FILE, Form, NAME, bad, many, one, unique};
use super::{Recipe, Source};
use crate::error::Error;
use crate::limits::EDIT_BYTES_MAX;

/// Kernel modules from the sources of one package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Which of the inputs has the sources: a Debian package.
    pub input: String,
    /// The directory in it that has the `Makefile`.
    pub directory: String,
    /// Object files that come compiled with the sources: what they carry for debuggers is taken out before they are linked.
    #[serde(default)]
    pub objects: Vec<String>,
    /// Changes of the sources.
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// Words for `make`, beside its target, the kernel's release and the names.
    #[serde(default)]
    pub make: Vec<String>,
    /// What has to come out, by name.
    pub names: Vec<String>,
}

/// A change of one place in one file of the sources.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, below the directory.
    pub file: String,
    /// What is there, exactly once.
    pub from: String,
    /// What takes its place.
    pub to: String,
}

impl Modules {
    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), Error> {
        let source = recipe.input(&self.input).map(|input| &input.source);
        if !matches!(source, Some(Source::Deb { .. })) {
            let form = "a Debian package among its inputs";
            return Err(bad("modules.input", &self.input, form));
        }
        unique(
            "tools.modules",
            1,
            recipe.tools.modules.iter().map(|choice| &*choice.name),
        )?;
        one("modules.directory", &self.directory, FILE)?;
        many("modules.objects", &self.objects, 0, FILE)?;
        many("modules.make", &self.make, 0, WORD)?;
        many("modules.names", &self.names, 1, NAME)?;
        // Of several edits of one text the second would not find it any more.
        unique(
            "modules.edits",
            0,
            self.edits.iter().map(|edit| &*edit.from),
        )?;
        for edit in &self.edits {
            one("modules.edits' file", &edit.file, FILE)?;
            one("modules.edits' from", &edit.from, TEXT)?;
            if edit.to.len() > EDIT_BYTES_MAX {
                return Err(bad("modules.edits' to", &edit.to, TEXT.0));
            }
        }
        Ok(())
    }
}

const TEXT: Form = ("a text of at most 4 KiB that is not empty", |text| {
    (1..=EDIT_BYTES_MAX).contains(&text.len())
});
/// `make` gives values to a shell. What a shell would do something with is no word.
const WORD: Form = (
    "a setting NAME=VALUE of letters, digits, spaces and `_ . / + -`, with or without a value",
    |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" _./+-".contains(&b);
        text.split_once('=').is_some_and(|(name, value)| {
            let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            !name.is_empty() && name.bytes().all(letter) && value.bytes().all(plain)
        })
    },
);
