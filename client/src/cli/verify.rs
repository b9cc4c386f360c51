//! `chrysalis verify` and `chrysalis proof`: one verdict on an endpoint, a proof file or a receipt, and the file itself.

use super::Misuse;
use super::check::checked_object;
use super::evidence::{evidence_of, hand_on, wrapper_in};
use crate::attestation::{Challenged, Verifier};
use crate::budget::{Budget, BudgetError, NoProof};
use crate::chain::check_registry;
use crate::check::CheckFile;
use crate::client::channel_address;
use crate::config::{Config, ConfigError, read_file, read_key};
use crate::error::{ClientError, day_unix_s};
use crate::files::{api_key, write_new};
use crate::limits::{
    CHECK_FILE_BYTES_MAX, PROOF_FILE_BYTES_MAX, SMALL_FILE_BYTES_MAX, TIME_ROOTS_MAX,
};
use crate::objects::attestation_object;
use crate::session::{proxy_refused, unix_s};
use crate::transport::{Ask, Transport};
use crate::trust::{Minimum, Seen, TrustStore};
use crate::verdict::Verdict;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use timestamp::{Authorities, Timestamp};
use wire::{Cmw, Compared, Eat, LogLeaf, LogReceipt, Proof, ProvenJob, Receipt, ReceiptDigest};

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// An endpoint (http://host:port or https://host), a proof file, a check's file, a receipt's file, evidence in a wrapper (--cmw), or the id of a receipt in your books.
    #[arg(value_name = "TARGET")]
    target: String,
    /// The manifest of expected registers, built by you or fetched and checked with image-builder [default: the configuration's]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Of a check: the manifest of the second worker, where it is another.
    #[arg(long, value_name = "FILE")]
    other_manifest: Option<PathBuf>,
    /// The configuration: for its manifest, and for the books in which receipts are.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Trust this root (a DER file) instead of Intel's. For simulated machines: nothing under it is confidential.
    #[arg(long, value_name = "FILE")]
    insecure_test_root: Option<PathBuf>,
    /// What was learned about platforms and targets before [default: the configuration's, or in the user's state directory]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Judge a proof or a receipt as at this moment: a day such as 2026-11-29, or Unix seconds. You vouch for it.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    at: Option<u64>,
    /// Believe this authority's time-stamp on a tree of the provider's log (its root, a PEM file): when the job's charge was there at the latest.
    #[arg(long, value_name = "FILE")]
    time_authority: Option<PathBuf>,
    /// Of an endpoint: also write the evidence to this file; `measurements bundle verify` reads it.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Also write evidence and verdict to this file as a RATS Conceptual Message Wrapper (RFC 9999): JSON if its name ends so, otherwise CBOR.
    #[arg(long, value_name = "FILE")]
    cmw: Option<PathBuf>,
    /// Also write the verdict to this file as an unsigned Entity Attestation Token (RFC 9711): JSON if its name ends so, otherwise CBOR.
    #[arg(long, value_name = "FILE")]
    eat: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ProofArguments {
    /// The receipt's id, from `x_job.receipt_id`.
    #[arg(value_parser = receipt_id)]
    id: ReceiptDigest,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file to write; one that exists is left alone and refused.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What is to be judged.
enum Target {
    Endpoint(Transport),
    Receipt(ReceiptDigest),
    File(PathBuf),
}

/// `chrysalis verify`
pub(super) async fn verify(arguments: VerifyArguments) -> anyhow::Result<ExitCode> {
    let target = target(&arguments)?;
    let config = arguments.config.as_deref().map(Config::read).transpose();
    let config = config?;
    let verifier = verifier(&arguments, config.as_ref())?;
    let judged = match target {
        Target::Endpoint(proxy) => endpoint(&proxy, &verifier, &arguments, config.as_ref()).await,
        Target::Receipt(id) => match own_proof(config.as_ref(), id).await {
            Ok(proof) => job(&proof, &verifier, &arguments),
            Err(error) => Err(error),
        },
        Target::File(path) => file(&path, &verifier, &arguments, config.as_ref()).await,
    };
    let error = match judged {
        Ok((verdict, more)) if arguments.json => {
            println!("{}", merged(verdict.to_json(), more));
            return Ok(ExitCode::SUCCESS);
        }
        Ok((verdict, _)) => {
            verdict.print();
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) if error.is::<Misuse>() => return Err(error),
        Err(error) => error,
    };
    let reason = super::told(&error);
    if arguments.json {
        let code = error.downcast_ref::<ClientError>().map(ClientError::code);
        println!(
            "{}",
            json!({
                "verified": false, "target": arguments.target, "code": code, "reason": reason, "error": reason,
            })
        );
    } else {
        println!("not verified: {}: {reason}", arguments.target);
    }
    Ok(ExitCode::FAILURE)
}

fn target(arguments: &VerifyArguments) -> anyhow::Result<Target> {
    let text = &arguments.target;
    let target = match receipt_id(text) {
        _ if text.contains("://") => {
            Target::Endpoint(Transport::new(text).map_err(|e| Misuse(e.to_string()))?)
        }
        _ if Path::new(text).exists() => Target::File(text.into()),
        Ok(id) => Target::Receipt(id),
        Err(_) => {
            let reason = "neither http://host:port or https://host, nor a file, nor the 64 hexadecimal characters of a receipt's id";
            return Err(Misuse(format!("`{text}` is {reason}")).into());
        }
    };
    match (&target, arguments.at, &arguments.bundle) {
        (Target::Endpoint(_), Some(_), _) => {
            Err(Misuse("--at is for proofs and receipts; an endpoint is judged now".into()).into())
        }
        (Target::File(_) | Target::Receipt(_), _, Some(_)) => {
            Err(Misuse("--bundle is for endpoints".into()).into())
        }
        _ => Ok(target),
    }
}

fn verifier(arguments: &VerifyArguments, config: Option<&Config>) -> anyhow::Result<Verifier> {
    let manifest = { arguments.manifest.as_ref() }.or(config.map(|config| &config.manifest));
    let manifest = manifest.ok_or_else(|| {
        Misuse(
            "give --manifest or --config: without expected registers nothing can be verified"
                .into(),
        )
    })?;
    under(
        manifest,
        arguments.trust.as_deref(),
        config,
        arguments.insecure_test_root.as_deref(),
    )
}

/// The verifier of a configuration's own worker.
pub(super) fn verifier_of(config: &Config, named: Option<&Path>) -> anyhow::Result<Verifier> {
    under(&config.manifest, None, Some(config), named)
}

fn under(
    manifest: &Path,
    trust: Option<&Path>,
    config: Option<&Config>,
    named: Option<&Path>,
) -> anyhow::Result<Verifier> {
    let configured = config.and_then(|config| config.trust.as_deref());
    let trust = trust.or(configured).map(Path::to_owned);
    let trust = trust.map_or_else(TrustStore::default_path, Ok)?;
    let minimum = config.map_or(Ok(Minimum::default()), |config| config.tcb.minimum())?;
    if let Some(config) = config {
        let mut config = config.clone();
        let confirmed = config.confirm_test_root(named)?;
        config.refuse_unconfirmed_test_root(confirmed)?;
    }
    Ok(Verifier::open(manifest, named, &trust, minimum)?)
}

/// Whatever is in a file.
async fn file(
    path: &Path,
    verifier: &Verifier,
    arguments: &VerifyArguments,
    config: Option<&Config>,
) -> anyhow::Result<(Verdict, Value)> {
    let bytes = read_file(path, CHECK_FILE_BYTES_MAX)?;
    if let Some(file) = check_in(&bytes)? {
        return check(&file, verifier, arguments, config);
    }
    match wrapper_in(&bytes) {
        Some(wrapper) => {
            let wrapper = wrapper.with_context(|| format!("{} is refused", path.display()));
            evidence(&wrapper?, verifier, arguments)
        }
        None => job(&proof_in(path, config).await?, verifier, arguments),
    }
}

/// Evidence that somebody kept. What they made of it does not count.
fn evidence(
    kept: &Cmw,
    verifier: &Verifier,
    arguments: &VerifyArguments,
) -> anyhow::Result<(Verdict, Value)> {
    let worker = verifier.verify_kept(kept, arguments.at)?;
    let at = arguments.at.map_or_else(unix_s, Ok)?;
    let result = Eat::of(&worker, &kept.nonce, &verifier.manifest.digest(), at);
    let files = (arguments.cmw.as_ref(), arguments.eat.as_ref());
    hand_on(files, (&kept.bundle, &kept.nonce), &result)?;
    let payee = format!("evidence for payee {}", worker.keyset().payee);
    let recall = verifier.trust.recall(&payee, &Seen::of(&worker))?;
    let more = json!({
        "root": worker.peer().root.to_string(),
        "keyset": worker.keyset_digest().to_string(),
        "nonce": hex::encode(kept.nonce),
    });
    let (target, named) = (arguments.target.clone(), arguments.at.is_some());
    let verdict = Verdict::of_evidence(target, &worker, verifier, recall, named);
    Ok((verdict, more))
}

async fn endpoint(
    proxy: &Transport,
    verifier: &Verifier,
    arguments: &VerifyArguments,
    config: Option<&Config>,
) -> anyhow::Result<(Verdict, Value)> {
    let challenged = Challenged::of(proxy).await?;
    let expected = challenged.claimed(verifier);
    let expected = expected.map_err(ClientError::from)?;
    let attestation = verifier.verify(challenged, &expected)?;
    if let Some(path) = &arguments.bundle {
        std::fs::write(path, attestation.bundle())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let worker = attestation.worker();
    let registry = match config.and_then(|config| Some((config, config.registry()?))) {
        None => None,
        Some((config, rule)) => {
            let (node, trust) = (config.node()?, &verifier.trust);
            let offers: Vec<_> = worker.keyset().models.iter().collect();
            Some(check_registry(&node, &rule, trust, worker, &offers).await?)
        }
    };
    // Not before the registry has allowed the worker, too.
    let files = (arguments.cmw.as_ref(), arguments.eat.as_ref());
    let (bundle, nonce) = (attestation.bundle(), attestation.nonce());
    hand_on(files, (bundle, nonce), &attestation.eat())?;
    let target = proxy.to_string();
    let recall = verifier.trust.recall(&target, &Seen::of(worker))?;
    let verdict = Verdict::of_worker(target, worker, verifier, recall, registry.as_ref());
    Ok((verdict, attestation_object(&attestation, registry.as_ref())))
}

fn job(
    proof: &Proof,
    verifier: &Verifier,
    arguments: &VerifyArguments,
) -> anyhow::Result<(Verdict, Value)> {
    let job = verifier.verify_proof(proof, arguments.at)?;
    let at = arguments.at.map_or_else(unix_s, Ok)?;
    let result = Eat::of(job.worker(), &proof.nonce, &verifier.manifest.digest(), at);
    let files = (arguments.cmw.as_ref(), arguments.eat.as_ref());
    hand_on(files, (&proof.bundle, &proof.nonce), &result)?;
    let receipt = job.receipt();
    // Jobs of one channel are with one provider, whatever their files are called.
    let channel = format!("channel {}", receipt.channel);
    let recall = verifier.trust.recall(&channel, &Seen::of(job.worker()))?;
    let id = Receipt::decode(&proof.receipt)
        .map_err(ClientError::from)?
        .digest();
    let more = json!({
        "id": id.to_string(),
        "root": job.worker().peer().root.to_string(),
        "model": receipt.model,
        "model_root": receipt.model_root.to_string(),
        "usage": {"prompt": receipt.usage.prompt, "cached": receipt.usage.cached, "completion": receipt.usage.completion},
        "cost_nano": receipt.cost,
        "channel": receipt.channel.to_string(),
        "payer_key": hex::encode(proof.payer_key),
    });
    let target = format!("{}, receipt {id}", arguments.target);
    let named = arguments.at.is_some();
    let time = log_time(&job, arguments.time_authority.as_deref())?;
    let verdict = Verdict::of_job(target, (&job, time.as_ref()), verifier, recall, named);
    Ok((verdict, more))
}

/// When the job's charge was in the provider's log at the latest, if an authority is named and its time-stamp is there.
fn log_time(job: &ProvenJob, roots: Option<&Path>) -> anyhow::Result<Option<Timestamp>> {
    let Some(path) = roots else {
        return Ok(None);
    };
    let text = read_file(path, SMALL_FILE_BYTES_MAX)?;
    let roots = pki::pem::certificates(&text, TIME_ROOTS_MAX).filter(|roots| !roots.is_empty());
    let roots = roots.with_context(|| format!("{}: no certificates in PEM", path.display()))?;
    let authorities = Authorities::new(roots);
    let authorities = authorities.with_context(|| path.display().to_string())?;
    let time = job.logged().map(|logged| logged.time(&authorities));
    Ok(time.transpose()?.flatten())
}

/// Two answers to one question. Where they differ, this is not verified: one of the two did not compute what it signed.
fn check(
    file: &CheckFile,
    verifier: &Verifier,
    arguments: &VerifyArguments,
    config: Option<&Config>,
) -> anyhow::Result<(Verdict, Value)> {
    if arguments.cmw.is_some() || arguments.eat.is_some() {
        return Err(Misuse("--cmw and --eat are for one worker; a check has two".into()).into());
    }
    let named = arguments.insecure_test_root.as_deref();
    let trust = arguments.trust.as_deref();
    let other = { arguments.other_manifest.as_ref() }
        .map(|manifest| under(manifest, trust, config, named))
        .transpose()?;
    let other = other.as_ref().unwrap_or(verifier);
    let checked = file.verify(verifier, other, arguments.at)?;
    if let Compared::Differ { .. } = checked.compared {
        anyhow::bail!("{}; both receipts hold", checked.sentence());
    }
    let channel = format!("channel {}", checked.first.receipt().channel);
    let seen = Seen::of(checked.first.worker());
    let recall = verifier.trust.recall(&channel, &seen)?;
    let more = checked_object(&checked);
    let target = arguments.target.clone();
    let moment = arguments.at.is_some();
    Ok((
        Verdict::of_check(target, &checked, [verifier, other], recall, moment),
        more,
    ))
}

/// The check in a file, if that is what it says it is.
fn check_in(bytes: &[u8]) -> Result<Option<CheckFile>, ClientError> {
    let begins = &bytes[..bytes.len().min(64)];
    match begins
        .windows(CHECK_MARK.len())
        .any(|part| part == CHECK_MARK)
    {
        true => Ok(Some(CheckFile::from_json(bytes)?)),
        false => Ok(None),
    }
}

/// How a check's file begins.
const CHECK_MARK: &[u8] = b"\"chrysalis_check\"";

/// A proof file, or a receipt whose worker's evidence is in the books or at the provider's proxy.
pub(super) async fn proof_in(path: &Path, config: Option<&Config>) -> anyhow::Result<Proof> {
    let bytes = read_file(path, PROOF_FILE_BYTES_MAX)?;
    let Some(receipt) = receipt_in(&bytes) else {
        return Proof::decode(&bytes).with_context(|| format!("{} is refused", path.display()));
    };
    let receipt = Receipt::decode(&receipt).map_err(ClientError::from)?;
    let config = config.ok_or_else(|| {
        let path = path.display();
        Misuse(format!(
            "{path} is a receipt without evidence: give --config for the books and the proxy that may have it, or a proof file"
        ))
    })?;
    let payer_key = read_key(&config.payer_key_file)?;
    let payer_key = payer_key.verifying_key().to_bytes();
    let kept = evidence_of(config, receipt.unverified().keyset).await?;
    Ok(kept.proof_of(&receipt, payer_key))
}

/// The bytes of a receipt, if the file is one: as it travels, or in the JSON object of `/v1/receipts/{id}`.
fn receipt_in(bytes: &[u8]) -> Option<Vec<u8>> {
    // A COSE_Sign1 begins with its tag, 18 (RFC 9052, 4.2); a proof is a map.
    if bytes.first() == Some(&0xd2) {
        return Some(bytes.to_vec());
    }
    let object: Value = serde_json::from_slice(bytes).ok()?;
    hex::decode(object["receipt"].as_str()?).ok()
}

/// `chrysalis proof`
pub(super) async fn proof(arguments: ProofArguments) -> anyhow::Result<()> {
    let config = Config::read(&arguments.config)?;
    let mut proof = own_proof(Some(&config), arguments.id).await?;
    match log_receipt(&config, &proof).await {
        Ok(log) => proof = proof.with_log(&log),
        Err(error) => eprintln!("chrysalis: without a receipt of the provider's log: {error:#}"),
    }
    write_new(&arguments.out, &proof.encode())?;
    println!("{}", arguments.out.display());
    Ok(())
}

/// Where the receipt's charge stands in the provider's log. Whoever reads the proof verifies it.
async fn log_receipt(config: &Config, proof: &Proof) -> anyhow::Result<LogReceipt> {
    let leaf = LogLeaf::of(Receipt::decode(&proof.receipt)?.charge());
    let ask = Ask {
        method: "GET",
        path: &format!("/v1/log/{}", hex::encode(leaf.0)),
        content_type: "",
        authorization: "",
        body: Vec::new(),
    };
    let proxy = Transport::new(&config.proxy)?;
    let reply = proxy.call(ask, wire::limits::LOG_RECEIPT_BYTES_MAX).await?;
    if reply.status != 200 {
        let no = crate::Executed::No;
        return Err(proxy_refused("log", reply.status, &reply.body, no).into());
    }
    Ok(LogReceipt::decode(&reply.body)?)
}

/// The proof of a job in one's own books. While a sidecar has them open, it is asked.
pub(super) async fn own_proof(config: Option<&Config>, id: ReceiptDigest) -> anyhow::Result<Proof> {
    let config = config
        .ok_or_else(|| Misuse("a receipt's id is looked up in your books: give --config".into()))?;
    match books(config) {
        Err(ClientError::Budget(BudgetError::InUse(_))) => from_sidecar(config, id).await,
        Err(error) => Err(error.into()),
        Ok(own) => {
            let missing = match own.proof(&id) {
                Err(NoProof::Evidence(keyset)) => keyset,
                Err(missing @ NoProof::Receipt) => {
                    return Err(anyhow::Error::from(missing).context(id.to_string()));
                }
                proof => return Ok(proof?),
            };
            drop(own);
            let kept = evidence_of(config, missing).await?;
            Ok(books(config)?.proof_with(&id, |_| Ok(kept))?)
        }
    }
}

pub(super) fn books(config: &Config) -> Result<Budget, ClientError> {
    let payer = read_key(&config.payer_key_file)?;
    let channel = channel_address(config, payer.verifying_key().to_bytes())?;
    if !config.state.exists() {
        let absent = format!("{}: there are no books yet", config.state.display());
        return Err(ConfigError(absent).into());
    }
    Ok(Budget::open(
        &config.state,
        config.chain_id(),
        channel,
        payer,
    )?)
}

async fn from_sidecar(config: &Config, id: ReceiptDigest) -> anyhow::Result<Proof> {
    anyhow::ensure!(
        !config.listen.starts_with("unix:"),
        "a sidecar at {} has the books open; ask it for /v1/receipts/{id}/proof, or end it",
        config.listen
    );
    let sidecar = Transport::new(&format!("http://{}", config.listen))?;
    // A sidecar that asks for no key has made none, and none is made here.
    let authorization = match config.api_key_file.exists() {
        true => format!("Bearer {}", *api_key(&config.api_key_file)?),
        false => String::new(),
    };
    let authorization = zeroize::Zeroizing::new(authorization);
    let ask = Ask {
        method: "GET",
        path: &format!("/v1/receipts/{id}/proof"),
        content_type: "",
        authorization: &authorization,
        body: Vec::new(),
    };
    let reply = sidecar.call(ask, wire::limits::PROOF_BYTES_MAX).await;
    let reply = reply.with_context(|| {
        format!(
            "another program has the books open, and no sidecar answers at {}",
            config.listen
        )
    })?;
    if reply.status != 200 {
        let refused = proxy_refused("proof", reply.status, &reply.body, crate::Executed::No);
        anyhow::bail!("the sidecar at {} refused: {refused}", config.listen);
    }
    Ok(Proof::decode(&reply.body)?)
}

fn merged(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

pub(super) fn receipt_id(text: &str) -> Result<ReceiptDigest, String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map(|()| ReceiptDigest(digest))
        .map_err(|_| "a receipt's id is 64 hexadecimal characters".into())
}

pub(super) fn moment(text: &str) -> Result<u64, String> {
    let seconds = { text.bytes().all(|byte| byte.is_ascii_digit()) }.then(|| text.parse().ok());
    seconds
        .flatten()
        .or_else(|| day_unix_s(text))
        .ok_or_else(|| "expected a day such as 2026-11-29, or Unix seconds".into())
}
