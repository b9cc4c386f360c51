//! The command line: a socket, two files, one line on standard output.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::{CommandFactory, Parser};

use crate::SimulatedModule;

/// Simulate a TDX module for tests: real formats, a test root of this run, nothing confidential.
///
/// Writes root.der and collateral.json to --out, listens on --socket, then prints one JSON line.
///
/// Example:
///   chrysalis-simulator --socket run/tdx.sock --out run/sim
///   measurements quote verify --insecure-test-root run/sim/root.der --collateral run/sim/collateral.json …
///
/// Exit code: 0 done, 1 refused or failed, 2 wrong arguments.
#[derive(Parser)]
#[command(name = "chrysalis-simulator", version = env!("CHRYSALIS_VERSION"), verbatim_doc_comment)]
struct Arguments {
    /// The Unix socket to listen on. It must not exist yet.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The directory for root.der and collateral.json. Created if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The description of a launched machine (launched.json), which may be written later. The registers are those that its boot
    /// measured, computed at the first request after it; without this option they start at zero.
    #[arg(long, value_name = "FILE")]
    launched: Option<PathBuf>,
    /// Exit when standard input is closed, so that this program ends with the one that started it.
    #[arg(long)]
    parent_pipe: bool,
}

/// The program's options.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    // `parse` exits with code 2 on a usage error.
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chrysalis-simulator: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line, without the causes that a sentence before them quotes already.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    causes.fold(String::new(), |told, cause| match told {
        told if told.contains(&cause) => told,
        told if told.is_empty() => cause,
        told => format!("{told}: {cause}"),
    })
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let now_unix_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("reading the clock")?
        .as_secs();
    let mut random = |buffer: &mut [u8]| {
        getrandom::fill(buffer).expect("the kernel's random source works, or no key may be made");
    };
    let module = SimulatedModule::new(now_unix_s, &mut random)?;

    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("creating {}", arguments.out.display()))?;
    write_whole(&arguments.out, "root.der", module.root_der())?;
    write_whole(&arguments.out, "collateral.json", module.collateral_json())?;

    let socket = &arguments.socket;
    let listener =
        UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
        .context("restricting the socket to this user")?;
    if arguments.parent_pipe {
        end_with_parent(socket.clone());
    }
    let ready = serde_json::json!({ "ready": true, "socket": socket, "simulated": true });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")
        .and_then(|()| stdout.flush())
        .context("writing to standard output")?;
    match &arguments.launched {
        Some(launched) => crate::serve_launched(&listener, module, launched.clone())?,
        None => crate::serve(&listener, module)?,
    }
    Ok(())
}

fn end_with_parent(socket: PathBuf) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin();
        let mut ignored = [0; 64];
        while matches!(stdin.read(&mut ignored), Ok(1..)) {}
        let _ = fs::remove_file(socket);
        std::process::exit(0);
    });
}

/// A reader sees the whole file or none.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let (path, unfinished) = (
        directory.join(name),
        directory.join(format!(".{name}.unfinished")),
    );
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("writing {}", path.display()))
}
