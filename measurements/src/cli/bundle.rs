//! `measurements bundle`: a quote and everything that it is judged by, in one file.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use diagnose::{
    Source,
    bundle::{
        Appraised, At, Bundle, BundleRefusal, Expected, GpuParts, Gpus, LabelledRim, Log, SaidBy,
        VERSION,
    },
};
use gpu::{GpuEvidence, GpuNonce, GpuRoots, Rim};
use registers::{Digest32, ReportData};
use serde_json::{Map, Value, json};

use super::{
    files_in,
    gpu::{evidence_json, gpu_json, nonce_of},
    now_unix_s, print, print_json, print_table,
    quote::{RootArgument, facts, read_policy},
    quote_file::{read_collateral, read_quote},
    read_bounded,
    replay::read_log_file,
    time::Moment,
    write_whole,
};

#[derive(Subcommand)]
pub(crate) enum BundleCommand {
    /// Put a quote and everything needed to judge it into one file.
    ///
    /// Every part must be readable, but nothing is verified. The bundle records the time of this machine's clock, which
    /// nothing proves.
    ///
    /// Example:
    ///   measurements bundle make --quote quote.bin --collateral collateral.json --manifest manifest.json \
    ///     --event-log ccel.bin --event-log events.json --out evidence.bundle
    /// Example, with GPUs:
    ///   … --gpu-evidence gpus.json --rim rims/ --ocsp ocsp/
    #[command(verbatim_doc_comment)]
    Make(MakeArguments),
    /// Judge a bundle, offline.
    ///
    /// Every part that is present must hold: quote and collateral as in `quote verify`, logs that replay to the quote's
    /// registers, GPUs as in `gpu verify`. The bundle's manifest, report data and time are its maker's claims. They are
    /// compared with the quote, but a peer is verified only by what you name: --manifest or --policy, --report-data, a time.
    ///
    /// Example, now:
    ///   measurements bundle verify --bundle evidence.bundle --manifest manifest.json --report-data 5a5a…
    /// Example, whether it is consistent, at the time that its maker states:
    ///   measurements bundle verify --bundle evidence.bundle --at made
    ///
    /// Exit code 0: every part holds. 1: refused, or failed. 2: wrong arguments.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
}

#[derive(Args)]
pub(crate) struct MakeArguments {
    /// The quote: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// The collateral: what Intel signs about the platform, as JSON.
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// The manifest of expected registers.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// An event log: a firmware's (CCEL), a dstack guest's, or runtime events. Repeatable; replayed in this order.
    #[arg(long, value_name = "FILE")]
    event_log: Vec<PathBuf>,
    /// NVIDIA's JSON list of GPUs; with --gpu-chain, one report in hexadecimal, base64 or binary.
    #[arg(long, value_name = "FILE")]
    gpu_evidence: Option<PathBuf>,
    /// The certificates of one report, PEM or PEM in base64, leaf first.
    #[arg(long, value_name = "FILE", requires = "gpu_evidence")]
    gpu_chain: Option<PathBuf>,
    /// A directory with RIMs (.xml, .swidtag), or one RIM.
    #[arg(long, value_name = "DIR", requires = "gpu_evidence")]
    rim: Vec<PathBuf>,
    /// A directory with OCSP responses (.der, .ocsp).
    #[arg(long, value_name = "DIR", requires = "gpu_evidence")]
    ocsp: Option<PathBuf>,
    /// The report data that the quote contains, as 128 lower-case hex digits.
    #[arg(long, value_name = "HEX")]
    report_data: Option<ReportData>,
    /// Where to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The bundle.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The manifest of expected registers. Without it the bundle's is used, and nobody is verified.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The policy: what to accept of guest and platform. If it lists no registers, the bundle's manifest is used.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The report data that the quote must contain, as 128 hex digits. Without it the bundle's is used, and nobody is
    /// verified.
    #[arg(long, value_name = "HEX")]
    report_data: Option<ReportData>,
    /// The nonce that the GPUs' evidence must contain. Without it any nonce is accepted, and so is old evidence.
    #[arg(long, value_name = "HEX")]
    gpu_nonce: Option<String>,
    #[command(flatten)]
    root: RootArgument,
    /// Judge at this time instead of now: `made` (the time that the bundle states), 2025-06-19T12:00:00Z, or seconds since
    /// 1970.
    #[arg(long, value_name = "made|RFC3339")]
    at: Option<When>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `--at` names.
#[derive(Clone, Copy)]
enum When {
    Made,
    Moment(Moment),
}

impl FromStr for When {
    type Err = <Moment as FromStr>::Err;
    fn from_str(text: &str) -> Result<When, Self::Err> {
        match text {
            "made" => Ok(When::Made),
            other => other.parse().map(When::Moment),
        }
    }
}

/// Whether the bundle was written, or every part of it holds.
pub(crate) fn run(command: &BundleCommand) -> anyhow::Result<bool> {
    match command {
        BundleCommand::Make(arguments) => make(arguments),
        BundleCommand::Verify(arguments) => check(arguments),
    }
}

fn make(arguments: &MakeArguments) -> anyhow::Result<bool> {
    let manifest = arguments.manifest.as_deref();
    let bundle = Bundle {
        version: VERSION,
        made_unix_s: now_unix_s()?,
        quote: read_quote(&arguments.quote)?,
        collateral: read_collateral(&arguments.collateral)?.0,
        manifest: manifest
            .map(|path| read_bounded(path, attest::limits::MANIFEST_BYTES_MAX))
            .transpose()?,
        event_logs: arguments
            .event_log
            .iter()
            .map(|path| read_log(path))
            .collect::<anyhow::Result<_>>()?,
        gpus: arguments
            .gpu_evidence
            .as_deref()
            .map(|path| read_gpus(path, arguments))
            .transpose()?,
        report_data: arguments.report_data.map(|bound| bound.0),
    };
    bundle.check_parts()?;
    let bytes = bundle.to_cbor()?;
    write_whole(&arguments.out, &bytes)?;
    let made = Moment {
        unix_s: bundle.made_unix_s,
    };
    eprintln!(
        "bundle {}: made {made}, {NOT_ANCHORED}",
        Digest32::of(&bytes)
    );
    Ok(true)
}

fn read_log(path: &Path) -> anyhow::Result<Log> {
    Log::detect(read_log_file(path)?).with_context(|| format!("reading {}", path.display()))
}

fn read_gpus(path: &Path, arguments: &MakeArguments) -> anyhow::Result<GpuParts> {
    let evidence = read_bounded(path, gpu::limits::GPU_BUNDLE_BYTES_MAX)?;
    let evidence = match &arguments.gpu_chain {
        None => evidence,
        Some(chain) => {
            let chain = read_bounded(chain, gpu::limits::GPU_CHAIN_BYTES_MAX)?;
            listed(&evidence, &chain).with_context(|| format!("reading {}", path.display()))?
        }
    };
    let responses = match &arguments.ocsp {
        None => Vec::new(),
        Some(directory) => files_in(directory, &["der", "ocsp"])?,
    };
    let ocsp = responses
        .iter()
        .map(|path| read_bounded(path, gpu::limits::GPU_OCSP_BYTES_MAX))
        .collect::<anyhow::Result<_>>()?;
    Ok(GpuParts {
        evidence,
        rims: read_rims(&arguments.rim)?,
        ocsp,
    })
}

/// One report and its certificates in the form that NVIDIA's list has, the only one in a bundle.
fn listed(report: &[u8], chain: &[u8]) -> anyhow::Result<Vec<u8>> {
    let report = attest::bytes_of_text(report);
    let evidence = GpuEvidence::from_report(&report, chain)?;
    let certificate = match chain.trim_ascii_start().starts_with(b"-----BEGIN") {
        true => STANDARD.encode(chain),
        false => String::from_utf8(chain.to_vec()).context("the certificates are no text")?,
    };
    let list = json!([{
        "arch": "HOPPER",
        "nonce": hex::encode(evidence.nonce()),
        "evidence": STANDARD.encode(report),
        "certificate": certificate,
    }]);
    Ok(list.to_string().into_bytes())
}

/// In a directory, files that cannot be read as RIMs are said and left aside: NVIDIA publishes others beside those of Hopper. A
/// file that was named goes in, or nothing is written.
fn read_rims(paths: &[PathBuf]) -> anyhow::Result<Vec<LabelledRim>> {
    let mut rims = Vec::new();
    for path in paths {
        if !path.is_dir() {
            rims.push(read_rim(path)?);
            continue;
        }
        for path in files_in(path, &["xml", "swidtag"])? {
            let rim = read_rim(&path)?;
            match Rim::parse(&rim.label, &rim.xml) {
                Ok(_) => rims.push(rim),
                Err(error) => eprintln!("left aside: {}: {error}", path.display()),
            }
        }
    }
    if rims.is_empty() && !paths.is_empty() {
        bail!("no file of --rim is a RIM");
    }
    Ok(rims)
}

fn read_rim(path: &Path) -> anyhow::Result<LabelledRim> {
    let label = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(LabelledRim {
        label: label.into_owned(),
        xml: read_bounded(path, gpu::limits::GPU_RIM_BYTES_MAX)?,
    })
}

fn check(arguments: &VerifyArguments) -> anyhow::Result<bool> {
    let bytes = read_bounded(&arguments.bundle, diagnose::limits::BUNDLE_BYTES_MAX)?;
    let bundle = Bundle::from_cbor(&bytes)
        .with_context(|| format!("reading {}", arguments.bundle.display()))?;
    let policy = read_policy(arguments.policy.as_deref(), arguments.manifest.as_deref())?;
    let root = arguments.root.read()?;
    let at = match arguments.at {
        None => At::Time(now_unix_s()?),
        Some(When::Moment(moment)) => At::Time(moment.unix_s),
        Some(When::Made) => At::Made,
    };
    let expected = Expected {
        policy: policy.as_ref(),
        report_data: arguments.report_data.as_ref(),
        gpu_nonce: match &arguments.gpu_nonce {
            None => GpuNonce::InsecureAny,
            Some(nonce) => GpuNonce::Expected(nonce_of(nonce)?),
        },
        root: &root,
        gpu_roots: &GpuRoots::NVIDIA,
        at,
    };
    let outcome = bundle.appraise(&expected);
    let mut fields = about(&bundle, &bytes, &expected);
    let good = outcome.is_ok();
    match outcome {
        Ok(appraised) => {
            fields.append(&mut held(&appraised));
            show(&fields, arguments.json)?;
            remarks(&appraised, &expected);
        }
        Err(refusal) => {
            fields.append(&mut refused(&refusal));
            show(&fields, arguments.json)?;
            eprintln!("refused: {refusal}");
        }
    }
    eprintln!("{NOT_ANCHORED}");
    Ok(good)
}

/// What is so whatever the outcome.
fn about(bundle: &Bundle, bytes: &[u8], expected: &Expected<'_>) -> Map<String, Value> {
    let moment = |unix_s| Moment { unix_s }.to_string();
    let (judged_unix_s, by) = match expected.at {
        At::Time(unix_s) => (unix_s, SaidBy::Verifier),
        At::Made => (bundle.made_unix_s, SaidBy::Maker),
    };
    object(json!({
        "bundle_sha256": Digest32::of(bytes),
        "made": moment(bundle.made_unix_s),
        "anchored": false,
        "judged_at": moment(judged_unix_s),
        "judged_at_from": said_by(by),
        "root": expected.root.class().to_string(),
        "gpu_root": bundle.gpus.as_ref().map(|_| expected.gpu_roots.class().to_string()),
        "manifest_sha256": bundle.manifest.as_deref().map(Digest32::of),
    }))
}

fn held(appraised: &Appraised) -> Map<String, Value> {
    let at = Moment {
        unix_s: appraised.at_unix_s,
    };
    let verified = appraised.is_verified();
    object(json!({
        "outcome": if verified { "verified" } else { "inspected" },
        "verified": verified,
        "manifest_from": said_by(appraised.manifest_from),
        "report_data_from": said_by(appraised.report_data_from),
        "guest": facts(appraised.guest.peer(), at),
        "event_logs": appraised.event_logs.iter().copied().map(log).collect::<Vec<_>>(),
        "gpus": appraised.gpus.as_ref().map(|gpus| gpus_json(gpus, appraised.gpu_nonce)),
    }))
}

fn refused(refusal: &BundleRefusal) -> Map<String, Value> {
    object(json!({
        "outcome": "refused",
        "verified": false,
        "refusal": refusal.to_string(),
    }))
}

fn gpus_json(gpus: &Gpus, nonce: GpuNonce) -> Value {
    let (each, compared): (Vec<Value>, bool) = match gpus {
        Gpus::Verified(gpus) => (gpus.iter().map(gpu_json).collect(), true),
        Gpus::Inspected(gpus) => {
            let each = gpus.iter().map(|gpu| evidence_json(gpu).into());
            (each.collect(), false)
        }
    };
    json!({
        "compared_with_rims": compared,
        "nonce_checked": nonce != GpuNonce::InsecureAny,
        "revocation_checked": revocation_checked(gpus),
        "each": each,
    })
}

fn revocation_checked(gpus: &Gpus) -> bool {
    match gpus {
        Gpus::Verified(gpus) => gpus.iter().all(|gpu| gpu.evidence.revocation_checked),
        Gpus::Inspected(gpus) => gpus.iter().all(|gpu| gpu.revocation_checked),
    }
}

fn show(fields: &Map<String, Value>, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(&Value::Object(fields.clone()));
    }
    let flat: Vec<(&str, Value)> = fields
        .iter()
        .filter(|(_, value)| !value.is_null() && !value.is_object())
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    print_table(&flat)?;
    for (name, value) in fields {
        let Value::Object(inner) = value else {
            continue;
        };
        print(format!("\n{name}\n").as_bytes())?;
        let inner: Vec<_> = inner
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        print_table(&inner)?;
    }
    Ok(())
}

/// The verdict, and whose word it rests on.
fn remarks(appraised: &Appraised, expected: &Expected<'_>) {
    match appraised.is_verified() {
        true => eprintln!(
            "verified: every part holds, and the quote comes from the guest that you named, while no attestation key is extracted"
        ),
        false => eprintln!("NOT VERIFIED: every part holds, and nobody is verified by that"),
    }
    match appraised.manifest_from {
        SaidBy::Verifier => {}
        SaidBy::Maker => eprintln!(
            "the manifest came from the bundle itself: which guest it should be is its maker's word (--manifest, --policy)"
        ),
        SaidBy::Nobody => eprintln!("the registers were compared with no manifest"),
    }
    match appraised.report_data_from {
        SaidBy::Verifier => {}
        SaidBy::Maker => eprintln!(
            "the report data came from the bundle itself: this may be an old quote, or another verifier's (--report-data)"
        ),
        SaidBy::Nobody => eprintln!("the report data was compared with nothing"),
    }
    if expected.at == At::Made {
        eprintln!("judged at a time that is its maker's word (--at made): it can be any");
    }
    if let Some(gpus) = &appraised.gpus {
        gpu_remarks(gpus, appraised.gpu_nonce);
    }
}

fn gpu_remarks(gpus: &Gpus, nonce: GpuNonce) {
    match gpus {
        Gpus::Inspected(_) => eprintln!(
            "GPUs: no RIM is in the bundle, so no measurement was compared; what firmware runs is unknown"
        ),
        Gpus::Verified(_) => eprintln!(
            "GPUs: they measured what NVIDIA's RIMs say; not which machine they are in, nor whether confidential computing is on"
        ),
    }
    if nonce == GpuNonce::InsecureAny {
        eprintln!(
            "GPUs: the nonce was not checked (--gpu-nonce): this may be old evidence, or another verifier's"
        );
    }
    if !revocation_checked(gpus) {
        eprintln!("GPUs: revocation was not checked: no OCSP response is in the bundle");
    }
}

fn said_by(word: SaidBy) -> &'static str {
    match word {
        SaidBy::Verifier => "verifier",
        SaidBy::Maker => "bundle",
        SaidBy::Nobody => "nobody",
    }
}

fn log(source: Source) -> &'static str {
    match source {
        Source::Ccel => "ccel",
        Source::Tpm => "tpm",
        Source::Dstack => "dstack",
        Source::Runtime => "runtime",
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Nothing in version 1 shows that a bundle existed at a time.
const NOT_ANCHORED: &str = "not anchored: the time it says it was made is its maker's word";
