//! The kernel of an image with the modules that a recipe has compiled.

use std::path::Path;

use super::Step;
use super::ingredients::Order;
use crate::compile::kernel_modules::Kernel;
use crate::compile::out_of_tree;
use crate::compile::out_of_tree::Job;
use crate::error::{Error, error};
use crate::lock::package_lock::{Package, PackageLock, Role};
use crate::lock::recipe::{Modules, Source};
use crate::store::packages::ensure_tree;

/// The kernel in `tree`, and what the recipe's `modules` make of their sources.
pub(super) fn kernel(
    order: Order<'_>,
    tree: &Path,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Kernel, Error> {
    let mut kernel = Kernel::open(tree)?;
    let Some(wanted) = &order.recipe.modules else {
        return Ok(kernel);
    };
    let package = package(order, wanted)?;
    headers_of(order.lock, kernel.release())?;
    let mut tree = |what, packages: &[&Package]| {
        progress(Step::Tree(what));
        let mut fetch = |p: crate::store::Progress<'_>| progress(Step::Fetch(p));
        ensure_tree(order.store, order.lock, packages, &mut fetch)
    };
    let sources = tree("sources of kernel modules", &[package])?;
    let tools = order.lock.closure(Role::Modules);
    let tools = tree("tools that compile kernel modules", &tools)?;
    let job = Job {
        store: order.store,
        wanted,
        sources: &sources,
        tools: &tools,
        sandbox: order.sandbox(&tools),
        kernel: &kernel,
    };
    let compiled = out_of_tree::ensure(&job, &mut |step| progress(Step::Modules(step)))?;
    let from = format!("compiled from {} {}", package.name, package.version);
    for module in compiled {
        kernel = kernel.with(&module.name, module.path, from.clone())?;
    }
    Ok(kernel)
}

/// Whether the headers are of the very package that the kernel is from. Kernels of one release differ where Debian changed theirs, and
/// without `CONFIG_MODVERSIONS` no module shows it.
fn headers_of(lock: &PackageLock, release: &str) -> Result<(), Error> {
    let name = format!("linux-headers-{release}");
    let tools = lock.closure(Role::Modules);
    let headers = tools.iter().find(|package| package.name == name);
    let kernel = &lock.kernel().version;
    match headers.map(|headers| &headers.version) {
        // That they are missing is said where they are used.
        None => Ok(()),
        Some(version) if version == kernel => Ok(()),
        Some(version) => Err(error!(
            Recipe,
            "{name} is {version}, and the kernel {kernel}: lock both again, from one suite"
        )),
    }
}

/// The package with their sources.
fn package<'a>(order: Order<'a>, wanted: &Modules) -> Result<&'a Package, Error> {
    let input = order.recipe.input(&wanted.input);
    let name = match input.map(|input| &input.source) {
        Some(Source::Deb { package }) => &package.name,
        // The recipe was checked for this when it was read.
        _ => &wanted.input,
    };
    let found = order.lock.alone(name);
    found.ok_or_else(|| {
        error!(
            Recipe,
            "{name} in the sources of the modules is not in the lock"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_another_version_of_the_package_are_refused() {
        let text = include_str!("../../recipes/h100.lock.json");
        let lock = |text: &str| PackageLock::parse(text.as_bytes()).expect("a lock");
        let good = lock(text);
        let kernel = good.kernel();
        let release = kernel.name.strip_prefix("linux-image-").expect("a kernel");
        headers_of(&good, release).expect("of one version");
        let (before, headers) = text
            .split_once(&format!("\"name\": \"linux-headers-{release}\""))
            .expect("it has headers");
        let headers = headers.replacen(&kernel.version, "0-other", 1);
        let other = format!("{before}\"name\": \"linux-headers-{release}\"{headers}");
        let refused = headers_of(&lock(&other), release).expect_err("another version");
        assert!(refused.to_string().contains("is 0-other"), "{refused}");
    }
}
