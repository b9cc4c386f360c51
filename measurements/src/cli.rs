//! Commands for providers and verifiers. All file reading and the clock live here; the library has neither.

mod gpu;
mod image;
mod predict;
mod replay;
mod shape;
mod time;

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use measurements::{
    Collateral, Digest48, ImageManifest, Manifest, Peer, Policy, Quote, ReportData, Root, limits,
    verify,
};
use serde_json::{Value, json};
use time::Moment;

/// Says what a machine should measure to, and whether a peer does.
///
/// Exit code 0: done, or believed. 1: refused, or failed. 2: misuse.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Predict(predict::PredictArguments),
    Replay(replay::ReplayArguments),
    Shape(shape::ShapeArguments),
    Acpi(shape::AcpiArguments),
    /// Check an image.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Write the paper that says what a guest should measure to.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Read or verify a quote.
    #[command(subcommand)]
    Quote(QuoteCommand),
    /// Verify the evidence of NVIDIA GPUs.
    #[command(subcommand)]
    Gpu(gpu::GpuCommand),
}

#[derive(Subcommand)]
enum ManifestCommand {
    /// For an agent run as a process under a simulated module.
    ///
    /// Example:
    ///   measurements manifest process --agent target/debug/guest-agent-sim --config sim.json --out manifest.json
    #[command(verbatim_doc_comment)]
    Process(ProcessArguments),
    /// For the guest of an image, with its registers as the image manifest predicts them.
    ///
    /// Example:
    ///   measurements manifest vm --image image/manifest.json --config guest.json --out manifest.json
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
    /// Where to write; standard output if left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct VmArguments {
    /// The image manifest.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The agent's measured configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where to write; standard output if left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum QuoteCommand {
    /// Print what a quote says, believing nothing.
    ///
    /// Example:
    ///   measurements quote parse --quote quote.bin
    #[command(verbatim_doc_comment)]
    Parse(ParseArguments),
    /// Decide whether a quote comes from the guest a manifest describes.
    ///
    /// Example, a real guest now:
    ///   measurements quote verify --quote quote.bin --collateral collateral.json \
    ///     --manifest manifest.json --report-data 5a5a…
    /// Example, a simulated one:
    ///   … --insecure-test-root run/sim/root.der
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
}

#[derive(Args)]
struct ParseArguments {
    /// The quote, binary.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArguments {
    /// The quote, binary.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// Intel's lists about the platform, JSON.
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// What the guest should measure to.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The 64 bytes the quote must bind, as 128 lower-case hex digits.
    #[arg(long, value_name = "HEX")]
    report_data: ReportData,
    /// Trust this root (DER) in place of Intel's. Nothing under it is confidential.
    #[arg(long, value_name = "FILE")]
    insecure_test_root: Option<PathBuf>,
    /// Judge at this time instead of now: 2025-06-19T12:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "RFC3339")]
    at: Option<Moment>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Predict(arguments) => predict::predict(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Shape(arguments) => shape::shape(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Acpi(arguments) => shape::acpi(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Replay(arguments) => replay::replay(&arguments).map(code),
        Command::Image(image::ImageCommand::Verify(arguments)) => {
            image::verify(&arguments).map(code)
        }
        Command::Manifest(ManifestCommand::Process(arguments)) => manifest_process(&arguments),
        Command::Manifest(ManifestCommand::Vm(arguments)) => manifest_vm(&arguments),
        Command::Quote(QuoteCommand::Parse(arguments)) => quote_parse(&arguments),
        Command::Quote(QuoteCommand::Verify(arguments)) => quote_verify(&arguments),
        Command::Gpu(gpu::GpuCommand::Verify(arguments)) => gpu::verify(&arguments).map(code),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("measurements: {error:#}");
            ExitCode::FAILURE
        }
    }
}

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

fn manifest_vm(arguments: &VmArguments) -> anyhow::Result<ExitCode> {
    let image = read_bounded(&arguments.image, limits::IMAGE_MANIFEST_BYTES_MAX)?;
    let image = ImageManifest::from_json(&image)
        .with_context(|| format!("reading {}", arguments.image.display()))?;
    let config = digest_of(&arguments.config)?;
    write_manifest(&Manifest::vm(&image, config), arguments.out.as_deref())
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

fn quote_parse(arguments: &ParseArguments) -> anyhow::Result<ExitCode> {
    let bytes = read_bounded(&arguments.quote, limits::QUOTE_BYTES_MAX)?;
    let quote = Quote::parse(&bytes)
        .with_context(|| format!("{} is not a TDX quote", arguments.quote.display()))?;
    let fields = quote_fields(&quote);
    if arguments.json {
        print_json(&Value::Object(
            fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        ))?;
    } else {
        eprintln!("nothing below is verified");
        print_table(&fields)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn quote_verify(arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let quote = read_bounded(&arguments.quote, limits::QUOTE_BYTES_MAX)?;
    let collateral = read_bounded(&arguments.collateral, limits::COLLATERAL_BYTES_MAX)?;
    let collateral = Collateral::from_json(&collateral).context("reading the collateral")?;
    let manifest = read_bounded(&arguments.manifest, limits::MANIFEST_BYTES_MAX)?;
    let manifest = Manifest::from_json(&manifest).context("reading the manifest")?;
    let root = match &arguments.insecure_test_root {
        Some(path) => Root::insecure_test(read_bounded(path, limits::ROOT_BYTES_MAX)?)
            .with_context(|| format!("reading {}", path.display()))?,
        None => Root::intel(),
    };
    let at = Moment::or_now(arguments.at)?;
    let policy = Policy::from_manifest(&manifest);
    match verify(
        &quote,
        &collateral,
        &arguments.report_data,
        &policy,
        &root,
        at.unix_s,
    ) {
        Ok(peer) => {
            if arguments.json {
                print_json(&accepted(&peer))?;
            } else {
                println_people(&peer)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            if arguments.json {
                print_json(
                    &json!({ "verified": false, "root": root.class().to_string(), "refusal": refusal.to_string() }),
                )?;
            }
            eprintln!("refused: {refusal}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn accepted(peer: &Peer) -> Value {
    json!({
        "verified": true,
        "root": peer.root.to_string(),
        "registers": peer.registers,
        "tcb_status": peer.tcb_status.to_string(),
        "advisories": peer.advisories,
        "tcb_evaluation_number": peer.tcb_evaluation_number,
        "collateral_expires_unix_s": peer.collateral_expires_unix_s,
        "report_data": peer.report_data.to_string(),
        "quote_sha256": hex::encode(peer.quote_digest),
        "fmspc": hex::encode(peer.fmspc),
        "ppid": hex::encode(&peer.ppid),
    })
}

fn println_people(peer: &Peer) -> anyhow::Result<()> {
    let Value::Object(fields) = accepted(peer) else {
        unreachable!("written as an object above")
    };
    print_table(
        &fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect::<Vec<_>>(),
    )?;
    eprintln!(
        "verified: the quote comes from the guest of the manifest, while no attestation key is extracted"
    );
    if peer.root == measurements::RootClass::InsecureTest {
        eprintln!("under a test root: nothing about this peer is confidential");
    }
    Ok(())
}

fn quote_fields(quote: &Quote) -> Vec<(&'static str, Value)> {
    let td = &quote.td;
    let bits = |value: u64| Value::from(format!("{value:#018x}"));
    let digest = |value: &Digest48| Value::from(value.to_string());
    vec![
        ("version", quote.version.into()),
        ("tee_tcb_svn", hex::encode(td.tee_tcb_svn).into()),
        ("mr_seam", digest(&td.mr_seam)),
        ("mr_signer_seam", digest(&td.mr_signer_seam)),
        ("seam_attributes", bits(td.seam_attributes)),
        ("td_attributes", bits(td.td_attributes)),
        ("xfam", bits(td.xfam)),
        ("mrtd", digest(&td.registers.mrtd)),
        ("rtmr0", digest(&td.registers.rtmr[0])),
        ("rtmr1", digest(&td.registers.rtmr[1])),
        ("rtmr2", digest(&td.registers.rtmr[2])),
        ("rtmr3", digest(&td.registers.rtmr[3])),
        ("mr_config_id", digest(&td.mr_config_id)),
        ("mr_owner", digest(&td.mr_owner)),
        ("mr_owner_config", digest(&td.mr_owner_config)),
        ("mr_service_td", digest(&td.mr_service_td)),
        ("report_data", td.report_data.to_string().into()),
    ]
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

/// The files of a folder with one of these endings, by name.
fn files_in(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        if endings.iter().any(|known| ending == *known) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
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

/// A reader sees the whole folder or none. ACPI files of two machines side by side are no machine's.
fn write_folder(folder: &Path, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    let writing = || format!("writing {}", folder.display());
    if folder.exists() && fs::read_dir(folder).with_context(writing)?.next().is_some() {
        bail!("{} is there and not empty", folder.display());
    }
    let mut unfinished = folder.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let write = || {
        fs::create_dir(&unfinished)?;
        for (name, bytes) in files {
            fs::write(unfinished.join(name), bytes)?;
        }
        fs::rename(&unfinished, folder)
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
