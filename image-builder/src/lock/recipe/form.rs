//! The forms that values of a recipe have, in words and as tests.

use predict::Edk2Release;

use crate::error::{Error, cut, error};
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

pub(super) fn one(key: &str, value: &str, (form, holds): Form) -> Result<(), Error> {
    match holds(value) {
        true => Ok(()),
        false => Err(bad(key, value, form)),
    }
}

pub(super) fn many(key: &str, values: &[String], min: usize, form: Form) -> Result<(), Error> {
    unique(key, min, values.iter().map(String::as_str))?;
    values.iter().try_for_each(|value| one(key, value, form))
}

/// Counts names, and refuses one that is there before.
pub(super) fn unique<'a>(
    key: &str,
    min: usize,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    let names: Vec<_> = names.collect();
    let (got, max) = (names.len(), RECIPE_LIST_MAX);
    if !(min..=max).contains(&got) {
        return Err(error!(
            Recipe,
            "the recipe's {key} has {got} entries; it may have from {min} to {max}"
        ));
    }
    match (1..got).find(|at| names[..*at].contains(&names[*at])) {
        Some(at) => Err(error!(
            Recipe,
            "the recipe's {key} has `{}` twice",
            cut(names[at])
        )),
        None => Ok(()),
    }
}

pub(super) fn bad(key: &str, got: &str, form: &str) -> Error {
    let got = cut(got);
    error!(Recipe, "the recipe's {key} is `{got}`, which is not {form}")
}
