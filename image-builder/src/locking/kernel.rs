//! Which packages are a kernel.

use std::collections::BTreeMap;

use super::LockingError;
use crate::debian::{Available, Index, Unsolved, chosen};
use crate::package_lock::is_kernel_for;
use crate::recipe::Choice;

/// The package itself, unless it is a metapackage: then the one kernel image that it depends on. And what of that kernel lies
/// in packages of its own: from 7.2 on Debian's image package is empty, and `linux-binary-…` and `linux-modules-…` have the files.
pub(super) fn kernel<'a>(
    index: &'a Index,
    choice: &Choice,
) -> Result<(&'a Available, Vec<&'a Available>), LockingError> {
    let name = choice.name.as_str();
    let package = chosen(index, choice)?;
    let mut images = needed_of(index, package, |needed| {
        needed != name && is_kernel_for(needed, name)
    })?;
    let itself = name
        .trim_start_matches("linux-image-")
        .starts_with(|c: char| c.is_ascii_digit());
    let image = match (images.len(), images.pop()) {
        (0, _) if itself => package,
        (1, Some(image)) => image,
        (found, _) => {
            return Err(LockingError::Kernel {
                package: choice.to_string(),
                found,
            });
        }
    };
    let release = image.name.strip_prefix("linux-image-").unwrap_or_default();
    let parts = needed_of(index, image, |needed| {
        KERNEL_PARTS
            .iter()
            .any(|part| needed.strip_prefix(part) == Some(release))
    })?;
    Ok((image, parts))
}

/// What `package` depends on and `which` picks by name, from the same suite, by name.
fn needed_of<'a>(
    index: &'a Index,
    package: &Available,
    which: impl Fn(&str) -> bool,
) -> Result<Vec<&'a Available>, Unsolved> {
    let malformed = || Unsolved::Malformed {
        package: package.name.clone(),
    };
    let groups = package.needs().ok_or_else(malformed)?;
    let mut found = BTreeMap::new();
    for relation in groups.iter().flatten().filter(|of| which(&of.name)) {
        let versions = index.versions(&relation.name).iter().rev();
        let mut allowed = versions
            .filter(|needed| needed.suite == package.suite && relation.allows(&needed.version));
        if let Some(needed) = allowed.next() {
            found.insert(&needed.name, needed);
        }
    }
    Ok(found.into_values().collect())
}

/// How the names of packages begin that hold parts of a kernel whose image package is empty.
const KERNEL_PARTS: [&str; 3] = ["linux-base-", "linux-binary-", "linux-modules-"];
