//! `model.json`: what a volume holds, and what a guest has to be told to believe it.
//!
//! A claim, as a manifest is one: [`super::verify_volume`] holds it against the volume, and whoever decides which model to trust
//! compares its root hash with one from elsewhere.

use ::model::volume::Description;

use crate::error::{Error, Fault, error};
use crate::formats::verity;
use crate::limits::{
    MODEL_BYTES_MAX, MODEL_DEPTH_MAX, MODEL_ENTRIES_MAX, MODEL_ID_BYTES_MAX, PATH_BYTES_MAX,
};
use crate::lock::is_plain_name;

/// Reads and checks a description: it has to be complete, and written as this program writes it.
pub fn parse_description(text: &[u8]) -> Result<Description, Error> {
    let wrong = |problem| error!(Volume, "the description of the volume {problem}");
    let description = Description::parse(text).map_err(Error::of(Fault::Volume, ""))?;
    check(&description).map_err(wrong)?;
    match description.to_json() == text {
        true => Ok(description),
        false => Err(wrong("is not written as this program writes it")),
    }
}

fn check(description: &Description) -> Result<(), &'static str> {
    if !is_id(&description.id) {
        return Err("has a name that cannot be a model's");
    }
    if description.tool.is_none() {
        return Err("does not name the tool that made the file system");
    }
    let data_blocks = description.volume.data_blocks;
    let blocks = verity::blocks(data_blocks);
    let whole = blocks.and_then(|blocks| blocks.checked_mul(verity::BLOCK_BYTES));
    if whole != Some(description.bytes) {
        return Err("has a length that is not that of its blocks and their tree");
    }
    if description.files.is_empty() || description.files.len() as u64 > MODEL_ENTRIES_MAX {
        return Err("has no files, or too many");
    }
    let mut last = Vec::new();
    let mut bytes: u64 = 0;
    for file in &description.files {
        let parts: Vec<&str> = file.path.split('/').collect();
        let plain = parts.iter().all(|part| is_plain_name(part));
        if !plain || file.path.len() > PATH_BYTES_MAX || parts.len() > MODEL_DEPTH_MAX + 1 {
            return Err("has a path that no file of a volume has");
        }
        // Sorted and nothing twice; a directory cannot be a file as well, or the listing of the volume would differ.
        if last >= parts {
            return Err("has files out of their order");
        }
        last = parts;
        bytes = bytes.saturating_add(file.bytes);
    }
    if bytes > MODEL_BYTES_MAX || bytes > data_blocks.saturating_mul(verity::BLOCK_BYTES) {
        return Err("has more bytes of files than its volume has room for");
    }
    Ok(())
}

/// Whether a model may be called so.
pub(super) fn is_id(id: &str) -> bool {
    id.len() <= MODEL_ID_BYTES_MAX && is_plain_name(id)
}
