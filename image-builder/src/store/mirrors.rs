//! One file from the first of several places that has it.
//!
//! Trusts none of them: size and digest decide, and a place that serves something else is named and passed over. What one place
//! sent before its connection broke is kept, and the next place is asked for the rest.

use std::path::PathBuf;

use super::download::{Agent, Wanted};
use super::fetch::ensure_wanted;
use super::{FetchError, MirrorFault, Progress, Store};
use registers::Digest32;

/// Makes the file be in `store`, which the caller has claimed. On failure: what each place did, in the order in which they were
/// asked; or what the disk did, alone.
pub(crate) fn ensure_from(
    store: &Store,
    agent: &Agent,
    urls: &[String],
    (bytes, sha256): (u64, Digest32),
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, Vec<FetchError>> {
    let mut tried = Vec::new();
    for (at, url) in urls.iter().enumerate() {
        match ensure_wanted(store, agent, Wanted { url, bytes, sha256 }, progress) {
            Ok(path) => return Ok(path),
            Err(error @ (FetchError::Mirror { .. } | FetchError::Network { .. })) => {
                if at + 1 < urls.len() {
                    let reason = error.to_string();
                    progress(Progress::Refused { reason: &reason });
                }
                tried.push(error);
            }
            Err(error) => return Err(vec![error]),
        }
    }
    Err(tried)
}

/// Whether a place says that it does not have what was asked for.
pub(crate) fn is_gone(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Mirror {
            fault: MirrorFault::Status(404 | 410),
            ..
        }
    )
}

/// What several places did, in one sentence.
pub(crate) fn sentence(tried: &[FetchError]) -> String {
    let tried: Vec<_> = tried.iter().map(FetchError::to_string).collect();
    tried.join("; ")
}
