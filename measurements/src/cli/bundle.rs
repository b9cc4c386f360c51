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
        Appraised, At, Binding, Bundle, BundleRefusal, Expected, GpuParts, GpuRevocation, Gpus,
        LabelledRim, Log, SaidBy, VERSION,
    },
};
use gpu::{GpuEvidence, GpuNonce, GpuRoots, Rim};
use registers::{Digest32, ReportData};
use serde_json::{Map, Value, json};

use super::{
    Misuse, bundle_file,
    bundle_file::BundleFile,
    files_in,
    gpu::{Bytes32, evidence_json, gpu_json, hex32},
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
    /// It also reads the evidence of a worker as `GET /v1/attestation` of a client's endpoint hands it out, which has its keyset:
    ///   measurements bundle verify --bundle attestation.json --manifest manifest.json --nonce 5a5a…
    ///
    /// GPUs are verified only for a --nonce that the quote binds with their evidence, and by OCSP responses in the bundle.
    ///
    /// Exit code 0: verified. 1: nobody is verified, refused, or failed. 2: wrong arguments.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
    /// Judge a bundle as `verify` does, and accept that nobody is verified.
    ///
    /// Example, whether it is consistent, at the time that its maker states:
    ///   measurements bundle inspect --bundle evidence.bundle --at made
    ///
    /// Exit code 0: every part holds. 1: refused, or failed. 2: wrong arguments.
    #[command(verbatim_doc_comment)]
    Inspect(VerifyArguments),
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
    #[arg(long, value_name = "HEX", conflicts_with_all = ["nonce", "keyset"])]
    report_data: Option<ReportData>,
    /// The nonce that you asked with, which the quote must bind together with a keyset and the GPUs' evidence.
    #[arg(long, value_name = "HEX", value_parser = hex32)]
    nonce: Option<Bytes32>,
    /// The digest of the keyset that the quote must bind [default: of the keyset in a worker's evidence]
    #[arg(long, value_name = "HEX", value_parser = hex32, requires = "nonce")]
    keyset: Option<Bytes32>,
    /// The nonce that the GPUs' evidence must contain [default: --nonce]. Without both any is accepted, and so is old evidence.
    #[arg(long, value_name = "HEX", value_parser = hex32)]
    gpu_nonce: Option<Bytes32>,
    /// Accept GPUs although the bundle has no OCSP response about them: they may have been revoked.
    #[arg(long)]
    insecure_gpu_revocation_unchecked: bool,
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
        BundleCommand::Verify(arguments) => Ok(check(arguments)? == Some(true)),
        BundleCommand::Inspect(arguments) => Ok(check(arguments)?.is_some()),
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

/// Whether somebody is verified; `None` if a part does not hold.
fn check(arguments: &VerifyArguments) -> anyhow::Result<Option<bool>> {
    let file = bundle_file::read(&arguments.bundle)?;
    let bundle = &file.bundle;
    let policy = read_policy(arguments.policy.as_deref(), arguments.manifest.as_deref())?;
    let root = arguments.root.read()?;
    let at = match arguments.at {
        None => At::Time(now_unix_s()?),
        Some(When::Moment(moment)) => At::Time(moment.unix_s),
        Some(When::Made) if file.keyset.is_some() => {
            let words = "--at made: the evidence of a worker does not say when it was made";
            return Err(Misuse(words.into()).into());
        }
        Some(When::Made) => At::Made,
    };
    let expected = Expected {
        policy: policy.as_ref(),
        report_data: binding(arguments, file.keyset)?,
        gpu_nonce: { arguments.gpu_nonce.or(arguments.nonce) }
            .map_or(GpuNonce::InsecureAny, GpuNonce::Expected),
        gpu_revocation: match arguments.insecure_gpu_revocation_unchecked {
            true => GpuRevocation::InsecureUnchecked,
            false => GpuRevocation::Checked,
        },
        root: &root,
        gpu_roots: &GpuRoots::NVIDIA,
        at,
    };
    let outcome = bundle.appraise(&expected);
    let mut fields = about(&file, &expected);
    let verified = outcome.as_ref().ok().map(Appraised::is_verified);
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
    if file.keyset.is_some() {
        eprintln!(
            "whose keyset it is was not judged: `chrysalis verify` checks the payee's endorsement"
        );
    }
    eprintln!("{NOT_ANCHORED}");
    Ok(verified)
}

/// What the quote must bind, in the verifier's words.
fn binding(
    arguments: &VerifyArguments,
    of_worker: Option<Digest32>,
) -> anyhow::Result<Option<Binding>> {
    if let Some(report_data) = arguments.report_data {
        return Ok(Some(Binding::Exactly(report_data)));
    }
    let Some(nonce) = arguments.nonce else {
        return Ok(None);
    };
    let digest = arguments.keyset.or(of_worker.map(|digest| digest.0));
    let digest = digest.ok_or_else(|| {
        let words = "--nonce: the bundle has no keyset, so name its digest by --keyset";
        Misuse(words.into())
    })?;
    Ok(Some(Binding::Keyset { digest, nonce }))
}

/// What is so whatever the outcome.
fn about(file: &BundleFile, expected: &Expected<'_>) -> Map<String, Value> {
    let bundle = &file.bundle;
    let moment = |unix_s| Moment { unix_s }.to_string();
    let (judged_unix_s, by) = match expected.at {
        At::Time(unix_s) => (unix_s, SaidBy::Verifier),
        At::Made => (bundle.made_unix_s, SaidBy::Maker),
    };
    object(json!({
        "bundle_sha256": Digest32::of(&file.bytes),
        "keyset": file.keyset,
        "made": file.keyset.is_none().then(|| moment(bundle.made_unix_s)),
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
        "gpus": appraised.gpus.as_ref().map(|gpus| gpus_json(gpus, appraised)),
    }))
}

fn refused(refusal: &BundleRefusal) -> Map<String, Value> {
    object(json!({
        "outcome": "refused",
        "verified": false,
        "refusal": refusal.to_string(),
    }))
}

fn gpus_json(gpus: &Gpus, appraised: &Appraised) -> Value {
    let (each, compared): (Vec<Value>, bool) = match gpus {
        Gpus::Verified(gpus) => (gpus.iter().map(gpu_json).collect(), true),
        Gpus::Inspected(gpus) => {
            let each = gpus.iter().map(|gpu| evidence_json(gpu).into());
            (each.collect(), false)
        }
    };
    json!({
        "compared_with_rims": compared,
        "nonce_checked": appraised.gpu_nonce != GpuNonce::InsecureAny,
        "bound_by_quote": appraised.gpus_bound,
        "revocation_checked": gpus.revocation_checked(),
        "each": each,
    })
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
        gpu_remarks(gpus, appraised);
    }
}

fn gpu_remarks(gpus: &Gpus, appraised: &Appraised) {
    match gpus {
        Gpus::Inspected(_) => eprintln!(
            "GPUs: no RIM is in the bundle, so no measurement was compared; what firmware runs is unknown"
        ),
        Gpus::Verified(_) => eprintln!(
            "GPUs: they measured what NVIDIA's RIMs say; not which machine they are in, nor whether confidential computing is on"
        ),
    }
    if !appraised.gpus_bound {
        eprintln!(
            "GPUs: whether the quote binds their evidence was not checked (--nonce, --keyset): they may be another machine's"
        );
    }
    if appraised.gpu_nonce == GpuNonce::InsecureAny {
        eprintln!(
            "GPUs: the nonce was not checked (--gpu-nonce): this may be old evidence, or another verifier's"
        );
    }
    if !gpus.revocation_checked() {
        eprintln!(
            "GPUs: revocation was not checked: no OCSP response is in the bundle (--insecure-gpu-revocation-unchecked accepts that)"
        );
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
