//! What of an earlier lock stays.

use super::{Order, Update};
use crate::error::{Error, error};
use crate::lock::debian::{Available, Index, Preferred};
use crate::lock::package_lock::Package;

/// Versions that the lock has and the archive still offers, for what is not to be updated. What the archive no longer has must
/// follow: nobody could say what it depends on.
pub(super) fn preferred<'a>(order: Order<'_>, index: &'a Index) -> Preferred<'a> {
    let packages = order.before.map_or(&[][..], |lock| lock.packages());
    let staying = packages
        .iter()
        .filter(|package| order.kept(&package.name).is_some());
    let found = staying.filter_map(|package| find(index, package));
    found
        .map(|available| (available.name.as_str(), available))
        .collect()
}

/// The package of the lock as the archive has it.
pub(super) fn find<'a>(index: &'a Index, package: &Package) -> Option<&'a Available> {
    let mut versions = index.versions(&package.name).iter();
    versions
        .find(|available| available.sha256 == package.sha256 && *available.suite == *package.suite)
}

/// A name that is nowhere is a slip of the pen, and an update of nothing.
pub(super) fn refuse_unknown(order: Order<'_>) -> Result<(), Error> {
    let Update::Only(name) = order.update else {
        return Ok(());
    };
    let locked = order
        .before
        .is_some_and(|lock| lock.package(name).is_some() || lock.input(name).is_some());
    let recipe = order.recipe;
    let asked = recipe.kernel.package.name == name || recipe.input(name).is_some();
    match locked || asked {
        true => Ok(()),
        false => Err(error!(Recipe, "there is no {name} in the lock to update")),
    }
}
