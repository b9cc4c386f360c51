//! `image-builder run`: a program of a tree in the sandbox.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::sandbox;
use crate::sandbox::{Bind, Sandbox, SandboxError};
use clap::Args;

/// What the program finds in its sandbox.
#[derive(Args)]
pub struct Run {
    /// The tree whose top-level directories become the root, read-only
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Make a file or directory of the host visible, read-only. Repeatable
    #[arg(long, value_name = "HOST=INSIDE", value_parser = Bind::parse)]
    read: Vec<Bind>,
    /// Make a file or directory of the host visible and writable. Repeatable
    #[arg(long, value_name = "HOST=INSIDE", value_parser = Bind::parse)]
    write: Vec<Bind>,
    /// Make a device visible, for example /dev/kvm. Repeatable
    #[arg(long, value_name = "PATH")]
    device: Vec<PathBuf>,
    /// The program's working directory
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    cwd: PathBuf,
    /// Set an environment variable. Repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// What the first half tells the second.
#[derive(Args)]
pub struct Inside {
    parent: String,
    ready: i32,
    plan: String,
}

impl Run {
    /// Runs the program; its exit code is ours.
    pub fn run(self) -> ExitCode {
        let mut sandbox = Sandbox::new(self.tree).cwd(self.cwd);
        for Bind { host, inside } in self.read {
            sandbox = sandbox.read(host, inside);
        }
        for Bind { host, inside } in self.write {
            sandbox = sandbox.write(host, inside);
        }
        for device in self.device {
            sandbox = sandbox.device(device);
        }
        for (key, value) in self.env {
            sandbox = sandbox.env(key, value);
        }
        let (program, arguments) = self
            .program
            .split_first()
            .expect("clap requires one at least");
        code(sandbox::enter(&sandbox, program, arguments))
    }
}

impl Inside {
    /// The second half.
    pub fn run(self) -> ExitCode {
        code(sandbox::inhabit(&self.parent, self.ready, &self.plan))
    }
}

fn code(result: Result<u8, SandboxError>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        eprintln!("image-builder: {error}");
        error.code()
    }))
}

fn variable(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{word}` is not KEY=VALUE")),
    }
}

/// What `--help` ends with.
pub const EXAMPLE: &str = "Example:
  image-builder run --tree TREE --read disk.img=/disk.img --write out=/out -- qemu-img info /disk.img

The program sees only the tree and what is listed: no network, no home directory, no variables of the caller. It is killed when the
process that started this command ends.

Exit code: the program's, or 128 and the number of the signal that ended it; 125 when the sandbox could not be made, 126 when
the program cannot be run, 127 when it does not exist, 2 wrong arguments.";
