//! `chrysalis check`: asks another worker the question of a job on file, and says whether it answers with the same bits.

use super::verify::{moment, own_proof, receipt_id, verifier_of};
use super::{Common, Misuse, open};
use crate::check::{Again, CheckFile, Checked, ShownJob};
use crate::config::Config;
use crate::files::write_new;
use crate::kept::KeptJobs;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use wire::{Compared, ReceiptDigest};

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The receipt's id, from `x_job.receipt_id`, of a job that was made with `keep_jobs`.
    #[arg(value_parser = receipt_id)]
    id: ReceiptDigest,
    /// The configuration with which the job was made.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The configuration of the worker that is asked, with its own proxy, channel and manifest [default: that of the job]
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// The file to write; one that exists is left alone and refused. It holds question and answers.
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Say what it costs at most, and ask nothing.
    #[arg(long)]
    dry_run: bool,
    /// Judge the job's evidence as at this moment: a day such as 2026-11-29, or Unix seconds. You vouch for it.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    at: Option<u64>,
    /// Trust this root (a DER file) instead of Intel's. For simulated machines: nothing under it is confidential.
    #[arg(long, value_name = "FILE")]
    insecure_test_root: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// `chrysalis check`
pub(super) async fn check(arguments: CheckArguments) -> anyhow::Result<ExitCode> {
    let config = Config::read(&arguments.config)?;
    let kept = config.keep_jobs.clone().ok_or_else(|| {
        let path = arguments.config.display();
        Misuse(format!(
            "{path} has no `keep_jobs`, so that no job can be asked again"
        ))
    })?;
    if let Some(path) = arguments.out.as_ref().filter(|path| path.exists()) {
        let path = path.display();
        return Err(Misuse(format!("{path} is there already; nothing was asked")).into());
    }
    // 1. The job, proved again: what is compared is what its worker signed.
    let first = ShownJob {
        proof: own_proof(Some(&config), arguments.id).await?,
        transcript: KeptJobs::open(kept)?.take(&arguments.id)?,
    };
    let named = arguments.insecure_test_root.as_deref();
    let verifier = verifier_of(&config, named)?;
    let proved = verifier.verify_proof(&first.proof, arguments.at)?;
    let said = first.transcript.open(proved.receipt())?;
    // 2. The other worker, and whether its bits must agree.
    let client = open(&Common {
        config: arguments.with.unwrap_or(arguments.config),
        insecure_test_root: arguments.insecure_test_root.clone(),
    })?;
    let session = client.session().await?;
    let again = Again::count(&session, proved.receipt(), &said)?;
    if arguments.dry_run {
        let cost = again.cost_max();
        match arguments.json {
            true => println!("{}", json!({ "dry_run": true, "cost_max_nano": cost })),
            false => println!(
                "asking {} again costs at most {cost} nanoTON",
                client.proxy()
            ),
        }
        return Ok(ExitCode::SUCCESS);
    }
    // 3. The answer. Nothing of it is lost, whatever it is.
    let (payment, transcript) = again.ask(&client).await?;
    let proof = client.budget().proof(&payment.receipt)?;
    let second = ShownJob { proof, transcript };
    let file = CheckFile { first, second };
    let out = arguments.out.context("clap asked for a file")?;
    write_new(&out, file.to_json().as_bytes())?;
    let checked = file.verify(&verifier, &session.shared().verifier, arguments.at)?;
    let mut object = checked_object(&checked);
    object["first"] = arguments.id.to_string().into();
    object["second"] = payment.receipt.to_string().into();
    object["cost_nano"] = json!(payment.cost);
    object["file"] = out.display().to_string().into();
    match arguments.json {
        true => println!("{object}"),
        false => {
            println!("{}", checked.sentence());
            println!("{}", checked.workers());
            println!("receipts  {} and {}", arguments.id, payment.receipt);
            println!("cost      {} nanoTON", payment.cost);
            println!("file      {}", out.display());
        }
    }
    Ok(match checked.compared {
        Compared::Same { .. } => ExitCode::SUCCESS,
        Compared::Differ { .. } => ExitCode::FAILURE,
    })
}

/// What a check came to, for `--json`.
pub(super) fn checked_object(checked: &Checked) -> Value {
    let (compared, differs_at) = match checked.compared {
        Compared::Same { count } => (Some(count), None),
        Compared::Differ { at } => (None, Some(at)),
    };
    let (first, second) = (checked.first.worker(), checked.second.worker());
    json!({
        "same": differs_at.is_none(),
        "compared": compared,
        "differs_at": differs_at,
        "another_keyset": first.keyset_digest() != second.keyset_digest(),
        "another_machine": first.peer().ppid != second.peer().ppid,
        "another_payee": first.keyset().payee != second.keyset().payee,
    })
}
