//! `image-builder tools`.

use std::process::ExitCode;

use crate::error::{Error, Fault};
use crate::image::tools::{Order, Step, ensure_tools};
use clap::Args;

use super::build::show_compile;
use super::screen::Screen;
use super::{LockedRecipe, StoreDirectory};

pub const EXAMPLE: &str = "Example:
  image-builder tools recipes/sim.yaml --json > tools.json

For each program the description has the words that start it in the sandbox and its path there. To start one: those words, then
--read HOST=INSIDE, --write HOST=INSIDE and --device PATH as needed, then --, the path and arguments.";

#[derive(Args)]
pub struct Tools {
    #[command(flatten)]
    locked: LockedRecipe,
    #[command(flatten)]
    store: StoreDirectory,
    /// Print the description instead of its path
    #[arg(long)]
    pub json: bool,
}

impl Tools {
    pub fn run(self) -> Result<ExitCode, Error> {
        let store = self.store.open()?;
        let (_, lock, workspace) = self.locked.read()?;
        let image_builder = std::env::current_exe();
        let image_builder =
            image_builder.map_err(Error::of(Fault::Disk, "finding this program: "))?;
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
        Step::Compile(step) => show_compile(screen, step),
    }
}
