//! The forms that values of a recipe have, in words and as tests.

use super::RecipeError;
use predict::Edk2Release;

use crate::limits::{PATH_BYTES_MAX, RECIPE_LIST_MAX};
use crate::lock::{base_url, is_plain_name};

/// The form of a value.
pub(super) type Form = (&'static str, fn(&str) -> bool);

pub(super) const NAME: Form = (
    "a plain name of letters, digits, `.`, `-` and `_`",
    is_plain_name,
);
pub(super) const PACKAGE: Form = (
    "the name of a Debian package",
    crate::lock::debian::is_package_name,
);
pub(super) const URL: Form = ("an http or https URL", |text| base_url(text).is_some());
pub(super) const FILE: Form = ("a plain relative path", is_plain_path);
/// The one release whose registers are predicted for every host.
pub(super) const EDK2: Form = (
    "the release 202502, also written 2025.02 or edk2-stable202502",
    |text| text.parse() == Ok(Edk2Release::STABLE202502),
);
pub(super) const VERSION: Form = ("a version like 1.2.3", |text| {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| (1..=9).contains(&part.len()) && digits(part);
    text.split('.').count() == 3 && text.split('.').all(number)
});
pub(super) const WORD: Form = ("one printable ASCII word without quotes", |text| {
    // A quote would let the kernel join words that we count as two.
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
});

/// Whether `text` is a path of plain names: relative, and nothing in it climbs.
pub(crate) fn is_plain_path(text: &str) -> bool {
    text.len() <= PATH_BYTES_MAX && text.split('/').all(is_plain_name)
}

pub(super) fn one(key: &'static str, value: &str, (form, holds): Form) -> Result<(), RecipeError> {
    if holds(value) {
        Ok(())
    } else {
        Err(bad(key, value, form))
    }
}

pub(super) fn many(
    key: &'static str,
    values: &[String],
    min: usize,
    form: Form,
) -> Result<(), RecipeError> {
    unique(key, min, values.iter().map(String::as_str))?;
    values.iter().try_for_each(|value| one(key, value, form))
}

/// Counts names, and refuses one that is there before.
pub(super) fn unique<'a>(
    key: &'static str,
    min: usize,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), RecipeError> {
    let names: Vec<_> = names.collect();
    let (got, max) = (names.len(), RECIPE_LIST_MAX);
    if !(min..=max).contains(&got) {
        return Err(RecipeError::Count { key, got, min, max });
    }
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            return Err(RecipeError::Twice {
                key,
                name: cut(name),
            });
        }
    }
    Ok(())
}

pub(super) fn bad(key: &'static str, got: &str, form: &'static str) -> RecipeError {
    RecipeError::Value {
        key,
        got: cut(got),
        form,
    }
}

/// Enough of a value to recognise it.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
