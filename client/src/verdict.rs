//! What was proved of a target, claim by claim with the anchor that proves it, and what was not.
//!
//! A [`Verdict`] is made of values that only a verifier makes: an `AttestedWorker` or a `ProvenJob`. It adds no rule of
//! its own; it puts into words what their types vouch for.

use crate::attestation::Verifier;
use crate::chain::RegistrySeen;
use crate::check::Checked;
use crate::error::day;
use crate::objects::root_words;
use crate::trust::{Change, Recall};
use gpu::{Gpu, Inspected};
use serde::Serialize;
use serde_json::{Value, json};
use timestamp::Timestamp;
use wire::{AttestedWorker, Logged, ProvenJob};

/// One thing that was proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// What it is about: `answers`, `image`, `platform`, `gpu`, `keys`, `payee`, `models`, `registry`, `freshness`, `receipt`, `cost`,
    /// `voucher`, `log`, `time`.
    pub about: &'static str,
    /// What holds.
    pub holds: String,
    /// What proves it.
    pub anchor: String,
}

/// What was proved of one target, and what was not.
#[derive(Debug, Clone)]
pub struct Verdict {
    target: String,
    claims: Vec<Claim>,
    not_proved: Vec<&'static str>,
    recall: Recall,
}

/// Of every worker.
const NEVER_PROVED: [&str; 4] = [
    "attestation key: that none was extracted from a platform; whoever holds one can forge evidence",
    "builder: who built the image; `image-builder verify` checks its signed statement",
    "payee: who the payee is, beyond holding the key that endorsed the keyset",
    "weights: how they were trained; a root only says which files were loaded",
];
const NO_GPU: &str = "GPU: none takes part in this evidence";
const GPU_PLACE: &str =
    "GPU: that it is still in this machine; the guest's software binds it, and it can be moved";
/// Of an endpoint.
const NOT_OF_A_WORKER: [&str; 1] =
    ["answers: nothing was asked; each answer has a receipt of its own"];
/// Of kept evidence.
const NOT_FRESH: [&str; 1] = [
    "freshness: that this worker is there today; the evidence answers a challenge of whoever kept it",
];
const NO_REGISTRY: [&str; 1] =
    ["registry: that nothing of it is revoked; no registry is configured, so nobody was asked"];
/// Of a job.
const NOT_OF_A_JOB: [&str; 3] = [
    "text: that a prompt or an answer is the one of this receipt, which commits to both under a salt that is not here",
    "payer: who holds the payer key",
    "payment: that the channel held the amount and the voucher was claimed; a TON node knows",
];
const NO_TIME: &str = "time: when the job ran; the worker's clock is its host's, and nothing here is anchored in a public record or by a \
     time-stamping authority";
const TIME_UNASKED: &str = "time: when the job ran; a time-stamp is here, and no authority to believe was named (--time-authority)";
const TIME_AT_LEAST: &str = "time: how long before its time-stamp the job ran";
const NO_LOG: &str =
    "log: that the provider's log has the receipt; it was not asked, or the tree was still open";
const LOG_ALONE: &str = "log: that the provider keeps one log and shows all the same; compare roots with others, or keep them";
/// Of a check.
const NOT_OF_A_CHECK: [&str; 1] = [
    "truth: that the answer is right; two workers of one class compute the same, also where that is wrong",
];
const NO_VOUCHER: &str = "voucher: none is in this file";
const TIME_GIVEN: &str = "moment: that the evidence was accepted then; the moment it was judged at is the one that you named";

/// A worker's words, such as its models' names, without what a terminal would obey.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn claim(about: &'static str, holds: impl Into<String>, anchor: impl Into<String>) -> Claim {
    let (holds, anchor) = (holds.into(), anchor.into());
    Claim {
        about,
        holds,
        anchor,
    }
}

fn registry_claim(seen: &RegistrySeen, worker: &AttestedWorker) -> Claim {
    let refused = worker.keyset().models.iter().filter_map(|offer| {
        let error = seen.allows(offer).err()?;
        Some(format!("; no job is sent to {}: {error}", offer.id))
    });
    let (version, age_s, last) = (seen.version, seen.age_s(), seen.image_not_after);
    let holds = format!(
        "version {version}, {age_s} s old, allows the image until {last} (Unix seconds) and has not revoked the platform{}",
        refused.collect::<String>()
    );
    let anchor = format!("a TON node's word for the registry {}", seen.address);
    claim("registry", holds, anchor)
}

impl Verdict {
    /// Of a worker that answered a challenge of this moment.
    pub fn of_worker(
        target: String,
        worker: &AttestedWorker,
        verifier: &Verifier,
        recall: Recall,
        registry: Option<&RegistrySeen>,
    ) -> Verdict {
        let mut claims = worker_claims(worker, verifier);
        claims.extend(registry.map(|seen| registry_claim(seen, worker)));
        claims.push(claim(
            "freshness",
            "the evidence was made for this question",
            "a nonce drawn here is in the quote's report data",
        ));
        Verdict {
            target,
            claims,
            not_proved: {
                let unasked = if registry.is_none() {
                    &NO_REGISTRY[..]
                } else {
                    &[]
                };
                [
                    &NOT_OF_A_WORKER[..],
                    unasked,
                    &NEVER_PROVED,
                    &[of_gpu(worker)],
                ]
                .concat()
            },
            recall,
        }
    }

    /// Of a worker by evidence that somebody kept.
    pub fn of_evidence(
        target: String,
        worker: &AttestedWorker,
        verifier: &Verifier,
        recall: Recall,
        at_named: bool,
    ) -> Verdict {
        let mut not_proved = [
            &NOT_FRESH[..],
            &NO_REGISTRY,
            &NEVER_PROVED,
            &[of_gpu(worker)],
        ]
        .concat();
        if at_named {
            not_proved.insert(0, TIME_GIVEN);
        }
        Verdict {
            target,
            claims: worker_claims(worker, verifier),
            not_proved,
            recall,
        }
    }

    /// Of a job, with the time that an authority vouches for; `at_named` where the asker named the moment at which the evidence is judged.
    pub fn of_job(
        target: String,
        (job, time): (&ProvenJob, Option<&Timestamp>),
        verifier: &Verifier,
        recall: Recall,
        at_named: bool,
    ) -> Verdict {
        let mut claims = worker_claims(job.worker(), verifier);
        claims.extend(job_claims(job));
        claims.extend(time.map(time_claim));
        let not_timed = match (job.logged().map(Logged::has_timestamp), time) {
            (_, Some(_)) => TIME_AT_LEAST,
            (Some(true), None) => TIME_UNASKED,
            (_, None) => NO_TIME,
        };
        let gpu = of_gpu(job.worker());
        let mut not_proved = [&NOT_OF_A_JOB[..], &[not_timed], &NEVER_PROVED, &[gpu]].concat();
        if job.voucher().is_none() {
            not_proved.insert(0, NO_VOUCHER);
        }
        not_proved.push(match job.logged() {
            None => NO_LOG,
            Some(_) => LOG_ALONE,
        });
        if at_named {
            not_proved.insert(0, TIME_GIVEN);
        }
        Verdict {
            target,
            claims,
            not_proved,
            recall,
        }
    }

    /// Of two jobs with one question, whose answers agree.
    pub fn of_check(
        target: String,
        checked: &Checked,
        [first, second]: [&Verifier; 2],
        recall: Recall,
        at_named: bool,
    ) -> Verdict {
        let answers = claim(
            "answers",
            checked.sentence(),
            "both transcripts, which open the commitments of both receipts",
        );
        let mut claims = vec![answers];
        for (job, verifier) in [(&checked.first, first), (&checked.second, second)] {
            claims.extend(worker_claims(job.worker(), verifier));
            claims.extend(job_claims(job));
        }
        let mut not_proved = [
            &NOT_OF_A_CHECK[..],
            &NOT_OF_A_JOB[1..],
            &[NO_TIME],
            &NEVER_PROVED,
        ]
        .concat();
        let mut gpus = [&checked.first, &checked.second]
            .map(|job| of_gpu(job.worker()))
            .to_vec();
        gpus.dedup();
        not_proved.extend(gpus);
        if at_named {
            not_proved.insert(0, TIME_GIVEN);
        }
        Verdict {
            target,
            claims,
            not_proved,
            recall,
        }
    }

    /// What is not what it was the last time.
    pub fn changes(&self) -> &[Change] {
        match &self.recall {
            Recall::First => &[],
            Recall::Before { changes, .. } => changes,
        }
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        let last = match &self.recall {
            Recall::First => Value::Null,
            Recall::Before { at_unix_s, .. } => json!(at_unix_s),
        };
        json!({
            "verified": true,
            "target": self.target,
            "claims": self.claims,
            "not_proved": self.not_proved,
            "last_verified_at_unix_s": last,
            "changes": self.changes(),
        })
    }

    /// For people: the verdict in the first line.
    pub fn print(&self) {
        println!("verified: {}", self.target);
        self.print_recall();
        println!("proved:");
        for Claim {
            about,
            holds,
            anchor,
        } in &self.claims
        {
            println!(
                "  {about:<10} {}\n             by {}",
                plain(holds),
                plain(anchor)
            );
        }
        println!("not proved:");
        for line in &self.not_proved {
            println!("  {line}");
        }
    }

    fn print_recall(&self) {
        match &self.recall {
            Recall::First => {
                println!("first time: this target was not verified on this machine before")
            }
            Recall::Before { at_unix_s, changes } if changes.is_empty() => {
                println!("unchanged: as on {}", day(*at_unix_s));
            }
            Recall::Before { at_unix_s, changes } => {
                for Change { what, before, now } in changes {
                    let shown =
                        |value: &Option<String>| value.as_deref().map_or("none".into(), plain);
                    println!(
                        "ALERT: {} changed since {}: was {}, is {}",
                        plain(what),
                        day(*at_unix_s),
                        shown(before),
                        shown(now)
                    );
                }
            }
        }
    }
}

/// What is not proved of a worker's GPU.
fn of_gpu(worker: &AttestedWorker) -> &'static str {
    match worker.gpu() {
        None => NO_GPU,
        Some(_) => GPU_PLACE,
    }
}

fn worker_claims(worker: &AttestedWorker, verifier: &Verifier) -> Vec<Claim> {
    let (peer, keyset) = (worker.peer(), worker.keyset());
    let root = root_words(peer.root);
    let manifest = hex::encode(verifier.manifest.digest());
    let quote = format!("a TDX quote under {root}");
    let roots = { keyset.models.iter() }.map(|model| format!("{} = {}", model.id, model.root));
    let roots: Vec<String> = roots.collect();
    let advisories = match peer.advisories.as_slice() {
        [] => "no advisories".into(),
        some => some.join(", "),
    };
    let mut claims = vec![
        claim(
            "image",
            format!(
                "all five registers equal those of the manifest that you gave, profile {}",
                keyset.profile
            ),
            format!("{quote}, and the manifest with digest {manifest}"),
        ),
        claim(
            "platform",
            format!(
                "{}, fixes up to {}, {advisories}",
                peer.tcb_status,
                day(peer.tcb_level_unix_s)
            ),
            format!(
                "{root}, collateral with evaluation number {}",
                peer.tcb_evaluation_number
            ),
        ),
        claim(
            "machine",
            format!("PPID {}", hex::encode(&peer.ppid)),
            "the certificate of the platform's attestation key",
        ),
        claim(
            "keys",
            format!("keyset {} was made by this guest", worker.keyset_digest()),
            "the quote's report data names the keyset",
        ),
        claim(
            "payee",
            format!("{} on chain {}", keyset.payee, keyset.chain),
            "the keyset names it, and its key endorsed the keyset",
        ),
        claim(
            "models",
            roots.join(", "),
            "the keyset, which the guest made after it measured them",
        ),
    ];
    claims.extend(worker.gpu().map(gpu_claim));
    claims
}

fn gpu_claim(gpu: &Gpu) -> Claim {
    let Inspected {
        fields,
        device_key,
        root,
        ..
    } = &gpu.evidence;
    let (driver, vbios) = (&fields.driver_version, &fields.vbios_version);
    claim(
        "gpu",
        format!("device {device_key} measures as driver {driver} and VBIOS {vbios} should"),
        format!(
            "its signature for this keyset under the {root} root, the RIMs {} and {}, and OCSP for every certificate",
            gpu.driver_rim.tag_id, gpu.vbios_rim.tag_id
        ),
    )
}

fn time_claim(time: &Timestamp) -> Claim {
    claim(
        "time",
        format!(
            "the charge was in the provider's log on {} at the latest",
            day(time.time_unix_s)
        ),
        format!(
            "a time-stamp (RFC 3161) under the root with SHA-256 {}",
            hex::encode(time.root)
        ),
    )
}

fn job_claims(job: &ProvenJob) -> Vec<Claim> {
    let receipt = job.receipt();
    let usage = receipt.usage;
    let mut claims = vec![
        claim(
            "receipt",
            format!(
                "job {} ran model {} with root {}",
                hex::encode(receipt.job),
                receipt.model,
                receipt.model_root
            ),
            "a signature by the receipt key of the keyset that this evidence commits to",
        ),
        claim(
            "cost",
            format!(
                "{} nanoTON for {} + {} tokens ({} cached), at most what the payer allowed ({})",
                receipt.cost, usage.prompt, usage.completion, usage.cached, receipt.cost_max
            ),
            format!(
                "the attested prices, and the cap that payer key {} signed",
                hex::encode(job.payer_key())
            ),
        ),
    ];
    if let Some(voucher) = job.voucher() {
        claims.push(claim(
            "voucher",
            format!(
                "{} nanoTON promised in all on channel {}, up to this answer",
                voucher.cumulative, voucher.channel
            ),
            "the payer's signature over the amount and the answer's frames",
        ));
    }
    if let Some(logged) = job.logged() {
        let of = logged.of();
        claims.push(claim(
            "log",
            format!(
                "entry {} of {} in tree {} of the provider's log, which it says it closed on {}; root {}",
                logged.index(),
                of.size,
                of.tree,
                day(of.closed_unix_s),
                hex::encode(logged.root())
            ),
            "a COSE Receipt (RFC 9942) signed by the key that endorsed the keyset",
        ));
    }
    claims
}
