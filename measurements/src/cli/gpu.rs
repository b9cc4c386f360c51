//! `measurements gpu`: evidence of NVIDIA GPUs, from files.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, Subcommand};
use gpu::{
    Gpu, GpuBundle, GpuBundleRefusal, GpuEvidence, GpuNonce, GpuPolicy, GpuRefusal, GpuRootClass,
    GpuRoots, Inspected, Mismatch, OcspNonce, OcspResponses, Revocation, Rim, RimUsed,
    inspect_bundle, verify_bundle,
};
use serde_json::{Map, Value, json};

use super::{files_in, print, print_json, print_table, read_bounded, time::Moment};

#[derive(Subcommand)]
pub enum GpuCommand {
    /// Verify that Hopper GPUs (H100, H200) run firmware that NVIDIA signed.
    ///
    /// Checks, offline: certificate chain to NVIDIA's root, signature of the report, firmware digest in both, nonce, the RIMs of
    /// driver and VBIOS (chain, digest, signature), and every measurement that they list. RIMs are signed with certificates
    /// valid for two years, so pass the time when the evidence was received as --at.
    ///
    /// Example, NVIDIA's JSON of one or more GPUs:
    ///   measurements gpu verify --evidence gpus.json --rim rims/ --nonce 931d8dd0… --at 2025-06-19T12:00:00Z
    /// Example, a report in hex and its certificates:
    ///   measurements gpu verify --evidence report.txt --chain chain.pem --rim rims/
    /// Example, without RIMs, which verifies nothing about firmware:
    ///   measurements gpu verify --evidence gpus.json --no-rim
    ///
    /// Exit code 0: verified (with --no-rim: chain and signature hold). 1: refused, or failed. 2: wrong arguments.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
}

#[derive(Args)]
#[command(group(ArgGroup::new("reference").args(["rim", "no_rim"]).required(true)))]
pub struct VerifyArguments {
    /// NVIDIA's JSON list of GPUs; with --chain, one report in hexadecimal, base64 or binary.
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
    /// The certificates of one report, PEM or PEM in base64, leaf first.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// A directory with RIMs (.xml, .swidtag), or one RIM. A file named after one of NVIDIA's ids is used for that board only.
    #[arg(long, value_name = "DIR")]
    rim: Vec<PathBuf>,
    /// Check only chain, signature and fields, and compare no measurement. Nothing about the firmware is verified then.
    #[arg(long)]
    no_rim: bool,
    /// The nonce that the evidence must contain. Without it any nonce is accepted, and so is old evidence.
    #[arg(long, value_name = "HEX", value_parser = hex32)]
    nonce: Option<Bytes32>,
    /// A directory with OCSP responses (.der, .ocsp) about every certificate except leaf and root. Without it revocation is
    /// not checked.
    #[arg(long, value_name = "DIR")]
    ocsp: Option<PathBuf>,
    /// The nonce that the OCSP responses must contain. Without it any nonce is accepted.
    #[arg(long, value_name = "HEX", requires = "ocsp")]
    ocsp_nonce: Option<String>,
    /// Judge at this time instead of now.
    #[arg(long, value_name = "RFC3339")]
    at: Option<Moment>,
    /// Trust this root of devices (DER) in place of NVIDIA's. Nothing under it is confidential.
    #[arg(long, value_name = "FILE", requires = "insecure_test_rim_root")]
    insecure_test_device_root: Option<PathBuf>,
    /// Trust this root of RIMs (DER) in place of NVIDIA's.
    #[arg(long, value_name = "FILE", requires = "insecure_test_device_root")]
    insecure_test_rim_root: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What came out, for both ways to print it.
struct Outcome {
    verified: bool,
    /// Chains, signatures and the rest held.
    good: bool,
    gpus: Vec<Value>,
    refusal: Option<String>,
}

/// Whether the GPUs are verified, or with `--no-rim` at least signed.
pub fn verify(arguments: &VerifyArguments) -> anyhow::Result<bool> {
    let bundle = read_evidence(arguments)?;
    let roots = read_roots(arguments)?;
    let responses = read_ocsp(arguments)?;
    let at = Moment::or_now(arguments.at)?;
    let policy = GpuPolicy {
        roots: &roots,
        at_unix_s: at.unix_s,
        nonce: arguments
            .nonce
            .map_or(GpuNonce::InsecureAny, GpuNonce::Expected),
        revocation: match &responses {
            None => Revocation::InsecureUnchecked,
            Some(responses) => Revocation::Ocsp(responses),
        },
    };
    let outcome = match arguments.no_rim {
        true => inspected(&bundle, &policy),
        false => verified(&bundle, &read_rims(&arguments.rim)?, &policy),
    };
    show(&outcome, &policy, arguments)?;
    Ok(outcome.good)
}

fn verified(bundle: &GpuBundle, rims: &[Rim], policy: &GpuPolicy<'_>) -> Outcome {
    match verify_bundle(bundle, rims, policy) {
        Ok(gpus) => Outcome {
            verified: true,
            good: true,
            gpus: gpus.iter().map(gpu_json).collect(),
            refusal: None,
        },
        Err(refusal) => refused(&refusal),
    }
}

fn inspected(bundle: &GpuBundle, policy: &GpuPolicy<'_>) -> Outcome {
    match inspect_bundle(bundle, policy) {
        Ok(gpus) => Outcome {
            verified: false,
            good: true,
            gpus: gpus.iter().map(|gpu| evidence_json(gpu).into()).collect(),
            refusal: None,
        },
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &GpuBundleRefusal) -> Outcome {
    let gpus = match refusal {
        GpuBundleRefusal::Gpus(gpus) => gpus.iter().map(refusal_json).collect(),
        _ => Vec::new(),
    };
    Outcome {
        verified: false,
        good: false,
        gpus,
        refusal: Some(refusal.to_string()),
    }
}

fn show(
    outcome: &Outcome,
    policy: &GpuPolicy<'_>,
    arguments: &VerifyArguments,
) -> anyhow::Result<()> {
    if arguments.json {
        print_json(&json!({
            "verified": outcome.verified,
            "compared_with_rims": !arguments.no_rim,
            "nonce_checked": arguments.nonce.is_some(),
            "revocation_checked": arguments.ocsp.is_some(),
            "at": Moment { unix_s: policy.at_unix_s }.to_string(),
            "root": policy.roots.class().to_string(),
            "refusal": outcome.refusal,
            "gpus": outcome.gpus,
        }))?;
    } else if outcome.good {
        for (position, gpu) in outcome.gpus.iter().enumerate() {
            print(format!("GPU {position}\n").as_bytes())?;
            if let Value::Object(fields) = gpu {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(k, v)| (k.as_str(), v.clone()))
                    .collect();
                print_table(&fields)?;
            }
        }
    }
    remarks(outcome, policy, arguments);
    Ok(())
}

/// The verdict, and all that was not checked.
fn remarks(outcome: &Outcome, policy: &GpuPolicy<'_>, arguments: &VerifyArguments) {
    if let Some(refusal) = &outcome.refusal {
        eprintln!("refused: {refusal}");
        return;
    }
    if arguments.no_rim {
        eprintln!(
            "NOT VERIFIED: no measurement was compared (--no-rim). Chain and signature hold; what firmware runs is unknown."
        );
    } else {
        eprintln!(
            "verified: the GPUs measured what NVIDIA's RIMs say, while no attestation key is extracted; not which machine they are in, nor \
             whether confidential computing is on"
        );
    }
    if arguments.nonce.is_none() {
        eprintln!(
            "the nonce was not checked (--nonce): this may be old evidence, or another verifier's"
        );
    }
    if arguments.ocsp.is_none() {
        eprintln!("revocation was not checked (--ocsp)");
    }
    if policy.roots.class() == GpuRootClass::InsecureTest {
        eprintln!("under test roots: nothing about these GPUs is confidential");
    }
}

pub(crate) fn evidence_json(gpu: &Inspected) -> Map<String, Value> {
    let fields = &gpu.fields;
    let switch = |on: Option<bool>| on.map(|on| if on { "on" } else { "off" });
    let fields = json!({
        "device": gpu.device,
        "device_key_sha256": gpu.device_key,
        "report_key_sha256": gpu.report_key,
        "report_sha256": gpu.report,
        "nonce": hex::encode(gpu.nonce),
        "driver": fields.driver_version,
        "driver_rim": fields.driver_rim_id(),
        "vbios": fields.vbios_version,
        "vbios_rim": fields.vbios_rim_id(),
        "firmware": fields.firmware,
        "feature": fields.feature.map(|feature| feature.to_string()),
        "protected_pcie": switch(fields.protected_pcie),
        "video_decoder": switch(fields.video_decoder),
        "opaque_version": fields.opaque_version,
        "measurements": gpu.measurements,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

pub(crate) fn gpu_json(gpu: &Gpu) -> Value {
    let mut fields = evidence_json(&gpu.evidence);
    let used = |rim: &RimUsed| json!({ "file": rim.label, "tag_id": rim.tag_id, "version": rim.version, "sha256": rim.digest });
    fields.insert("driver_rim_used".into(), used(&gpu.driver_rim));
    fields.insert("vbios_rim_used".into(), used(&gpu.vbios_rim));
    fields.insert("matched".into(), gpu.matched.clone().into());
    fields.insert("skipped".into(), gpu.skipped.clone().into());
    let expires = Moment {
        unix_s: gpu.expires_unix_s,
    };
    fields.insert("expires".into(), expires.to_string().into());
    fields.into()
}

fn refusal_json((position, refusal): &(usize, GpuRefusal)) -> Value {
    let mismatches = match refusal {
        GpuRefusal::Measurements(mismatches) => mismatches.iter().map(mismatch_json).collect(),
        _ => Vec::new(),
    };
    json!({ "position": position, "refusal": refusal.to_string(), "mismatches": mismatches })
}

fn mismatch_json(mismatch: &Mismatch) -> Value {
    json!({
        "index": mismatch.index,
        "rim": mismatch.rim.to_string(),
        "name": mismatch.name,
        "got": mismatch.got,
        "accepted": mismatch.accepted,
    })
}

fn read_evidence(arguments: &VerifyArguments) -> anyhow::Result<GpuBundle> {
    let path = &arguments.evidence;
    let bytes = read_bounded(path, gpu::limits::GPU_BUNDLE_BYTES_MAX)?;
    let bundle = match &arguments.chain {
        None => GpuBundle::from_json(&bytes),
        Some(chain) => {
            let chain = read_bounded(chain, gpu::limits::GPU_CHAIN_BYTES_MAX)?;
            let report = attest::bytes_of_text(&bytes);
            GpuEvidence::from_report(&report, &chain).map(GpuBundle::from)
        }
    };
    bundle.with_context(|| match arguments.chain {
        None => format!("reading {} (a report in hex needs --chain)", path.display()),
        Some(_) => format!("reading {}", path.display()),
    })
}

fn read_roots(arguments: &VerifyArguments) -> anyhow::Result<GpuRoots> {
    let named = (
        &arguments.insecure_test_device_root,
        &arguments.insecure_test_rim_root,
    );
    let (Some(device), Some(rim)) = named else {
        return Ok(GpuRoots::NVIDIA);
    };
    let device_der = read_bounded(device, attest::limits::ROOT_BYTES_MAX)?;
    let rim_der = read_bounded(rim, attest::limits::ROOT_BYTES_MAX)?;
    GpuRoots::insecure_test(&device_der, &rim_der).context("reading the test roots")
}

/// Files that cannot be read as RIMs are said and left aside: NVIDIA publishes others beside those of Hopper.
fn read_rims(paths: &[PathBuf]) -> anyhow::Result<Vec<Rim>> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(files_in(path, &["xml", "swidtag"])?),
            false => files.push(path.clone()),
        }
    }
    if files.len() > gpu::limits::GPU_RIMS_MAX {
        bail!(
            "there are {} RIMs; {} may be given at once",
            files.len(),
            gpu::limits::GPU_RIMS_MAX
        );
    }
    let mut rims = Vec::new();
    for path in files {
        let bytes = read_bounded(&path, gpu::limits::GPU_RIM_BYTES_MAX)?;
        let label = path.file_name().unwrap_or_default().to_string_lossy();
        match Rim::parse(&label, &bytes) {
            Ok(rim) => rims.push(rim),
            Err(error) => eprintln!("left aside: {}: {error}", path.display()),
        }
    }
    Ok(rims)
}

fn read_ocsp(arguments: &VerifyArguments) -> anyhow::Result<Option<OcspResponses>> {
    let Some(directory) = &arguments.ocsp else {
        return Ok(None);
    };
    let nonce = match &arguments.ocsp_nonce {
        None => OcspNonce::Any,
        Some(nonce) => OcspNonce::Expected(hex::decode(nonce).context("reading --ocsp-nonce")?),
    };
    let responses = files_in(directory, &["der", "ocsp"])?
        .iter()
        .map(|path| read_bounded(path, gpu::limits::GPU_OCSP_BYTES_MAX))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let parsed = OcspResponses::parse(&responses, nonce);
    parsed
        .map(Some)
        .with_context(|| format!("reading the responses in {}", directory.display()))
}

pub(crate) type Bytes32 = [u8; 32];

/// A nonce or a digest on the command line.
pub(crate) fn hex32(text: &str) -> Result<Bytes32, String> {
    let mut bytes = [0; 32];
    let digits = |_| "write it as 64 hexadecimal digits".to_owned();
    hex::decode_to_slice(text, &mut bytes).map_err(digits)?;
    Ok(bytes)
}
