//! `image-builder tools`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::compile;
use crate::compile::workspace_around;
use crate::image::tools::{Order, Step, ToolsError, ensure_tools};
use crate::lock::{PackageLock, Recipe};
use clap::Args;

use super::screen::Screen;
use super::{Mirrors, Refusal, StoreDirectory};

pub const EXAMPLE: &str = "Example:
  image-builder tools recipes/sim.yaml --json > tools.json

For each program the description has the words that start it in the sandbox and its path there. To start one: those words, then
--read HOST=INSIDE, --write HOST=INSIDE and --device PATH as needed, then --, the path and arguments.";

#[derive(Args)]
pub struct Tools {
    /// The recipe, in a checkout of the sources
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The package lock [default: the file that the recipe names, beside it]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    mirrors: Mirrors,
    #[command(flatten)]
    store: StoreDirectory,
    /// Print the description instead of its path
    #[arg(long)]
    pub json: bool,
}

impl From<ToolsError> for Refusal {
    fn from(error: ToolsError) -> Self {
        Self::Failed {
            sentence: error.to_string(),
            fault: error.fault(),
        }
    }
}

impl Tools {
    pub fn run(self) -> Result<ExitCode, Refusal> {
        let store = self.store.open()?;
        let recipe = Recipe::read(&self.recipe)?;
        let path = self.lock.unwrap_or_else(|| recipe.lock_path(&self.recipe));
        let mut lock = PackageLock::read(&path)?;
        lock.check(&recipe)?;
        lock = self.mirrors.of(lock)?;
        let workspace = workspace_around(&self.recipe).ok_or_else(|| {
            Refusal::Misuse("the recipe lies in no checkout of our sources".into())
        })?;
        let image_builder = std::env::current_exe().map_err(|error| Refusal::Failed {
            sentence: format!("finding this program: {error}"),
            fault: "disk",
        })?;
        let order = Order {
            lock: &lock,
            workspace: &workspace,
            store: &store,
            image_builder: &image_builder,
        };
        let mut screen = Screen::new();
        let (tools, path) = ensure_tools(order, &mut |step| show(&mut screen, step))?;
        drop(screen);
        match self.json {
            true => println!(
                "{}",
                serde_json::to_string(&tools).expect("names and words have a JSON form")
            ),
            false => println!("{}", path.display()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(screen: &mut Screen, step: Step<'_>) {
    match step {
        Step::Fetch(progress) => screen.show(progress),
        Step::Compile(compile::Step::Fetching) => screen.say("compile: crates that are missing"),
        Step::Compile(compile::Step::Waiting) => screen.say("compile: waiting for another build"),
        Step::Compile(compile::Step::Compiling { program, compiler }) => {
            screen.say(&format!("compile: {program} with {compiler}"));
        }
    }
}
