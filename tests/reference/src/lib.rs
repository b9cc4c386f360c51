//! **What it is.** The command reference `docs/cli.md`, manual pages and shell completions, made from the clap commands of
//! all programs. A test compares the page with the programs.
//!
//! **Trusts.** The programs' crates, whose `command()` it reads.
//!
//! **Promises.** The same programs give the same page.
//!
//! **Lacks.** Words of its own about an option: those are doc comments beside the option.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Where the page is, from the root of the repository.
pub const PAGE: &str = "docs/cli.md";
/// Lines of help are broken before this column.
const WIDTH: usize = 100;
/// Indentation of the help of an option, which may be broken anywhere; examples and lists are left as they are.
const HELP_INDENT: usize = 10;

const HEAD: &str = "# Commands

**Reference.** For users of the programs: every command and option, as `--help` prints it. `cargo run -p reference`
writes this page; do not edit it. Not here: `guest-agent`, which a guest's image starts, and the developers' programs
`engine` and `demo`.
";

/// The commands of the programs that people start, in the order of the page. `engine` and `guest-agent` are not among
/// them: this crate would then compile the engine to print a page.
pub fn programs() -> Vec<Command> {
    vec![
        client::cli::command(),
        host_proxy::cli::command(),
        image_builder::cli::command(),
        measurements::command(),
        ledger::cli::command(),
        simulator::cli::command(),
    ]
}

/// The page of all programs.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for mut program in programs() {
        program = program.disable_help_subcommand(true);
        program.build();
        write_command(&mut page, &mut program, "", 2);
    }
    page
}

/// Writes a manual page for each program and subcommand into `directory`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_manual(directory: &Path) -> std::io::Result<()> {
    programs()
        .into_iter()
        .try_for_each(|program| clap_mangen::generate_to(program, directory))
}

/// Writes the completions of each program for bash, zsh and fish into `directory`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_completions(directory: &Path) -> std::io::Result<()> {
    for mut program in programs() {
        let name = program.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut program, &name, directory)?;
        }
    }
    Ok(())
}

fn write_command(page: &mut String, command: &mut Command, parents: &str, level: usize) {
    let name = format!("{parents}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let marks = "#".repeat(level.min(4));
    let lines = help.trim().lines().flat_map(broken);
    let help: Vec<String> = lines.collect();
    write!(
        page,
        "\n{marks} {name}\n\n```text\n{}\n```\n",
        help.join("\n")
    )
    .expect("a string takes everything");
    let shown = command
        .get_subcommands_mut()
        .filter(|command| !command.is_hide_set());
    for subcommand in shown {
        write_command(page, subcommand, &format!("{name} "), level + 1);
    }
}

/// A line of help in lines of [`WIDTH`] characters at most, if it is one that may be broken.
fn broken(line: &str) -> Vec<String> {
    let line = line.trim_end();
    let indent = line.len() - line.trim_start().len();
    if line.chars().count() <= WIDTH || (indent != 0 && indent < HELP_INDENT) {
        return vec![line.to_owned()];
    }
    let margin = " ".repeat(indent);
    let mut lines = vec![margin.clone()];
    for word in line.split_whitespace() {
        let last = lines.last_mut().expect("there is one");
        let empty = last.len() == indent;
        if !empty && last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{margin}{word}"));
        } else {
            last.push_str(if empty { "" } else { " " });
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_programs_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(PAGE);
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let first = written
            .lines()
            .zip(page().lines())
            .position(|(written, new)| written != new);
        assert!(
            written == page(),
            "{PAGE} is not what the programs say, from line {} on; write it again with `cargo run -p reference`",
            first.map_or(written.lines().count(), |line| line) + 1
        );
    }

    #[test]
    fn every_program_has_a_manual_page_and_completions() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        write_manual(directory.path()).expect("written");
        write_completions(directory.path()).expect("written");
        for program in programs() {
            let name = program.get_name();
            for file in [
                format!("{name}.1"),
                format!("{name}.bash"),
                format!("{name}.fish"),
                format!("_{name}"),
            ] {
                assert!(directory.path().join(&file).is_file(), "{file}");
            }
        }
    }

    #[test]
    fn every_option_and_command_has_a_help_text() {
        fn check(command: &Command, parents: &str, silent: &mut Vec<String>) {
            let name = format!("{parents}{}", command.get_name());
            if command.get_about().is_none() {
                silent.push(name.clone());
            }
            let arguments = command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set());
            for argument in arguments.filter(|argument| argument.get_help().is_none()) {
                silent.push(format!("{name}: {}", argument.get_id()));
            }
            for subcommand in command
                .get_subcommands()
                .filter(|command| !command.is_hide_set())
            {
                check(subcommand, &format!("{name} "), silent);
            }
        }
        let mut silent = Vec::new();
        for program in programs() {
            check(&program, "", &mut silent);
        }
        assert_eq!(silent, [""; 0], "these have no help text");
    }

    #[test]
    fn clap_finds_no_fault_in_the_commands() {
        for program in programs() {
            program.debug_assert();
        }
    }

    #[test]
    fn long_help_is_broken_and_examples_are_not() {
        let long = "word ".repeat(40);
        assert_eq!(broken("short").len(), 1);
        assert_eq!(broken(&format!("  example {long}")).len(), 1);
        let lines = broken(&format!("          {long}"));
        assert!(lines.len() > 1);
        assert!(
            lines
                .iter()
                .all(|line| line.starts_with("          word") && line.len() <= WIDTH)
        );
    }
}
