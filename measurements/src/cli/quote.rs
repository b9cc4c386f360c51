//! `measurements quote`: what a quote says, and whether it is believed.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use attest::{
    Comparison, Extended, Inspected, Manifest, Peer, Policy, Quote, Root, RootClass, inspect,
    verify,
};
use clap::{Args, Subcommand};
use registers::{Digest48, ReportData};
use serde_json::{Value, json};

use super::quote_file::{parse_quote, read_collateral, read_quote};
use super::{print_json, print_table, read_bounded, time::Moment};

#[derive(Subcommand)]
pub(crate) enum QuoteCommand {
    /// Print what a quote says, without checking it.
    ///
    /// Example:
    ///   measurements quote parse --quote quote.bin
    #[command(verbatim_doc_comment)]
    Parse(ParseArguments),
    /// Verify that a quote comes from the guest that a manifest or a policy describes.
    ///
    /// Always checked: signatures, certificate chains up to the root, revocation, the state of the platform and of its
    /// quoting enclave, the guest's attributes. With --manifest or --policy also its registers, MRCONFIGID and owner; with
    /// --report-data also that the quote was made for this request. Only all of these together verify a peer. If one is
    /// missing, the output says so, nobody is verified, and the exit code is 1; `inspect` is for that.
    ///
    /// Example, a guest now:
    ///   measurements quote verify --quote quote.bin --collateral collateral.json \
    ///     --manifest manifest.json --report-data 5a5a…
    /// Example, with a platform policy, as of a day in the past:
    ///   … --policy policy.json --at 2025-06-19T12:00:00Z
    /// Example, a simulated guest:
    ///   … --root run/sim/root.der
    ///
    /// Exit code 0: verified. 1: nobody is verified, refused, or failed. 2: wrong arguments.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
    /// Check what can be checked of a quote while the manifest or the report data is missing. Nobody is verified.
    ///
    /// Example, only whether TDX hardware signed it:
    ///   measurements quote inspect --quote quote.bin --collateral collateral.json
    ///
    /// Exit code 0: all that could be checked holds. 1: refused, or failed. 2: wrong arguments.
    #[command(verbatim_doc_comment)]
    Inspect(VerifyArguments),
}

#[derive(Args)]
pub(crate) struct ParseArguments {
    /// The quote: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The quote: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// The collateral: what Intel signs about the platform, as JSON.
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// The manifest of expected registers.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The policy: what to accept of guest and platform. With --manifest, the manifest's registers are the accepted ones,
    /// and a policy that lists registers must include them.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The report data that the quote must contain, as 128 lower-case hex digits.
    #[arg(long, value_name = "HEX")]
    report_data: Option<ReportData>,
    #[command(flatten)]
    root: RootArgument,
    /// Judge at this time instead of now: 2025-06-19T12:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "RFC3339")]
    at: Option<Moment>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Whose signature counts.
#[derive(Args)]
pub(crate) struct RootArgument {
    /// Trust this root (PEM or DER) in place of Intel's: an insecure test root. Nothing under it is confidential.
    #[arg(long, value_name = "FILE", visible_alias = "insecure-test-root")]
    root: Option<PathBuf>,
}

impl RootArgument {
    /// The root named, or Intel's. People are told of another.
    pub(crate) fn read(&self) -> anyhow::Result<Root> {
        let Some(path) = &self.root else {
            return Ok(Root::intel());
        };
        let root = Root::insecure_test(read_bounded(path, attest::limits::ROOT_BYTES_MAX)?)
            .with_context(|| format!("reading {}", path.display()))?;
        if root.class() == RootClass::InsecureTest {
            eprintln!("INSECURE: under a test root nothing about this peer is confidential");
        }
        Ok(root)
    }
}

/// Whether the answer is a good one.
pub(crate) fn run(command: &QuoteCommand) -> anyhow::Result<bool> {
    match command {
        QuoteCommand::Parse(arguments) => parse(arguments),
        QuoteCommand::Verify(arguments) => Ok(check(arguments)? == Some(true)),
        QuoteCommand::Inspect(arguments) => Ok(check(arguments)?.is_some()),
    }
}

fn parse(arguments: &ParseArguments) -> anyhow::Result<bool> {
    let quote = parse_quote(&arguments.quote)?;
    let fields = quote_fields(&quote);
    if arguments.json {
        print_json(&Value::Object(
            fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        ))?;
    } else {
        eprintln!("nothing below is verified");
        print_table(&fields)?;
    }
    Ok(true)
}

/// Whether the peer is verified; `None` if it is refused.
fn check(arguments: &VerifyArguments) -> anyhow::Result<Option<bool>> {
    let quote = read_quote(&arguments.quote)?;
    let (_, collateral) = read_collateral(&arguments.collateral)?;
    let policy = read_policy(arguments.policy.as_deref(), arguments.manifest.as_deref())?;
    let root = arguments.root.read()?;
    let at = Moment::or_now(arguments.at)?;
    let outcome = match (&policy, &arguments.report_data) {
        (Some(policy), Some(report_data)) => {
            verify(&quote, &collateral, report_data, policy, &root, at.unix_s)
                .map(|peer| (accepted(&peer, at), VERIFIED))
        }
        (policy, report_data) => inspect(
            &quote,
            &collateral,
            report_data.as_ref(),
            policy.as_ref(),
            &root,
            at.unix_s,
        )
        .map(|inspected| (inspection(&inspected, at), words(&inspected))),
    };
    match outcome {
        Ok((fields, sentence)) => {
            match arguments.json {
                true => print_json(&fields)?,
                false => print_object(&fields)?,
            }
            eprintln!("{sentence}");
            Ok(Some(fields["verified"] == true))
        }
        Err(refusal) => {
            if arguments.json {
                print_json(&json!({
                    "outcome": "refused",
                    "verified": false,
                    "root": root.class().to_string(),
                    "judged_at": at.to_string(),
                    "refusal": refusal.to_string(),
                    "fault": refusal.fault().to_string(),
                }))?;
            }
            eprintln!("refused: {refusal}");
            Ok(None)
        }
    }
}

/// The policy of a verifier: its file, its manifest, or both. `None` if it named neither.
pub(crate) fn read_policy(
    policy: Option<&Path>,
    manifest: Option<&Path>,
) -> anyhow::Result<Option<Policy>> {
    let manifest = manifest.map(read_manifest).transpose()?;
    let Some(path) = policy else {
        return Ok(manifest.as_ref().map(Policy::from_manifest));
    };
    let bytes = read_bounded(path, attest::limits::POLICY_BYTES_MAX)?;
    let mut policy =
        Policy::from_json(&bytes).with_context(|| format!("reading {}", path.display()))?;
    if let Some(manifest) = manifest {
        let registers = *manifest.registers();
        if !policy.registers.is_empty() && !policy.registers.contains(&registers) {
            bail!("the policy lists registers, and the manifest's are not among them");
        }
        policy.registers = vec![registers];
    }
    Ok(Some(policy))
}

fn read_manifest(path: &Path) -> anyhow::Result<Manifest> {
    let bytes = read_bounded(path, attest::limits::MANIFEST_BYTES_MAX)?;
    Manifest::from_json(&bytes).with_context(|| format!("reading {}", path.display()))
}

fn accepted(peer: &Peer, at: Moment) -> Value {
    let mut fields = facts(peer, at);
    fields["outcome"] = "verified".into();
    fields["verified"] = true.into();
    fields
}

fn inspection(inspected: &Inspected, at: Moment) -> Value {
    let mut fields = facts(&inspected.peer, at);
    fields["outcome"] = "inspected".into();
    fields["verified"] = false.into();
    fields["registers_compared"] = (inspected.guest == Comparison::Equal).into();
    fields["report_data_compared"] = (inspected.report_data == Comparison::Equal).into();
    fields
}

/// What a quote and its collateral say, whoever believes it.
pub(crate) fn facts(peer: &Peer, at: Moment) -> Value {
    let moment = |unix_s| Moment { unix_s }.to_string();
    json!({
        "root": peer.root.to_string(),
        "judged_at": at.to_string(),
        "report": peer.report.to_string(),
        "registers": peer.registers,
        "tcb_status": peer.tcb_status.to_string(),
        "tcb_level_date": moment(peer.tcb_level_unix_s),
        "grace_ends": peer.grace_ends_unix_s.map(moment),
        "advisories": peer.advisories,
        "tcb_evaluation_number": peer.tcb_evaluation_number,
        "collateral_expires": moment(peer.collateral_expires_unix_s),
        "collateral_expires_unix_s": peer.collateral_expires_unix_s,
        "report_data": peer.report_data.to_string(),
        "quote_sha256": hex::encode(peer.quote_digest),
        "fmspc": hex::encode(peer.fmspc),
        "ppid": hex::encode(&peer.ppid),
    })
}

const VERIFIED: &str = "verified: the quote comes from the guest of the manifest or policy, while no attestation key is extracted";

fn words(inspected: &Inspected) -> &'static str {
    match (inspected.peer.root, inspected.guest, inspected.report_data) {
        (RootClass::Intel, Comparison::NotCompared, Comparison::NotCompared) => {
            "signed by TDX hardware; registers not compared with anything, report data not compared with anything: nobody is verified"
        }
        (RootClass::Intel, Comparison::NotCompared, Comparison::Equal) => {
            "signed by TDX hardware for this report data; registers not compared with anything: nobody is verified"
        }
        (RootClass::InsecureTest, Comparison::NotCompared, _) => {
            "signed under a test root, by no TDX hardware; registers not compared with anything: nobody is verified"
        }
        (_, Comparison::Equal, _) => {
            "the registers are those expected; report data not compared with anything, so the quote may be an old one: nobody is verified"
        }
    }
}

fn print_object(value: &Value) -> anyhow::Result<()> {
    let Value::Object(fields) = value else {
        unreachable!("facts are written as an object above")
    };
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    print_table(&fields)
}

fn quote_fields(quote: &Quote) -> Vec<(&'static str, Value)> {
    let td = &quote.td;
    let mut fields = vec![
        ("version", quote.version.into()),
        ("report", quote.report.to_string().into()),
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
    ];
    if let Some(svn) = td.tee_tcb_svn2 {
        fields.push(("tee_tcb_svn2", hex::encode(svn).into()));
    }
    if let Some(extended) = &td.extended {
        fields.extend(extended_fields(extended));
    }
    fields
}

fn extended_fields(extended: &Extended) -> [(&'static str, Value); 10] {
    [
        ("vm_id", extended.vm_id.into()),
        ("td_id", hex::encode(extended.td_id).into()),
        ("device_info", digest(&extended.device_info)),
        (
            "init_service_td_hash",
            digest(&extended.init_service_td_hash),
        ),
        (
            "init_service_td_attributes",
            bits(extended.init_service_td_attributes),
        ),
        ("init_cpu_svn", hex::encode(extended.init_cpu_svn).into()),
        (
            "init_tee_tcb_svn",
            hex::encode(extended.init_tee_tcb_svn).into(),
        ),
        ("init_fmspc", hex::encode(extended.init_fmspc).into()),
        (
            "current_service_td_hash",
            digest(&extended.current_service_td_hash),
        ),
        (
            "current_service_td_attributes",
            bits(extended.current_service_td_attributes),
        ),
    ]
}

fn bits(value: u64) -> Value {
    Value::from(format!("{value:#018x}"))
}

fn digest(value: &Digest48) -> Value {
    Value::from(value.to_string())
}
