//! `host-proxy collateral`.

use super::announce;
use crate::clock::now_unix_s;
use crate::collateral::{CollateralCache, CollateralKey, Document, RimId, rim_document, serve};
use crate::config::CollateralConfig;
use crate::error::{Context, Error, Fault, read_file};
use attest::limits::QUOTE_FILE_BYTES_MAX;
use attest::{PckCa, Platform, Quote, quote_in_file};
use clap::{Args, Subcommand};
use gpu::limits::GPU_BUNDLE_BYTES_MAX;
use gpu::{GpuBundle, GpuNonce, GpuPolicy, GpuRoots, Revocation, inspect_bundle};
use serde_json::{Value, json};
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(super) enum CollateralCommand {
    /// Fetch Intel's collateral for one platform and write it as one JSON file.
    #[command(after_help = "\
Examples:
  host-proxy collateral fetch --config collateral.yaml --quote quote.bin --out collateral.json
  host-proxy collateral fetch --config collateral.yaml --fmspc B0C06F000000 --ca platform > collateral.json

The file is what `measurements quote verify --collateral` reads, and `collateral:` of the proxy's configuration.
With --json and --out, one line about it goes to stdout. Exit code: 0 written, 1 no source had it, 2 wrong arguments.")]
    Fetch(FetchArguments),
    /// Fetch NVIDIA's reference integrity manifests (RIMs) and write one XML file for each.
    #[command(after_help = "\
Examples:
  host-proxy collateral rim --config collateral.yaml --id NV_GPU_DRIVER_GH100_550.144.03 --out rims
  host-proxy collateral rim --config collateral.yaml --evidence gpus.json --out rims

The directory is what `measurements gpu verify --rim` reads. Exit code: 0 all written, 1 at least one not, 2 wrong arguments.")]
    Rim(RimArguments),
    /// Serve collateral to clients, and refresh what they ask for, until SIGTERM or SIGINT.
    #[command(after_help = "\
  GET  /v1/collateral/tdx/FMSPC/CA   Intel's collateral as JSON; CA is platform or processor
  GET  /v1/rim/ID                    a RIM, as NVIDIA's service answers
  POST /v1/ocsp                      an OCSP request for one certificate (DER)

An answer has its age (Age) and expiry (X-Expires-Unix-S). It may come from the cache, with the nonce of another request;
`Cache-Control: no-cache` in the request prevents that.
With --json the first line on stdout is {\"ready\":true,\"listen\":\"127.0.0.1:PORT\"}.")]
    Serve(Common),
}

#[derive(Args)]
pub(super) struct Common {
    /// The sources and the cache (see host-proxy/collateral.example.yaml).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("platform").required(true).args(["quote", "fmspc"])))]
pub(super) struct FetchArguments {
    #[command(flatten)]
    common: Common,
    /// A quote of the platform: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    /// The platform's FMSPC, twelve hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "ca")]
    fmspc: Option<String>,
    /// The CA that certified the platform: `platform` or `processor`.
    #[arg(long, value_name = "CA", requires = "fmspc")]
    ca: Option<PckCa>,
    /// Where to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Ask the sources even if the cache has it.
    #[arg(long)]
    no_cache: bool,
}

#[derive(Args)]
pub(super) struct RimArguments {
    #[command(flatten)]
    common: Common,
    /// NVIDIA's id of a RIM. Repeatable.
    #[arg(long, value_name = "ID", required_unless_present = "evidence")]
    id: Vec<RimId>,
    /// Evidence of a machine's GPUs (JSON); fetches the RIMs of their drivers and VBIOSes.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// A directory for the files `ID.xml`. Created if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ask the sources even if the cache has it.
    #[arg(long)]
    no_cache: bool,
}

/// Runs a command; `false` is a failure that has been printed already.
pub(super) async fn run(
    command: CollateralCommand,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<bool, Error> {
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
        () = stop => Err(Error::new(Fault::Configuration, "stopped by a signal; no incomplete file was left")),
    }
}

async fn run_service(
    common: &Common,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let (listen, served) = serve(CollateralConfig::read(&common.config)?, stop).await?;
    announce(common.json, listen, None, "collateral");
    served.await.context(Fault::Host, || "serving")
}

async fn fetch(arguments: &FetchArguments) -> Result<(), Error> {
    let platform = match (&arguments.quote, &arguments.fmspc, arguments.ca) {
        (Some(path), _, _) => platform_of(path)?,
        (None, Some(fmspc), Some(ca)) => Platform {
            fmspc: Platform::fmspc_from_hex(fmspc).context(Fault::Configuration, || "--fmspc")?,
            ca,
        },
        _ => {
            let words = "name the platform by --quote, or by --fmspc and --ca";
            return Err(Error::new(Fault::Configuration, words));
        }
    };
    let cache = open_cache(&arguments.common.config)?;
    let key = CollateralKey::Tdx(platform);
    let document = get(&cache, &key, arguments.no_cache).await?;
    let Some(out) = &arguments.out else {
        let written = std::io::stdout().write_all(&document.body);
        return written.context(Fault::Host, || "writing to stdout");
    };
    write(out, &document.body)?;
    let mut line = about(&document);
    line["fmspc"] = hex::encode_upper(platform.fmspc).into();
    line["ca"] = platform.ca.to_string().into();
    line["out"] = out.display().to_string().into();
    let what = format!("{} for {platform}", out.display());
    report(&arguments.common, &line, &what, &document);
    Ok(())
}

async fn rim(arguments: &RimArguments) -> Result<bool, Error> {
    let cache = open_cache(&arguments.common.config)?;
    std::fs::create_dir_all(&arguments.out).context(Fault::Host, || {
        format!("creating {}", arguments.out.display())
    })?;
    let mut ids = arguments.id.clone();
    if let Some(path) = &arguments.evidence {
        ids.extend(rims_of(path)?);
    }
    ids.sort();
    ids.dedup();
    let mut all = true;
    for id in &ids {
        match get(&cache, &CollateralKey::Rim(id.clone()), arguments.no_cache).await {
            Ok(document) => {
                let out = arguments.out.join(format!("{id}.xml"));
                let xml = rim_document(&document.body);
                write(&out, &xml.context(Fault::CollateralSource, || id.clone())?)?;
                let mut line = about(&document);
                line["id"] = id.as_str().into();
                line["out"] = out.display().to_string().into();
                report(
                    &arguments.common,
                    &line,
                    &out.display().to_string(),
                    &document,
                );
            }
            Err(error) => {
                eprintln!("host-proxy: {}: {error}", error.fault);
                if arguments.common.json {
                    let (words, fault) = (error.to_string(), error.fault.to_string());
                    println!(
                        "{}",
                        json!({ "error": words, "fault": fault, "id": id.as_str() })
                    );
                }
                all = false;
            }
        }
    }
    Ok(all)
}

async fn get(
    cache: &CollateralCache,
    key: &CollateralKey,
    no_cache: bool,
) -> Result<Document, Error> {
    let document = match no_cache {
        true => cache.get_fresh(key).await,
        false => cache.get(key).await,
    };
    document.map_err(|error| Error::new(Fault::CollateralSource, error.to_string()))
}

fn about(document: &Document) -> Value {
    json!({
        "source": document.source,
        "fetched_unix_s": document.fetched_unix_s,
        "expires_unix_s": document.expires_unix_s,
    })
}

fn report(common: &Common, line: &Value, what: &str, document: &Document) {
    if common.json {
        println!("{line}");
    } else {
        let (source, expires) = (&document.source, document.expires_unix_s);
        eprintln!("{what}: from {source}, expires at {expires} (Unix time)");
    }
}

fn open_cache(path: &Path) -> Result<CollateralCache, Error> {
    CollateralCache::open(
        &CollateralConfig::read(path)?,
        CollateralCache::system_clock(),
    )
}

/// The RIMs that these GPUs need. Nothing is verified but what the library verifies before it reads a report.
fn rims_of(path: &Path) -> Result<Vec<RimId>, Error> {
    let evidence = || format!("GPU evidence {}", path.display());
    let bytes = read_file(path, GPU_BUNDLE_BYTES_MAX as u64)?;
    let bundle = GpuBundle::from_json(&bytes).context(Fault::Configuration, evidence)?;
    let policy = GpuPolicy {
        roots: &GpuRoots::NVIDIA,
        at_unix_s: now_unix_s(),
        nonce: GpuNonce::InsecureAny,
        revocation: Revocation::InsecureUnchecked,
    };
    let gpus = inspect_bundle(&bundle, &policy).context(Fault::Configuration, evidence)?;
    let ids = gpus
        .iter()
        .flat_map(|gpu| [gpu.fields.driver_rim_id(), gpu.fields.vbios_rim_id()]);
    let ids: Result<_, _> = ids.map(|id| id.parse::<RimId>()).collect();
    ids.context(Fault::Configuration, evidence)
}

fn platform_of(path: &Path) -> Result<Platform, Error> {
    let file = read_file(path, QUOTE_FILE_BYTES_MAX as u64)?;
    let quote = || format!("quote {}", path.display());
    let bytes = quote_in_file(&file)
        .map_err(|error| Error::new(Fault::Configuration, format!("{} {error}", path.display())))?;
    let parsed = Quote::parse(&bytes).context(Fault::Configuration, quote)?;
    Platform::of(&parsed).context(Fault::Configuration, quote)
}

/// Writes a file whole or not at all: a proxy may be reading it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
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
    written.context(Fault::Host, || format!("writing {}", path.display()))
}
