//! `cargo demo`: one private answer, end to end, on this machine.

use demo::{Guest, Options, Plan, Programs, Step, Stop};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(Stop::Help(help)) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
        Err(Stop::Misuse(why)) => {
            eprintln!("error: {why}\n\nFor more information, try '--help'.");
            return ExitCode::from(2);
        }
    };
    let Err(error) = run(options);
    eprintln!("demo: {error}");
    ExitCode::FAILURE
}

/// Compiles the programs and becomes the scenario.
fn run(options: Options) -> std::io::Result<std::convert::Infallible> {
    let programs = Programs::beside_this_one()?;
    if !options.json {
        let plan = Plan::new(options, &programs);
        eprintln!("{}", plan.announce(Step::Programs));
    }
    programs.build(match options.process {
        true => Guest::Process,
        false => Guest::Machine,
    })?;
    let mut scenario = Command::new(programs.path("scenario"));
    Err(scenario.args(std::env::args_os().skip(1)).exec())
}
