//! `host-proxy collateral`: what Intel and NVIDIA sign about platforms, fetched once or served.

use crate::collateral::{Depot, Held, RimId, Want, rim_document, serve};
use crate::config::CollateralConfig;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use measurements::gpu::{GpuBundle, GpuNonce, GpuPolicy, GpuRoots, Revocation, inspect_bundle};
use measurements::limits::{GPU_BUNDLE_BYTES_MAX, QUOTE_BYTES_MAX};
use measurements::{PckCa, Platform, Quote};
use serde_json::{Value, json};
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(super) enum CollateralCommand {
    /// Fetch Intel's lists about one platform and write them as one JSON file.
    #[command(after_help = "\
Examples:
  host-proxy collateral fetch --config collateral.yaml --quote quote.bin --out collateral.json
  host-proxy collateral fetch --config collateral.yaml --fmspc B0C06F000000 --ca platform > collateral.json

The file is what `measurements quote verify --collateral` reads, and `collateral:` of the proxy's configuration.
With --json and --out, a line about it goes to stdout. Exit code: 0 written, 1 no source had it, 2 misuse.")]
    Fetch(FetchArguments),
    /// Fetch NVIDIA's reference values and write one XML file for each.
    #[command(after_help = "\
Examples:
  host-proxy collateral rim --config collateral.yaml --id NV_GPU_DRIVER_GH100_550.144.03 --out rims
  host-proxy collateral rim --config collateral.yaml --evidence gpus.json --out rims

The directory is what `measurements gpu verify --rim` reads. Exit code: 0 all are written, 1 at least one is not, 2 misuse.")]
    Rim(RimArguments),
    /// Serve clients, and keep what they ask for fresh, until SIGTERM or SIGINT.
    #[command(after_help = "\
  GET  /v1/collateral/tdx/FMSPC/CA   Intel's lists as JSON; CA is platform or processor
  GET  /v1/rim/ID                    a RIM, as NVIDIA's service answers
  POST /v1/ocsp                      an OCSP request about one certificate (DER)

An answer says how old it is (Age) and until when it holds (X-Expires-Unix-S). It may be a kept one, with the nonce of another
request; whoever wants its own asks with `Cache-Control: no-cache`.
With --json the first line on stdout is {\"ready\":true,\"listen\":\"127.0.0.1:PORT\"}.")]
    Serve(Common),
}

#[derive(Args)]
pub(super) struct Common {
    /// The sources and the cache (see host-proxy/collateral.example.yaml).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON for machines.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("platform").required(true).args(["quote", "fmspc"])))]
pub(super) struct FetchArguments {
    #[command(flatten)]
    common: Common,
    /// A quote of the platform, binary.
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    /// The family of the platform, twelve hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "ca")]
    fmspc: Option<String>,
    /// Who certified the platform: `platform` or `processor`.
    #[arg(long, value_name = "CA", requires = "fmspc")]
    ca: Option<PckCa>,
    /// Where to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Ask the sources even if the cache has it.
    #[arg(long)]
    anew: bool,
}

#[derive(Args)]
pub(super) struct RimArguments {
    #[command(flatten)]
    common: Common,
    /// NVIDIA's name of a RIM; may be given more than once.
    #[arg(long, value_name = "ID", required_unless_present = "evidence")]
    id: Vec<RimId>,
    /// Evidence of a machine's GPUs (JSON): the RIMs of their drivers and VBIOSes.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// A directory for the files `ID.xml`. Made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ask the sources even if the cache has it.
    #[arg(long)]
    anew: bool,
}

/// Runs a command; `false` is a failure that was told already.
pub(super) async fn run(
    command: CollateralCommand,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<bool> {
    if let CollateralCommand::Serve(common) = &command {
        run_service(common, stop).await?;
        return Ok(true);
    }
    let done = async {
        match &command {
            CollateralCommand::Fetch(arguments) => fetch(arguments).await.map(|()| true),
            CollateralCommand::Rim(arguments) => rim(arguments).await,
            CollateralCommand::Serve(_) => Ok(true),
        }
    };
    tokio::select! {
        done = done => done,
        () = stop => bail!("stopped before it was done; nothing half-written was left"),
    }
}

async fn run_service(
    common: &Common,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (listen, served) = serve(config(&common.config)?, stop).await?;
    if common.json {
        println!("{}", json!({ "ready": true, "listen": listen.to_string() }));
    } else {
        println!("host-proxy serves collateral on {listen}; SIGTERM ends it.");
    }
    served.await.context("serving")
}

async fn fetch(arguments: &FetchArguments) -> anyhow::Result<()> {
    let platform = match (&arguments.quote, &arguments.fmspc, arguments.ca) {
        (Some(path), _, _) => platform_of(path)?,
        (None, Some(fmspc), Some(ca)) => Platform {
            fmspc: Platform::fmspc_from_hex(fmspc)?,
            ca,
        },
        _ => bail!("--quote, or --fmspc with --ca, says for which platform"),
    };
    let depot = depot(&arguments.common.config)?;
    let held = ask(&depot, &Want::Tdx(platform), arguments.anew).await?;
    let Some(out) = &arguments.out else {
        std::io::stdout().write_all(&held.body)?;
        return Ok(());
    };
    write(out, &held.body)?;
    let mut line = about(&held);
    line["fmspc"] = hex::encode_upper(platform.fmspc).into();
    line["ca"] = platform.ca.to_string().into();
    line["out"] = out.display().to_string().into();
    tell(
        &arguments.common,
        &line,
        &format!("{} for {platform}", out.display()),
        &held,
    );
    Ok(())
}

async fn rim(arguments: &RimArguments) -> anyhow::Result<bool> {
    let depot = depot(&arguments.common.config)?;
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("making {}", arguments.out.display()))?;
    let mut ids = arguments.id.clone();
    if let Some(path) = &arguments.evidence {
        ids.extend(rims_of(path)?);
    }
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    ids.dedup();
    let mut all = true;
    for id in &ids {
        match ask(&depot, &Want::Rim(id.clone()), arguments.anew).await {
            Ok(held) => {
                let out = arguments.out.join(format!("{id}.xml"));
                write(&out, &rim_document(&held.body)?)?;
                let mut line = about(&held);
                line["id"] = id.as_str().into();
                line["out"] = out.display().to_string().into();
                tell(&arguments.common, &line, &out.display().to_string(), &held);
            }
            Err(error) => {
                eprintln!("host-proxy: {error:#}");
                all = false;
            }
        }
    }
    Ok(all)
}

async fn ask(depot: &Depot, want: &Want, anew: bool) -> anyhow::Result<Held> {
    let held = if anew {
        depot.get_anew(want).await
    } else {
        depot.get(want).await
    };
    held.map_err(|unavailable| anyhow::anyhow!("{unavailable}"))
}

fn about(held: &Held) -> Value {
    json!({
        "source": held.source,
        "fetched_unix_s": held.fetched_unix_s,
        "expires_unix_s": held.expires_unix_s,
    })
}

fn tell(common: &Common, line: &Value, what: &str, held: &Held) {
    if common.json {
        println!("{line}");
    } else {
        let (source, expires) = (&held.source, held.expires_unix_s);
        eprintln!("{what}: from {source}, holds until {expires} (seconds since 1970)");
    }
}

fn config(path: &Path) -> anyhow::Result<CollateralConfig> {
    CollateralConfig::read(path).with_context(|| format!("configuration {}", path.display()))
}

fn depot(path: &Path) -> anyhow::Result<Depot> {
    Ok(Depot::open(&config(path)?, Depot::system_clock())?)
}

/// The RIMs that these GPUs need. Nothing is verified but what the library verifies before it reads a report.
fn rims_of(path: &Path) -> anyhow::Result<Vec<RimId>> {
    let evidence = || format!("the evidence {}", path.display());
    let bundle = GpuBundle::from_json(&read(path, GPU_BUNDLE_BYTES_MAX)?).with_context(evidence)?;
    let policy = GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s: crate::settle::now_unix_s(),
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    let gpus = inspect_bundle(&bundle, &policy).with_context(evidence)?;
    let ids = gpus
        .iter()
        .flat_map(|gpu| [gpu.fields.driver_rim_id(), gpu.fields.vbios_rim_id()]);
    Ok(ids.map(|id| id.parse()).collect::<Result<_, _>>()?)
}

fn read(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", path.display()))?;
    // One byte too many is enough for whoever parses it to refuse it.
    Ok(bytes)
}

fn platform_of(path: &Path) -> anyhow::Result<Platform> {
    let bytes = read(path, QUOTE_BYTES_MAX)?;
    let quote = Quote::parse(&bytes).with_context(|| format!("the quote {}", path.display()))?;
    Platform::of(&quote).with_context(|| format!("the quote {}", path.display()))
}

/// Writes a file whole or not at all: a proxy may be reading it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().context("--out names no file")?.to_owned();
    name.push(format!(".unfinished-{}", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("writing {}", path.display()))
}
