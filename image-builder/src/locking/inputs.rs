//! Inputs beside Debian's packages: what a recipe names becomes a digest.
//!
//! PyPI signs no index: whoever makes a lock believes the index's answer about a wheel's digest, over TLS, and whoever reviews
//! the lock should compare it with another source's. A URL has its digest in the recipe. What lies beside the recipe is read.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::Order;
use crate::error::{Error, error};
use crate::limits::PYPI_PAGE_BYTES_MAX;
use crate::lock::base_url;
use crate::lock::package_lock::{InputKind, LockedInput};
use crate::lock::recipe::{Input, Source, is_wheel_of, normalised};
use crate::store::Progress;
use crate::store::download::{Agent, get_as};
use crate::store::inputs::local as directory;
use registers::Digest32;

/// All inputs of the recipe, by name.
pub(super) fn lock(
    order: Order<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<LockedInput>, Error> {
    let mut locked = Vec::new();
    for input in &order.recipe.inputs {
        if let Source::Deb { .. } = input.source {
            continue;
        }
        let before = order.kept(&input.name);
        let before = before.and_then(|lock| lock.input(&input.name));
        locked.push(match before {
            Some(before) if before.answers(input) => before.clone(),
            _ => resolve(order, input, progress)?,
        });
    }
    locked.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(locked)
}

fn resolve(
    order: Order<'_>,
    input: &Input,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<LockedInput, Error> {
    let name = input.name.clone();
    match &input.source {
        Source::Pypi {
            project,
            version,
            file,
        } => {
            let (bytes, sha256, seen) =
                wheel(order, input, (project, version), file.as_deref(), progress)?;
            Ok(LockedInput {
                kind: InputKind::Pypi,
                name,
                version: Some(version.clone()),
                bytes,
                sha256,
                seen,
            })
        }
        Source::Url { url, bytes, sha256 } => Ok(LockedInput {
            kind: InputKind::Url,
            name,
            version: None,
            bytes: *bytes,
            sha256: *sha256,
            seen: url.clone(),
        }),
        Source::Path { path } => {
            let found = directory::copy(&input.name, &order.directory.join(path), None)?;
            Ok(LockedInput {
                kind: InputKind::Path,
                name,
                version: None,
                bytes: found.bytes,
                sha256: found.sha256,
                seen: path.clone(),
            })
        }
        Source::Deb { .. } => Err(wrong(input, "is a Debian package".into())),
    }
}

/// A project's page of the simple index ("Simple repository API" of the packaging specifications, JSON form).
#[derive(Deserialize)]
struct Page {
    files: Vec<Wheel>,
}

#[derive(Deserialize)]
struct Wheel {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    size: Option<u64>,
    /// `false`, `true`, or a reason.
    #[serde(default)]
    yanked: serde_json::Value,
}

impl Wheel {
    fn sha256(&self) -> Option<Digest32> {
        self.hashes.get("sha256").and_then(|text| text.parse().ok())
    }

    fn is_yanked(&self) -> bool {
        !matches!(
            self.yanked,
            serde_json::Value::Null | serde_json::Value::Bool(false)
        )
    }

    /// Whether this guest can use it: for this processor and glibc, or for any.
    fn runs_here(&self) -> bool {
        let platform = self.filename.strip_suffix(".whl").unwrap_or_default();
        let platform = platform.rsplit('-').next().unwrap_or_default();
        platform.split('.').any(|tag| {
            tag == "any"
                || (tag.starts_with("manylinux") || tag.starts_with("linux"))
                    && tag.ends_with("x86_64")
        })
    }
}

/// Size, digest and URL of the one wheel that is meant.
fn wheel(
    order: Order<'_>,
    input: &Input,
    (project, version): (&str, &str),
    file: Option<&str>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(u64, Digest32, String), Error> {
    let wrong = |problem: String| wrong(input, problem);
    let base = order.pypi_url.trim_end_matches('/');
    let url = format!("{base}/simple/{}/", normalised(project));
    let what = format!("{}: asking {url}", input.name);
    progress(Progress::Working {
        what: &what,
        total: 0,
    });
    let text = get_as(&Agent::new(), &url, Some(SIMPLE_JSON), PYPI_PAGE_BYTES_MAX)?;
    let page: Page = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("cannot be found: {url} does not parse: {error}")))?;
    let of_version = |wheel: &Wheel| {
        let named = file.is_none_or(|file| file == wheel.filename);
        named && is_wheel_of(&wheel.filename, project, version)
    };
    let mut found: Vec<_> = page.files.into_iter().filter(of_version).collect();
    if file.is_none() {
        found.retain(Wheel::runs_here);
    }
    let names: Vec<_> = found.iter().map(|wheel| wheel.filename.as_str()).collect();
    let names = names.join(", ");
    let wheel = match (found.len(), found.pop()) {
        (1, Some(wheel)) => wheel,
        (0, _) => return Err(wrong(format!("has no wheel of {version} that runs here"))),
        (several, _) => {
            return Err(wrong(format!(
                "has {several} wheels of {version} that run here; name one as its file: {names}"
            )));
        }
    };
    if wheel.is_yanked() {
        return Err(wrong(format!("was withdrawn by its authors: {names}")));
    }
    let named = format!("/{}", wheel.filename);
    let plain = base_url(&wheel.url).is_some_and(|url| url.ends_with(&named));
    match (wheel.size, wheel.sha256()) {
        (Some(bytes), Some(sha256)) if plain => Ok((bytes, sha256, wheel.url)),
        _ => Err(wrong(format!("has no size, SHA-256 or plain URL at {url}"))),
    }
}

fn wrong(input: &Input, problem: String) -> Error {
    error!(Recipe, "the input {} {problem}", input.name)
}

const SIMPLE_JSON: &str = "application/vnd.pypi.simple.v1+json";
