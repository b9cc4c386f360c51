//! The files behind `--quote` and `--collateral`.

use std::path::Path;

use anyhow::{Context, anyhow};
use attest::{Collateral, FileKind, Quote, limits};

use super::read_bounded;

/// The bytes of a quote, in any form that `attest` reads.
pub(crate) fn read_quote(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = read_bounded(path, limits::QUOTE_FILE_BYTES_MAX)?;
    attest::quote_in_file(&file).map_err(|error| anyhow!("{} {error}", path.display()))
}

/// The quote in a file.
pub(crate) fn parse_quote(path: &Path) -> anyhow::Result<Quote> {
    Quote::parse(&read_quote(path)?)
        .with_context(|| format!("{} is not a TDX quote", path.display()))
}

/// Collateral as it lies, and read. A file that is recognisably something else is refused by name.
pub(crate) fn read_collateral(path: &Path) -> anyhow::Result<(Vec<u8>, Collateral)> {
    let file = read_bounded(path, limits::COLLATERAL_BYTES_MAX)?;
    match (
        Collateral::from_json(&file),
        FileKind::of(&attest::bytes_of_text(&file)),
    ) {
        (Ok(collateral), _) => Ok((file, collateral)),
        (Err(error), Some(FileKind::Collateral | FileKind::Json) | None) => {
            Err(error).with_context(|| format!("reading {}", path.display()))
        }
        (Err(_), Some(other)) => Err(anyhow!(
            "{} is not collateral: it is {other}; wanted is one JSON object with all that Intel signs about a platform, which \
             `host-proxy collateral fetch` writes",
            path.display()
        )),
    }
}
