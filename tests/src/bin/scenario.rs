//! The scenario of `cargo demo`, which compiles the programs, then starts this one with the same options.

use anyhow::Context;
use demo::{Options, Plan, Programs, Step};
use image_builder::lock::ModelLock;
use image_builder::store::{Progress, Store, ensure_models};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{Image, Stack, StackOptions, scenario};

#[tokio::main]
async fn main() -> ExitCode {
    let Ok(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!(
            "this program is started by `cargo demo`, which explains its options with --help"
        );
        return ExitCode::from(2);
    };
    let work = async {
        tokio::select! {
            done = run(options) => done,
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

async fn run(options: Options) -> anyhow::Result<()> {
    let programs = Programs::beside_this_one()?;
    let quiet = options.json;
    let mut steps = match quiet {
        true => Steps::quiet(),
        false => Steps::of(Plan::new(options, &programs)),
    };
    steps.begin(Step::Models);
    let models = tokio::task::spawn_blocking(move || models(quiet)).await??;
    steps.done(
        "models",
        "all-MiniLM-L6-v2 and SmolLM2-135M-Instruct by digest".into(),
    );

    let image = match options.process {
        true => None,
        false => Some(image(&programs, quiet, &mut steps).await?),
    };
    steps.begin(Step::Start);
    let stack_options = StackOptions {
        tamper: options.tamper,
        image: image.clone(),
        ..StackOptions::default()
    };
    let stack = Stack::start(programs, &models, stack_options).await?;
    steps.done("start", started(&stack));

    steps.begin(Step::Answer);
    let mut report = scenario::run(&stack, options.tamper, &mut steps).await?;
    if let (Some(image), Some(machine)) = (&image, stack.machine()) {
        report.add_image(&image.manifest, image.build_s, machine.boot_s);
    }
    steps.end();
    if options.keep {
        keep(&stack).await?;
    }
    if options.json {
        println!("{}", report.0);
    }
    anyhow::ensure!(
        options.tamper.is_none(),
        "one byte was changed and nobody noticed"
    );
    Ok(())
}

/// Builds the image, and tells what it should measure to before anything is booted.
async fn image(programs: &Programs, quiet: bool, steps: &mut Steps) -> anyhow::Result<Image> {
    steps.begin(Step::Image);
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

/// Fetches the models that are not there, with progress.
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
            bar.set_message("fetching models");
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
    let mut command = Command::new(stack.program("chrysalis"));
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
        .context("starting chrysalis serve")?;
    eprintln!("\nEverything keeps running until Ctrl-C. Try:\n");
    println!(
        "curl -s http://127.0.0.1:10000/v1/chat/completions -H 'content-type: application/json' \
         -H \"authorization: Bearer $(cat {})\" -d '{{\"model\":\"{CHAT}\",\"messages\":[{{\"role\":\"user\",\"content\":\"What does a receipt prove?\"}}],\"temperature\":0}}'",
        stack.path("api.key").display()
    );
    let status = serve.wait().await?;
    anyhow::ensure!(status.success(), "chrysalis serve ended with {status}");
    Ok(())
}
