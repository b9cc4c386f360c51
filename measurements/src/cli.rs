//! Commands for providers and verifiers. All file reading and the clock live here; the library has neither.

mod bundle;
mod bundle_file;
mod explain;
mod firmware;
mod gpu;
mod image;
mod machine_set;
mod predict;
mod quote;
mod quote_file;
mod replay;
mod shape;
mod time;

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use ::predict::image::{ImageManifest, Outcome};
use anyhow::{Context, bail};
use attest::Manifest;
use clap::{Args, CommandFactory, Parser, Subcommand};
use registers::{Digest48, Register, RuntimeEvent};
use serde_json::{Value, json};

/// Predict the registers of a TDX guest, and verify, replay and explain its evidence.
///
/// Everything works offline.
///
/// Exit code: 0 done, 1 refused or failed, 2 wrong arguments.
#[derive(Parser)]
#[command(version = env!("CHRYSALIS_VERSION"))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Predict(predict::PredictArguments),
    PredictSet(machine_set::PredictSetArguments),
    Match(machine_set::MatchArguments),
    Replay(replay::ReplayArguments),
    Explain(explain::ExplainArguments),
    Shape(shape::ShapeArguments),
    Acpi(shape::AcpiArguments),
    /// Check the files of an image against its manifest.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Write the manifest of expected registers for a guest.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Read or verify a quote.
    #[command(subcommand)]
    Quote(quote::QuoteCommand),
    /// Verify the evidence of NVIDIA GPUs offline.
    #[command(subcommand)]
    Gpu(gpu::GpuCommand),
    /// Make or verify a bundle: one file with a quote and everything needed to judge it.
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Print a completion script for a shell.
    ///
    /// Example:
    ///   measurements completions bash > ~/.local/share/bash-completion/completions/measurements
    #[command(verbatim_doc_comment)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum ManifestCommand {
    /// Write it for an agent that runs as a process under a simulated TDX module.
    ///
    /// Example:
    ///   measurements manifest process --agent target/debug/guest-agent-sim --config sim.json --out manifest.json
    #[command(verbatim_doc_comment)]
    Process(ProcessArguments),
    /// Write it for the guest of an image, with registers that are computed from the image's files.
    ///
    /// An image that `measurements image verify` refuses has no manifest of a guest: nothing would show that its registers are
    /// right. RTMR3 has the agent's digest as the image manifest states it; `image-builder verify` looks into the root.
    ///
    /// Example:
    ///   measurements manifest vm --image image --config guest.json --out manifest.json
    #[command(verbatim_doc_comment)]
    Vm(VmArguments),
}

#[derive(Args)]
struct ProcessArguments {
    /// The agent's binary.
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The agent's measured configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct VmArguments {
    /// The image's directory, or its manifest.json with the files beside it.
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    #[command(flatten)]
    machine: predict::MachineArguments,
    /// Write the manifest although this register was not computed. The manifest then says so.
    #[arg(long, value_name = "NAME", value_parser = ["rtmr0"])]
    allow_unchecked: Vec<String>,
    /// The agent's measured configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The GPU of a guest whose configuration demands one, as `host-proxy guest status` names it: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = gpu::hex32)]
    gpu: Option<gpu::Bytes32>,
    /// Where to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The program's commands and options.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let outcome = match arguments().command {
        Command::Predict(arguments) => predict::predict(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Shape(arguments) => shape::shape(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Acpi(arguments) => shape::acpi(&arguments).map(|()| ExitCode::SUCCESS),
        Command::PredictSet(arguments) => {
            machine_set::predict_set(&arguments).map(|()| ExitCode::SUCCESS)
        }
        Command::Match(arguments) => machine_set::matches(&arguments).map(code),
        Command::Explain(arguments) => explain::run(&arguments).map(code),
        Command::Replay(arguments) => replay::replay(&arguments).map(code),
        Command::Image(image::ImageCommand::Verify(arguments)) => {
            image::verify(&arguments).map(code)
        }
        Command::Manifest(ManifestCommand::Process(arguments)) => manifest_process(&arguments),
        Command::Manifest(ManifestCommand::Vm(arguments)) => manifest_vm(&arguments),
        Command::Quote(command) => quote::run(&command).map(code),
        Command::Gpu(gpu::GpuCommand::Verify(arguments)) => gpu::verify(&arguments).map(code),
        Command::Bundle(command) => bundle::run(&command).map(code),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut command(),
                "measurements",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let (sentence, misuse) = (told(&error), error.is::<Misuse>());
            eprintln!("measurements: {sentence}");
            if wants_json() {
                let refusal = error.downcast_ref::<attest::Refusal>();
                let fault = match (misuse, refusal) {
                    (true, _) => "arguments".to_owned(),
                    (false, Some(refusal)) => refusal.fault().to_string(),
                    (false, None) => "unknown".to_owned(),
                };
                println!("{}", json!({ "error": sentence, "fault": fault }));
            }
            match misuse {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// This process's arguments. Misuse ends with 2, and under --json with an object on standard output, too.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() && wants_json() {
            let text = error.to_string();
            let (sentence, _) = text.split_once("\n\n").unwrap_or((&text, ""));
            let sentence = sentence.trim().trim_start_matches("error: ");
            println!("{}", json!({ "error": sentence, "fault": "arguments" }));
        }
        error.exit()
    })
}

/// Whether errors are wanted as JSON. Known before the arguments are understood.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
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

/// Options that each are well-formed and together ask for nothing. The program ends as it does for an unknown option.
#[derive(Debug, thiserror::Error)]
#[error("{0}; see --help")]
struct Misuse(String);

fn code(good: bool) -> ExitCode {
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn manifest_process(arguments: &ProcessArguments) -> anyhow::Result<ExitCode> {
    let agent = digest_of(&arguments.agent)?;
    let config = digest_of(&arguments.config)?;
    write_manifest(&Manifest::process(agent, config), arguments.out.as_deref())
}

/// A register that was not computed from the image's files is none that anybody predicted.
fn manifest_vm(arguments: &VmArguments) -> anyhow::Result<ExitCode> {
    let path = &manifest_of(&arguments.image);
    let image = read_bounded(path, ::predict::limits::IMAGE_MANIFEST_BYTES_MAX)?;
    let image =
        ImageManifest::from_json(&image).with_context(|| format!("reading {}", path.display()))?;
    let report = image::checked(&image, path, &arguments.machine)?;
    // A guest's manifest has no register of the other two boot methods.
    let others = ["uki", "disk"];
    let mut unchecked = report.unchecked();
    unchecked.retain(|name| !others.contains(name));
    let allowed = arguments.allow_unchecked.iter().map(String::as_str);
    if !report.accepts(&allowed.chain(others).collect::<Vec<_>>()) {
        for check in &report.checks {
            if let Outcome::Differs(why) = &check.outcome {
                eprintln!("{}: {why}", check.what);
            }
        }
        image::print_refusal(path, &report, &unchecked);
        return Ok(ExitCode::FAILURE);
    }
    let is_open = |register: &Register| {
        let name = register.to_string().to_lowercase();
        unchecked.contains(&name.as_str())
    };
    let not_computed: Vec<Register> = Register::ALL.into_iter().filter(is_open).collect();
    let gpu = gpu_event(&arguments.config, arguments.gpu)?;
    let config = digest_of(&arguments.config)?;
    let manifest = image.guest(config, &not_computed);
    let manifest = gpu.into_iter().fold(manifest, Manifest::then);
    write_manifest(&manifest, arguments.out.as_deref())
}

/// What an agent with this configuration measures of its GPU.
fn gpu_event(config: &Path, gpu: Option<gpu::Bytes32>) -> anyhow::Result<Option<RuntimeEvent>> {
    let bytes = read_bounded(config, wire::limits::CONFIG_BYTES_MAX)?;
    let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let demanded = json.is_some_and(|json| json["gpu"] == true);
    let path = config.display();
    match (demanded, gpu) {
        (false, None) => Ok(None),
        (true, Some(gpu)) => {
            let event = wire::GpuReport::event(&wire::Digest(gpu));
            Ok(Some(RuntimeEvent {
                name: event.name,
                digest: Digest48(event.digest),
            }))
        }
        (true, None) => Err(Misuse(format!(
            "{path} demands a GPU, which the guest measures: name it with --gpu, as `host-proxy guest status` does"
        ))
        .into()),
        (false, Some(_)) => Err(Misuse(format!(
            "--gpu names a GPU, and {path} demands none"
        ))
        .into()),
    }
}

/// The manifest of an image that is named by its directory or by that file.
fn manifest_of(image: &Path) -> PathBuf {
    match image.is_dir() {
        true => image.join("manifest.json"),
        false => image.to_owned(),
    }
}

fn write_manifest(manifest: &Manifest, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    match out {
        Some(path) => write_whole(path, &manifest.to_json())?,
        None => print(&manifest.to_json())?,
    }
    eprintln!(
        "manifest {}: {}",
        hex::encode(manifest.digest()),
        manifest.note()
    );
    Ok(ExitCode::SUCCESS)
}

/// This machine's clock.
fn now_unix_s() -> anyhow::Result<u64> {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("reading the clock: it lies before 1970")?;
    Ok(since_1970.as_secs())
}

fn digest_of(path: &Path) -> anyhow::Result<Digest48> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Digest48::of(&bytes))
}

/// Reads at most one byte over the limit, however long the file says it is.
fn read_bounded(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() > max {
        bail!("{} is longer than the {max} bytes allowed", path.display());
    }
    Ok(bytes)
}

/// The files of a directory with one of these endings, by name.
fn files_in(directory: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        if endings.iter().any(|known| ending == *known) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The first bytes of a file that may be longer.
fn read_start(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(max as u64)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes)
}

fn open(path: &Path) -> anyhow::Result<fs::File> {
    fs::File::open(path).with_context(|| format!("reading {}", path.display()))
}

/// A reader sees the whole file or none.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// A reader sees the whole directory or none. ACPI files of two machines side by side are no machine's.
fn write_directory(directory: &Path, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    let writing = || format!("writing {}", directory.display());
    if directory.exists()
        && fs::read_dir(directory)
            .with_context(writing)?
            .next()
            .is_some()
    {
        bail!("{} is there and not empty", directory.display());
    }
    let mut unfinished = directory.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let write = || {
        fs::create_dir(&unfinished)?;
        for (name, bytes) in files {
            fs::write(unfinished.join(name), bytes)?;
        }
        fs::rename(&unfinished, directory)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    written.with_context(writing)
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .context("writing to standard output")
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    print(format!("{value}\n").as_bytes())
}

fn print_table(fields: &[(&str, Value)]) -> anyhow::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: String = fields
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name:width$}  {text}\n"),
            other => format!("{name:width$}  {other}\n"),
        })
        .collect();
    print(lines.as_bytes())
}
