//! `image-builder repro-check`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::Error;
use crate::image::repro;
use crate::image::repro::{Check, Difference, VARIED, WorkDir, compare};
use crate::lock::Role;
use crate::store::ensure_tree;
use clap::Args;
use serde_json::{Value, json};

use super::screen::Screen;
use super::{LockedRecipe, StoreDirectory};

pub const EXAMPLE: &str = "Example:
  image-builder repro-check recipes/cpu.yaml
  image-builder repro-check recipes/cpu.yaml --share-programs --json

Builds once normally, and once as user 1234 with umask 077 on a host of another name, from a copy of the sources under another path
whose directories list in another order, with another store, in a Turkish locale, fourteen hours and four years ahead, on one
processor. It takes as long as two builds from scratch: about twenty minutes if the agent has to be compiled twice. The last line is
`identical` or `different`.

Exit code: 0 identical, 1 different or a build failed, 2 wrong arguments.";

#[derive(Args)]
pub struct ReproCheck {
    #[command(flatten)]
    locked: LockedRecipe,
    /// Compile our programs only once and check everything else; saves minutes, and the result says so
    #[arg(long)]
    share_programs: bool,
    #[command(flatten)]
    store: StoreDirectory,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What the second build is told.
#[derive(Args)]
pub struct Variation {
    plan: String,
}

impl ReproCheck {
    pub fn run(self) -> Result<ExitCode, Error> {
        let store = self.store.open()?;
        let (_, lock, workspace) = self.locked.read()?;
        let LockedRecipe {
            recipe,
            lock: named,
            mirrors,
        } = &self.locked;
        let whole = std::fs::canonicalize(recipe).map_err(Error::disk("finding", recipe))?;
        let arguments = arguments(named.as_ref(), &mirrors.list())?;

        let work = WorkDir::claim(&store)?;
        let build = lock.closure(Role::Build);
        let mut screen = Screen::new();
        let tools = ensure_tree(&store, &lock, &build, &mut |progress| screen.show(progress))?;
        drop(screen);
        let check = Check {
            recipe: &whole,
            workspace: &workspace,
            arguments: &arguments,
            share_programs: self.share_programs,
            store: &store,
            tools: tools.join("usr/bin/gcc").exists().then_some(&tools),
        };
        eprintln!("first build: as you are");
        check.first(&work)?;
        let varied = varied(&check);
        eprintln!("second build: another {}", varied.join(", "));
        check.second(&work)?;
        let [first, second] = work.images();
        Ok(self.report(&varied, &compare(&first, &second)?))
    }

    fn report(&self, varied: &[&str], files: &[(String, Option<Difference>)]) -> ExitCode {
        let identical = files.iter().all(|(_, difference)| difference.is_none());
        if self.json {
            let file = |(name, difference): &(String, Option<Difference>)| json!({ "name": name, "identical": difference.is_none(), "difference": difference });
            let files: Vec<Value> = files.iter().map(file).collect();
            let report = json!({
                "identical": identical,
                "varied": varied,
                "programs": if self.share_programs { "compiled once" } else { "compiled twice" },
                "files": files,
            });
            println!("{report}");
        } else {
            for (name, difference) in files {
                match difference {
                    None => println!("{name} is identical"),
                    Some(difference) => println!("{name} {difference}"),
                }
            }
            if self.share_programs {
                println!("our programs were compiled once, so they were not compared");
            }
            println!("{}", if identical { "identical" } else { "different" });
        }
        ExitCode::from(u8::from(!identical))
    }
}

impl Variation {
    /// The second build.
    pub fn run(self) -> ExitCode {
        let error = match serde_json::from_str(&self.plan) {
            Ok(plan) => repro::go(&plan).to_string(),
            Err(error) => error.to_string(),
        };
        eprintln!("image-builder: {error}");
        ExitCode::FAILURE
    }
}

/// For builds that start in other directories.
fn arguments(lock: Option<&PathBuf>, mirrors: &[String]) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    if let Some(lock) = lock {
        let lock = std::path::absolute(lock).map_err(Error::disk("finding", lock))?;
        words.extend(["--lock".into(), lock.display().to_string()]);
    }
    for mirror in mirrors {
        words.extend(["--mirror".into(), mirror.clone()]);
    }
    Ok(words)
}

/// Without a compiler among the tools there is no other clock.
fn varied(check: &Check<'_>) -> Vec<&'static str> {
    let all = VARIED.into_iter();
    all.filter(|what| *what != "clock" || check.tools.is_some())
        .collect()
}
