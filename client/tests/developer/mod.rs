//! The program as a developer uses it: verdicts, proof files, a new directory, a conversation.

mod beginnings;
mod checks;
mod conversation;
mod over_tls;
mod verdicts;
mod wrapped;

use crate::world::World;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run of the program came to.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the program in a directory with what it reads from standard input.
pub async fn chrysalis(directory: &Path, arguments: &[&str], input: &str) -> Ran {
    chrysalis_with(directory, arguments, input, &[]).await
}

/// The same with more in its environment.
async fn chrysalis_with(
    directory: &Path,
    arguments: &[&str],
    input: &str,
    environment: &[(&str, &str)],
) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chrysalis"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("XDG_STATE_HOME", directory)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that reads nothing may be gone by now.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Writes the world's configuration where a program reads it.
fn configured(world: &World) {
    std::fs::write(
        world.directory.path().join("client.yaml"),
        world.config_text(),
    )
    .unwrap();
}
