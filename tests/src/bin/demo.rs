//! `cargo demo`: one private answer, end to end, on this machine.

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use image_builder::{ModelLock, Progress, Store, ensure_models};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use tests::programs::Programs;
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{Image, Stack, StackOptions, Tamper, scenario};

/// One private answer, end to end: sealed, attested, signed, verified, paid.
///
/// Builds a guest image from the committed lock, predicts what it measures to, boots it in QEMU beside an embedded TON
/// ledger and the proxy, then does what a developer does. The TDX module and the value of the coins are SIMULATED:
/// this shows that the parts fit and what each refuses, not that this machine keeps secrets.
#[derive(Parser)]
#[command(
    name = "demo",
    version,
    after_help = "\
Examples:
  cargo demo                       the whole road, explained
  cargo demo -- --json             the same, one JSON object on the last line of stdout
  cargo demo -- --tamper receipt   one byte changed; ends with exit code 1 and who refused it
  cargo demo -- --tamper initrd    the same in the image that is booted
  cargo demo -- --process          the guest is a process: no image, no machine, a few seconds
  cargo demo -- --keep             leaves everything running and prints a curl line"
)]
struct Cli {
    /// Print one JSON object on the last line of standard output, and no words.
    #[arg(long)]
    json: bool,
    /// Change one byte there.
    #[arg(long, conflicts_with = "keep")]
    tamper: Option<Tamper>,
    /// The guest is a process of this host instead of a measured virtual machine.
    #[arg(long)]
    process: bool,
    /// Leave everything running, with the OpenAI API on 127.0.0.1:10000, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.process && cli.tamper.is_some_and(Tamper::is_in_image) {
        let sentence = "--process has no image to tamper with";
        Cli::command()
            .error(ErrorKind::ArgumentConflict, sentence)
            .exit();
    }
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

    let image = match cli.process {
        true => None,
        false => Some(image(&programs, quiet, &mut steps).await?),
    };
    let options = StackOptions {
        tamper: cli.tamper,
        image: image.clone(),
        ..StackOptions::default()
    };
    let stack = Stack::start(programs, &models, options).await?;
    steps.done("start", started(&stack));

    let mut report = scenario::run(&stack, cli.tamper, &mut steps).await?;
    if let (Some(image), Some(machine)) = (&image, stack.machine()) {
        report.add_image(&image.manifest, image.build_s, machine.boot_s);
    }
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

/// Builds the image, and tells what it should measure to before anything is booted.
async fn image(programs: &Programs, quiet: bool, steps: &mut Steps) -> anyhow::Result<Image> {
    let programs = programs.clone();
    let building = tokio::task::spawn_blocking(move || Image::build(&programs, "sim", quiet));
    let image = building.await??;
    let registers = &image.manifest.registers;
    steps.done(
        "image",
        format!(
            "kernel, initrd, verified root; predicted MRTD {}… RTMR0 {}… RTMR1 {}… RTMR2 {}…",
            &registers.mrtd.to_string()[..8],
            &registers.rtmr0.to_string()[..8],
            &registers.rtmr1.to_string()[..8],
            &registers.rtmr2.to_string()[..8],
        ),
    );
    Ok(image)
}

fn started(stack: &Stack) -> String {
    match stack.machine() {
        Some(machine) => format!(
            "ledger, proxy, SIMULATED TDX module; the image booted by QEMU ({}) in {:.1} s, agent measured in RTMR3",
            machine.accelerator, machine.boot_s
        ),
        None => "ledger, proxy, SIMULATED TDX module; guest agent as a process (RTMR3 measured, other registers zero)".into(),
    }
}

/// Fetches the embeddings model when it is not there, with progress.
fn models(quiet: bool) -> anyhow::Result<PathBuf> {
    let store = Store::from_environment()
        .context("no home directory to keep models in; set CHRYSALIS_STORE")?;
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
