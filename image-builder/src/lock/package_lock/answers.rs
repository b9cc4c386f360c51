//! Whether a lock answers what a recipe asks for.

use super::content::InputKind;
use super::{LockedInput, PackageLock, Role, is_kernel_for};
use crate::error::{Error, error};
use crate::lock::recipe::{Choice, Input, Recipe, Source, file_of, is_wheel_of};

impl PackageLock {
    /// Whether it answers what `recipe` asks for. It may be from an older archive; it may not be for other names.
    pub fn check(&self, recipe: &Recipe) -> Result<(), Error> {
        let content = &self.content;
        if content.recipe != recipe.profile {
            return other(format!("it is for `{}`", content.recipe));
        }
        let locked = content.debian.suites.iter().map(|suite| &*suite.name);
        let asked = recipe.debian.suites.iter().map(|suite| &*suite.name);
        if !locked.clone().eq(asked) {
            let locked: Vec<_> = locked.collect();
            return other(format!("it is of the suites `{}`", locked.join(", ")));
        }
        let Choice { name, suite } = &recipe.firmware.package;
        let firmware = self.firmware();
        if firmware.name != *name || suite.as_ref().is_some_and(|s| *s != firmware.suite) {
            let (name, suite) = (&firmware.name, &firmware.suite);
            return other(format!("its firmware is {name}/{suite}"));
        }
        let Choice { name, suite } = &recipe.kernel.package;
        let kernel = self.kernel();
        if !is_kernel_for(&kernel.name, name) || suite.as_ref().is_some_and(|s| *s != kernel.suite)
        {
            let (name, suite) = (&kernel.name, &kernel.suite);
            return other(format!("its kernel is {name}/{suite}"));
        }
        if content.vhost_device_vsock != recipe.vhost_device_vsock {
            return other("its vhost-device-vsock differs".into());
        }
        self.check_closures(recipe)?;
        self.check_inputs(recipe)
    }

    fn check_closures(&self, recipe: &Recipe) -> Result<(), Error> {
        let root = recipe.root.as_ref();
        let root = root.map_or(&[][..], |root| &root.packages);
        for (role, asked) in [
            (Role::Build, &recipe.tools.build[..]),
            (Role::Run, &recipe.tools.run),
            (Role::Root, root),
            (Role::Modules, &recipe.tools.modules),
        ] {
            let locked = self.closure(role);
            let has = |choice: &&Choice| {
                let named = locked.iter().find(|package| package.name == choice.name);
                let suite = choice.suite.as_ref();
                named.is_some_and(|package| suite.is_none_or(|suite| package.suite == *suite))
            };
            if let Some(choice) = asked.iter().find(|choice| !has(choice)) {
                return other(format!("it lacks {choice}"));
            }
            if asked.is_empty() && !locked.is_empty() {
                let why = format!("it has packages for {role:?}, and the recipe has none");
                return other(why);
            }
        }
        Ok(())
    }

    fn check_inputs(&self, recipe: &Recipe) -> Result<(), Error> {
        let mut alone: Vec<_> = recipe.package_inputs().map(|choice| &choice.name).collect();
        alone.sort();
        if !alone.into_iter().eq(&self.content.alone) {
            let alone = self.content.alone.join(", ");
            return other(format!("the packages that it takes alone are `{alone}`"));
        }
        for choice in recipe.package_inputs() {
            let suite = self.package(&choice.name).map(|package| &package.suite);
            if choice.suite.is_some() && choice.suite.as_ref() != suite {
                return other(format!("it lacks {choice}"));
            }
        }
        let elsewhere = |input: &&Input| !matches!(input.source, Source::Deb { .. });
        for input in recipe.inputs.iter().filter(elsewhere) {
            let name = &input.name;
            match self.input(name) {
                None => return other(format!("it lacks the input {name}")),
                Some(locked) if !locked.answers(input) => {
                    return other(format!("its input {name} is another"));
                }
                Some(_) => {}
            }
        }
        let more = |locked: &&LockedInput| recipe.input(&locked.name).filter(elsewhere).is_none();
        match self.inputs().iter().find(more) {
            Some(LockedInput { name, .. }) => other(format!("it has an input {name}")),
            None => Ok(()),
        }
    }
}

impl LockedInput {
    /// Whether it is what a recipe's input asks for.
    pub(crate) fn answers(&self, asked: &Input) -> bool {
        let locked = self;
        match (locked.kind, &asked.source) {
            (
                InputKind::Pypi,
                Source::Pypi {
                    project,
                    version,
                    file,
                },
            ) => {
                let seen = file_of_wheel(&locked.seen);
                locked.version.as_ref() == Some(version)
                    && is_wheel_of(seen, project, version)
                    && file.as_ref().is_none_or(|file| file == seen)
            }
            (InputKind::Url, Source::Url { url, bytes, sha256 }) => {
                (&locked.seen, locked.bytes, locked.sha256) == (url, *bytes, *sha256)
                    && file_of(url).is_some()
            }
            (InputKind::Path, Source::Path { path }) => locked.seen == *path,
            _ => false,
        }
    }
}

fn other(why: String) -> Result<(), Error> {
    Err(error!(
        Lock,
        "the package lock is not of this recipe: {why}; run `image-builder lock`"
    ))
}

/// The file's name at the end of a wheel's URL.
fn file_of_wheel(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}
