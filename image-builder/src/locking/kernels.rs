//! Which packages are a kernel.

use std::collections::BTreeMap;

use super::Order;
use super::kept::find;
use crate::error::{Error, error};
use crate::lock::debian::{Available, Index, Preferred, chosen};
use crate::lock::package_lock::is_kernel_for;
use crate::lock::recipe::Choice;

/// The package itself, unless it is a metapackage: then the one kernel image that it depends on. And what of that kernel lies
/// in packages of its own: from 7.2 on Debian's image package is empty, and `linux-binary-…` and `linux-modules-…` have the files.
pub(super) fn kernel<'a>(
    order: Order<'_>,
    index: &'a Index,
    kept: &Preferred<'a>,
) -> Result<(&'a Available, Vec<&'a Available>), Error> {
    let choice = &order.recipe.kernel.package;
    let image = match stays(order, index) {
        Some(image) => image,
        None => newest(index, choice, kept)?,
    };
    let release = image.name.strip_prefix("linux-image-").unwrap_or_default();
    let parts = needed_of(index, image, |needed| {
        KERNEL_PARTS
            .iter()
            .any(|part| needed.strip_prefix(part) == Some(release))
    })?;
    Ok((image, parts))
}

/// The kernel of the lock that is there, if it is to stay and can: a metapackage stands for another one each week, and its name
/// is what people know.
fn stays<'a>(order: Order<'_>, index: &'a Index) -> Option<&'a Available> {
    let choice = &order.recipe.kernel.package;
    let before = order.kept(&choice.name)?.kernel();
    order.kept(&before.name)?;
    let asked = is_kernel_for(&before.name, &choice.name);
    let suite = choice.suite.as_ref();
    let good = asked && suite.is_none_or(|suite| *suite == before.suite);
    find(index, before).filter(|_| good)
}

fn newest<'a>(
    index: &'a Index,
    choice: &Choice,
    kept: &Preferred<'a>,
) -> Result<&'a Available, Error> {
    let name = choice.name.as_str();
    let package = chosen(index, choice, kept)?;
    let mut images = needed_of(index, package, |needed| {
        needed != name && is_kernel_for(needed, name)
    })?;
    let itself = name
        .trim_start_matches("linux-image-")
        .starts_with(|c: char| c.is_ascii_digit());
    match (images.len(), images.pop()) {
        (0, _) if itself => Ok(package),
        (1, Some(image)) => Ok(image),
        (found, _) => Err(error!(
            Recipe,
            "{choice} leads to {found} kernels in the archive; a recipe needs one"
        )),
    }
}

/// What `package` depends on and `which` picks by name, from the same suite, by name.
fn needed_of<'a>(
    index: &'a Index,
    package: &Available,
    which: impl Fn(&str) -> bool,
) -> Result<Vec<&'a Available>, Error> {
    let groups = package.needs()?;
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
