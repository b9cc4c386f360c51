//! `image-builder lock`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, error};
use crate::files;
use crate::lock::debian::Date;
use crate::lock::{PackageLock, Recipe};
use crate::locking::{Change, Order, State, Update, changes, make_lock};
use clap::Args;
use serde_json::json;

use super::screen::Screen;
use super::{Mirrors, StoreDirectory};

pub const EXAMPLE: &str = "Examples:
  image-builder lock recipes/sim.yaml                        make a lock; an existing one keeps its versions
  image-builder lock recipes/sim.yaml --check                show what changed upstream; writes nothing
  image-builder lock recipes/sim.yaml --update               update everything
  image-builder lock recipes/sim.yaml --update openssl       update one package and what must change with it
  image-builder lock recipes/sim.yaml --mirror http://mirror.example/debian --mirror http://deb.debian.org/debian

Which packages exist is taken from an InRelease that one of the keys pinned in the recipe signed and that is not older than the one of
the existing lock. No mirror is trusted. For wheels PyPI's index is trusted. Review the changes before you build.

Exit code: 0 done, or nothing changed upstream; 1 refused or failed, or with --check something changed; 2 wrong arguments.";

#[derive(Args)]
pub struct Lock {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Show what changed upstream since the lock was made, and write nothing
    #[arg(long, conflicts_with_all = ["update", "out"])]
    check: bool,
    /// Update NAME and what must change with it, or everything
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    update: Option<Option<String>>,
    #[command(flatten)]
    mirrors: Mirrors,
    /// The URL of PyPI's simple index [env: CHRYSALIS_PYPI_URL] [default: https://pypi.org]
    #[arg(long, value_name = "URL")]
    pypi_url: Option<String>,
    /// Where to write the lock [default: the file that the recipe names, beside it]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Accept an archive release older than that of the existing lock
    #[arg(long)]
    allow_older: bool,
    #[command(flatten)]
    store: StoreDirectory,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Lock {
    pub fn run(self) -> Result<ExitCode, Error> {
        let store = self.store.open()?;
        let recipe = Recipe::read(&self.recipe)?;
        let out = match &self.out {
            Some(out) => out.clone(),
            None => recipe.lock_path(&self.recipe),
        };
        let before = self.before(&out)?;
        let variable = std::env::var("CHRYSALIS_PYPI_URL").ok();
        let pypi_url = self.pypi_url.or(variable).filter(|url| !url.is_empty());
        let mut screen = Screen::new();
        let order = Order {
            store: &store,
            recipe: &recipe,
            directory: self.recipe.parent().unwrap_or(Path::new("")),
            mirrors: &self.mirrors.list(),
            pypi_url: pypi_url.as_deref().unwrap_or("https://pypi.org"),
            now: now()?,
            before: before.as_ref(),
            allow_older: self.allow_older,
            update: match &self.update {
                Some(Some(name)) => Update::Only(name),
                Some(None) => Update::All,
                None if self.check => Update::All,
                None => Update::Nothing,
            },
        };
        let text = make_lock(order, &mut |event| screen.show(event))?;
        drop(screen);
        let after = PackageLock::parse(text.as_bytes())?;
        let changes = changes(before.as_ref(), &after);
        let same = before
            .as_ref()
            .is_some_and(|before| before.digest() == after.digest());
        if !self.check && !same {
            files::replace(&out, text.as_bytes(), 0o644)?;
        }
        eprintln!("{}", sentence(self.check, before.is_some(), same, &changes));
        if self.json {
            let digest = match (self.check, &before) {
                (true, Some(before)) => before.digest(),
                _ => after.digest(),
            };
            let report = json!({
                "lock": out,
                "sha256": digest.to_string(),
                "packages": after.packages().len(),
                "inputs": after.inputs().len(),
                "changes": changes,
            });
            println!("{report}");
        } else {
            if before.is_some() {
                print_table(&changes);
            }
            println!("{}", out.display());
        }
        Ok(match self.check && !changes.is_empty() {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    /// The lock that is there. One that cannot be read is one to replace, and the person hears why; but who asks what changed
    /// since, or for one update, asks about a lock.
    fn before(&self, out: &Path) -> Result<Option<PackageLock>, Error> {
        match PackageLock::read(out) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if self.check || matches!(self.update, Some(Some(_))) => Err(error),
            Err(error) if out.exists() => {
                eprintln!("image-builder: replacing {}: {error}", out.display());
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }
}

fn sentence(check: bool, was_there: bool, same: bool, changes: &[Change]) -> String {
    match (check, was_there, changes.len()) {
        (true, _, 0) => "nothing that the lock names changed upstream".into(),
        (true, _, changes) => format!("{changes} things changed upstream since the lock was made"),
        (false, false, things) => format!("the lock is new: {things} things"),
        (false, true, 0) if same => "the lock is up to date".into(),
        (false, true, 0) => "the lock changed, and nothing that it names did".into(),
        (false, true, changes) => format!("the lock changed: {changes} things"),
    }
}

fn print_table(changes: &[Change]) {
    let shown = |state: &Option<State>| state.as_ref().map_or("-".into(), State::short);
    let width = |cells: &dyn Fn(&Change) -> usize| changes.iter().map(cells).max().unwrap_or(0);
    let names = width(&|change| change.name.len());
    let befores = width(&|change| shown(&change.before).len());
    let afters = width(&|change| shown(&change.after).len());
    for change in changes {
        println!(
            "{:names$}  {:befores$}  {:afters$}  {}",
            change.name,
            shown(&change.before),
            shown(&change.after),
            change.word()
        );
    }
}

/// What time it is: the one clock of this program that anything depends on.
fn now() -> Result<Date, Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.ok().and_then(|since| since.as_secs().try_into().ok());
    let unix_s = seconds.ok_or_else(|| error!(Clock, "this machine's clock is before 1970"))?;
    Ok(Date { unix_s })
}
