//! `cargo demo`: one private answer, end to end, on this machine.

use anyhow::Context;
use clap::Parser;
use image_builder::{ModelLock, Progress, Store, ensure_models};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use tests::programs::Programs;
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{Stack, StackOptions, Tamper, scenario};

/// One private answer, end to end: sealed, attested, signed, verified, paid.
///
/// Starts an embedded TON ledger, a simulated TDX module, the guest agent and the courier, then does what a developer
/// does. The TDX module and the value of the coins are SIMULATED: this shows that the parts fit and what each refuses,
/// not that this machine keeps secrets.
#[derive(Parser)]
#[command(
    name = "demo",
    version,
    after_help = "\
Examples:
  cargo demo                       the whole road, explained
  cargo demo -- --json             the same, one JSON object on the last line of stdout
  cargo demo -- --tamper receipt   one byte changed; ends with exit code 1 and who refused it
  cargo demo -- --keep             leaves everything running and prints a curl line"
)]
struct Cli {
    /// Print one JSON object on the last line of standard output, and no words.
    #[arg(long)]
    json: bool,
    /// Change one byte there.
    #[arg(long, conflicts_with = "keep")]
    tamper: Option<Tamper>,
    /// Leave everything running, with the OpenAI API on 127.0.0.1:10000, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let work = async {
        tokio::select! {
            done = run(&cli) => done,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; everything that was started has ended")),
        }
    };
    match work.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {}", client::cli::told(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let mut steps = Steps::new(cli.json);
    let programs = tokio::task::spawn_blocking(Programs::build).await??;
    steps.done(
        "build",
        "guest-agent-sim, host-proxy, client, simulator".into(),
    );
    let quiet = cli.json;
    let models = tokio::task::spawn_blocking(move || models(quiet)).await??;
    steps.done(
        "models",
        "all-MiniLM-L6-v2 by digest; tiny-chat from this repository".into(),
    );

    let options = StackOptions {
        tamper: cli.tamper,
        ..StackOptions::default()
    };
    let stack = Stack::start(programs, &models, options).await?;
    steps.done("start", "ledger, SIMULATED TDX module, guest agent (measured in RTMR3, other registers zero), courier".into());

    let report = scenario::run(&stack, cli.tamper, &mut steps).await?;
    if !cli.json {
        eprintln!(
            "{:>7.2}s  in all. Simulated: TDX module, coins. Real: everything else.",
            steps.total_s()
        );
    }
    if cli.keep {
        keep(&stack).await?;
    }
    if cli.json {
        println!("{}", report.0);
    }
    anyhow::ensure!(
        cli.tamper.is_none(),
        "one byte was changed and nobody noticed"
    );
    Ok(())
}

/// Fetches the embeddings model when it is not there, with progress.
fn models(quiet: bool) -> anyhow::Result<PathBuf> {
    let store = Store::from_environment()
        .context("no home folder to keep models in; set CHRYSALIS_STORE")?;
    let bar = if quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    let style = ProgressStyle::with_template("  {msg} {bar:30} {bytes}/{total_bytes} {eta}")
        .unwrap_or(ProgressStyle::default_bar());
    bar.set_style(style);
    let mut progress = |event: Progress<'_>| match event {
        Progress::Starting { url, got, total } => {
            if !quiet && bar.is_hidden() {
                eprintln!("  fetching {url} ({total} bytes)");
            }
            bar.set_message("fetching all-MiniLM-L6-v2");
            bar.set_length(total);
            bar.set_position(got);
        }
        Progress::Received { got, .. } => bar.set_position(got),
        _ => {}
    };
    let dir = ensure_models(&store, &ModelLock::committed(), &mut progress)?;
    bar.finish_and_clear();
    Ok(dir)
}

/// Offers the OpenAI API over the running stack until Ctrl-C.
async fn keep(stack: &Stack) -> anyhow::Result<()> {
    let mut command = Command::new(stack.program("client"));
    command
        .args(["serve", "--config"])
        .arg(stack.client_config());
    command
        .arg("--insecure-test-root")
        .arg(stack.path("sim/root.der"))
        .stdin(Stdio::null());
    let mut serve = tokio::process::Command::from(command);
    let mut serve = serve
        .kill_on_drop(true)
        .spawn()
        .context("starting client serve")?;
    eprintln!("\nEverything keeps running until Ctrl-C. Try:\n");
    println!(
        "curl -s http://127.0.0.1:10000/v1/chat/completions -H 'content-type: application/json' \
         -d '{{\"model\":\"{CHAT}\",\"messages\":[{{\"role\":\"user\",\"content\":\"What does a receipt prove?\"}}],\"temperature\":0}}'"
    );
    let status = serve.wait().await?;
    anyhow::ensure!(status.success(), "client serve ended with {status}");
    Ok(())
}
