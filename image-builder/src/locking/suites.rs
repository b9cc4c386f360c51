//! The suites of a recipe, as a mirror has them now.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{LockingError, Order};
use crate::debian::{Certificate, Index, KeyError, Release, ReleaseError};
use crate::download::{Agent, Wanted, get};
use crate::error::FetchError;
use crate::fetch::{Progress, ensure_wanted};
use crate::limits::{CERTIFICATE_BYTES_MAX, INDEX_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::package_lock::LockedSuite;
use crate::recipe::Suite;

/// What all suites have, and what stands in their releases.
pub(super) fn fetch(
    order: Order<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Vec<LockedSuite>, Index), LockingError> {
    let agent = Agent::new();
    let _claim = order.store.claim()?;
    let (mut suites, mut index) = (Vec::new(), Index::default());
    for suite in &order.recipe.debian.suites {
        index.begin_suite(&suite.name);
        suites.push(add(order, &agent, suite, &mut index, progress)?);
    }
    Ok((suites, index))
}

fn add(
    order: Order<'_>,
    agent: &Agent,
    suite: &Suite,
    index: &mut Index,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<LockedSuite, LockingError> {
    let dists = format!("{}/dists/{}", order.mirror(), suite.name);
    let url = format!("{dists}/InRelease");
    let keys = keys(order.folder, suite)?;
    let bytes = get(agent, &url, RELEASE_BYTES_MAX)?;
    let wrong = |error| LockingError::Release {
        url: url.clone(),
        error,
    };
    let release = Release::read(&bytes, &keys, order.now).map_err(wrong)?;
    release.refuse_other_suite(&suite.name).map_err(wrong)?;
    let before = order
        .before
        .and_then(|lock| lock.debian().suite(&suite.name));
    if let Some(before) = before
        && !order.allow_older
    {
        release.refuse_older(before.dated()).map_err(wrong)?;
    }
    progress(Progress::Signed {
        suite: &suite.name,
        by: release.signed_by,
        dated: release.dated,
        valid_until: release.valid_until(),
    });
    let malformed = |problem| wrong(ReleaseError::Malformed(problem));
    for component in &suite.components {
        let path = format!("{component}/binary-amd64/Packages.xz");
        let listed = release.index(&path);
        let listed = listed.ok_or_else(|| malformed(format!("does not list {path}")))?;
        if !(1..=INDEX_BYTES_MAX).contains(&listed.bytes) {
            return Err(malformed(format!("gives {path} {} bytes", listed.bytes)));
        }
        let url = format!("{dists}/{path}");
        let wanted = Wanted {
            url: &url,
            bytes: listed.bytes,
            sha256: listed.sha256,
        };
        let file = ensure_wanted(order.store, agent, wanted, progress)?;
        let what = "reading the index";
        progress(Progress::Working {
            what,
            total: listed.bytes,
        });
        let opened = File::open(&file).map_err(FetchError::disk("opening", &file))?;
        index.add_xz(BufReader::new(opened))?;
    }
    Ok(LockedSuite {
        name: suite.name.clone(),
        release_sha256: release.sha256,
        release_date: release.date,
    })
}

/// The certificates that may sign a suite, each the one that the recipe pins.
fn keys(folder: &Path, suite: &Suite) -> Result<Vec<Certificate>, LockingError> {
    let read = |key: &crate::recipe::Key| {
        let path = folder.join(&key.file);
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| {
                file.take(CERTIFICATE_BYTES_MAX as u64 + 1)
                    .read_to_string(&mut text)
            })
            .map_err(FetchError::disk("reading", &path))?;
        let certificate = Certificate::parse(&text, key.fingerprint);
        certificate.map_err(|error: KeyError| LockingError::Key {
            file: key.file.clone(),
            error,
        })
    };
    suite.keys.iter().map(read).collect()
}
