//! The suites of a recipe, as a mirror has them now.

use std::path::{Path, PathBuf};

use super::Order;
use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::{CERTIFICATE_BYTES_MAX, INDEX_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::lock::debian::{Certificate, Index, Release, ReleaseError};
use crate::lock::package_lock::LockedSuite;
use crate::lock::recipe::Suite;
use crate::store::download::{Agent, get};
use crate::store::mirrors::ensure_from;
use crate::store::{FetchError, Progress};

/// What all suites have, and what stands in their releases.
pub(super) fn fetch(
    order: Order<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Vec<LockedSuite>, Index), Error> {
    let agent = Agent::new();
    let _claim = order.store.claim()?;
    let (mut suites, mut index) = (Vec::new(), Index::default());
    for suite in &order.recipe.debian.suites {
        suites.push(from_some_mirror(
            order, &agent, suite, &mut index, progress,
        )?);
    }
    Ok((suites, index))
}

/// The first mirror that shows the suite as it should be. Others are named and passed over.
fn from_some_mirror(
    order: Order<'_>,
    agent: &Agent,
    suite: &Suite,
    index: &mut Index,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<LockedSuite, Error> {
    let keys = keys(order.directory, suite)?;
    let mut tried = Vec::new();
    for mirror in order.mirrors() {
        let dists = format!("{mirror}/dists/{}", suite.name);
        match open(order, agent, suite, &keys, &dists, progress) {
            Ok((release, indexes)) => {
                let before = index.odd().len();
                index.begin_suite(&suite.name);
                for (file, bytes) in indexes {
                    let what = "reading the index";
                    progress(Progress::Working { what, total: bytes });
                    index.add_xz(files::open(&file)?)?;
                }
                let odd = index.odd().get(before..).unwrap_or_default();
                if let Some(first) = odd.first() {
                    let what = &format!("{} odd paragraphs were passed over; {first}", odd.len());
                    progress(Progress::Working { what, total: 0 });
                }
                return Ok(LockedSuite {
                    name: suite.name.clone(),
                    release_sha256: release.sha256,
                    release_date: release.date,
                });
            }
            Err(error) if matches!(error.fault(), Fault::Mirror | Fault::Network) => {
                if order.mirrors().last() != Some(&mirror) {
                    let reason = error.to_string();
                    progress(Progress::Refused { reason: &reason });
                }
                tried.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    match tried.len() {
        1 => Err(tried.remove(0)),
        _ => {
            let fault = tried.first().map_or(Fault::Mirror, Error::fault);
            let what: Vec<_> = tried.iter().map(Error::to_string).collect();
            let (suite, what) = (&suite.name, what.join("; "));
            let sentence = format!("no mirror shows {suite} as it should be: {what}");
            Err(Error::new(fault, sentence))
        }
    }
}

/// A suite's release, verified, and the files of its indexes with their sizes.
fn open(
    order: Order<'_>,
    agent: &Agent,
    suite: &Suite,
    keys: &[Certificate],
    dists: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Release, Vec<(PathBuf, u64)>), Error> {
    let url = format!("{dists}/InRelease");
    let bytes = get(agent, &url, RELEASE_BYTES_MAX)?;
    let wrong = |error: ReleaseError| error!(Mirror, "{url} {error}");
    let release = Release::read(&bytes, keys, order.now).map_err(wrong)?;
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
    let mut indexes = Vec::new();
    for component in &suite.components {
        let path = format!("{component}/binary-amd64/Packages.xz");
        let listed = release.index(&path);
        let listed = listed.ok_or_else(|| malformed(format!("does not list {path}")))?;
        if !(1..=INDEX_BYTES_MAX).contains(&listed.bytes) {
            return Err(malformed(format!("gives {path} {} bytes", listed.bytes)));
        }
        let urls = release.places(&path, listed).into_iter();
        let urls: Vec<String> = urls.map(|place| format!("{dists}/{place}")).collect();
        let what = (listed.bytes, listed.sha256);
        let file = ensure_from(order.store, agent, &urls, what, progress);
        // Of several places the last one is the index's name, which people know.
        let file =
            file.map_err(|mut tried: Vec<FetchError>| tried.pop().expect("a place was tried"))?;
        indexes.push((file, listed.bytes));
    }
    Ok((release, indexes))
}

/// The certificates that may sign a suite, each the one that the recipe pins.
fn keys(directory: &Path, suite: &Suite) -> Result<Vec<Certificate>, Error> {
    let read = |key: &crate::lock::recipe::Key| {
        let text = files::read_text(&directory.join(&key.file), CERTIFICATE_BYTES_MAX as u64)?;
        Certificate::parse(&text, key.fingerprint)
            .map_err(|error| error!(Recipe, "the key {} {error}", key.file))
    };
    suite.keys.iter().map(read).collect()
}
