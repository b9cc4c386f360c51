//! `image-builder lock`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use image_builder::debian::Date;
use image_builder::locking::{Order, changes, make_lock};
use image_builder::package_lock::PackageLock;
use image_builder::recipe::Recipe;
use serde_json::json;

use super::{Refusal, StoreFolder};
use crate::screen::Screen;

pub const EXAMPLE: &str = "Example:
  image-builder lock recipes/sim.yaml
  image-builder lock recipes/sim.yaml --mirror http://mirror.example/debian --out new.lock.json

What it believes about which packages there are: an InRelease that one of the keys pinned in the recipe signed, not older than the one of
the lock that is there. It believes no mirror. Review what changed before you build from it.";

#[derive(Args)]
pub struct Lock {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Another mirror of Debian's archive than the recipe's
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Where to write the lock [default: the file beside the recipe that the recipe names]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Take an archive that is older than it was for the lock that is there
    #[arg(long)]
    allow_older: bool,
    #[command(flatten)]
    store: StoreFolder,
    /// Print one JSON object instead of a path
    #[arg(long)]
    pub json: bool,
}

impl Lock {
    pub fn run(self) -> Result<ExitCode, Refusal> {
        let store = self.store.open()?;
        let recipe = Recipe::read(&self.recipe)?;
        let out = match self.out {
            Some(out) => out,
            None => recipe.lock_path(&self.recipe),
        };
        // A lock that cannot be read is one to replace, and the person hears why.
        let before = match PackageLock::read(&out) {
            Ok(lock) => Some(lock),
            Err(error) if out.exists() => {
                eprintln!("image-builder: replacing {}: {error}", out.display());
                None
            }
            Err(_) => None,
        };
        let mut screen = Screen::new();
        let order = Order {
            store: &store,
            recipe: &recipe,
            folder: self.recipe.parent().unwrap_or(Path::new("")),
            mirror: self.mirror.as_deref(),
            now: now()?,
            before: before.as_ref(),
            allow_older: self.allow_older,
        };
        let text = make_lock(order, &mut |event| screen.show(event))?;
        drop(screen);
        let after = PackageLock::parse(text.as_bytes())?;
        let changes = changes(before.as_ref(), &after);
        for line in &changes {
            eprintln!("  {line}");
        }
        let sentence = match (before.is_some(), changes.is_empty()) {
            (true, true) => "the lock is up to date".to_owned(),
            (true, false) => "the lock changed".to_owned(),
            (false, _) => "the lock is new".to_owned(),
        };
        eprintln!("{sentence}: {} packages", after.packages().len());
        if !changes.is_empty() {
            write(&out, &text).map_err(|error| Refusal::Failed {
                sentence: format!("writing {}: {error}", out.display()),
                fault: "disk",
            })?;
        }
        if self.json {
            let digest = after.digest().to_string();
            println!(
                "{}",
                json!({ "lock": out, "sha256": digest, "packages": after.packages().len(), "changes": changes })
            );
        } else {
            println!("{}", out.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What time it is: the one clock of this program that anything depends on.
fn now() -> Result<Date, Refusal> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.ok().and_then(|since| since.as_secs().try_into().ok());
    let unix_s = seconds.ok_or_else(|| Refusal::Failed {
        sentence: "this machine's clock is before 1970".into(),
        fault: "clock",
    })?;
    Ok(Date { unix_s })
}

/// Beside the place and then into it, so that a reader sees the old lock or the new one.
fn write(out: &Path, text: &str) -> io::Result<()> {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = out.with_file_name(name);
    fs::write(&new, text)?;
    fs::rename(&new, out)
}
