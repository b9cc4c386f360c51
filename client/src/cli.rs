//! The command line. Data goes to stdout, messages to stderr; 0 is success, 1 a refusal or failure, 2 misuse.

mod channel;
mod chat;
mod check;
mod evidence;
mod init;
mod registry;
mod report;
mod verify;
mod wallet;

use crate::attestation::Attestation;
use crate::budget::Spender;
use crate::chain::RegistrySeen;
use crate::client::Client;
use crate::config::Config;
use crate::error::ClientError;
use crate::files::{api_key, new_key, private_directory};
use crate::limits::{LAST_DELIVERY_TIME, REQUEST_BYTES_MAX};
use crate::objects::{attestation_object, embeddings_object, root_words};
use crate::openai::Delivery;
use crate::serve::{Access, Unknown, serve};
use crate::trust::Platform;
use anyhow::Context;
use axum::serve::Listener;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

/// Private answers from attested machines, with a receipt and a price.
#[derive(Debug, Parser)]
#[command(
    name = "chrysalis",
    version = env!("CHRYSALIS_VERSION"),
    after_help = "Example:\n  chrysalis attest --config client.yaml\n  chrysalis serve --config client.yaml &\n  \
    curl http://127.0.0.1:10000/v1/models\n\nExit code: 0 done, 1 refused or failed, 2 wrong arguments."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Challenge the worker and verify its evidence.
    Attest {
        #[command(flatten)]
        common: Common,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Say whether an endpoint, a proof file or a receipt is what it claims. Needs no wallet and no money.
    #[command(
        after_help = "An endpoint is challenged now; a proof file and a receipt are judged offline. The first line is the \
        verdict; then come the claims with what proves each, what was not proved, and an alert for what changed since \
        the last time.\n\nExit code: 0 verified, 1 not verified, 2 misuse.\n\nExample:\n  \
        chrysalis verify http://provider.example:9000 --manifest manifest.json\n  \
        chrysalis verify answer.proof --manifest manifest.json"
    )]
    Verify(verify::VerifyArguments),
    /// Write the proof of a paid job to a file: evidence, receipt and voucher, for `chrysalis verify`.
    #[command(
        after_help = "It holds neither prompt nor answer. It shows the payer's key, the channel, the model, token counts \
        and the amount promised.\n\nExample:\n  \
        chrysalis proof RECEIPT_ID --config client.yaml --out answer.proof"
    )]
    Proof(verify::ProofArguments),
    /// Report a worker that signed two charges of one number, or one above its cap, to its stake, which is cut for it.
    #[command(
        after_help = "What a refused answer proved is in the books. Two proofs of one number, of two payers, are reported from their \
        files. Anyone may report; a tenth of what is cut goes to the wallet that does. Whoever sees a report on its way can send \
        it first.\n\nExample:\n  chrysalis report --config client.yaml --dry-run\n  \
        chrysalis report one.proof other.proof --config client.yaml"
    )]
    Report(report::ReportArguments),
    /// Ask another worker the question of a job on file, and compare its answer bit for bit. It is a paid job.
    #[command(
        after_help = "The job must have been made with `keep_jobs` in the configuration. Another model root, quantisation or class \
        of bits is refused before anything is paid. `chrysalis verify` reads the file.\n\n\
        Exit code: 0 the same bits, 1 other bits or refused, 2 misuse.\n\nExample:\n  \
        chrysalis check RECEIPT_ID --config client.yaml --with other.yaml --dry-run\n  \
        chrysalis check RECEIPT_ID --config client.yaml --with other.yaml --out check.json"
    )]
    Check(check::CheckArguments),
    /// Embed the texts on standard input, one a line, and print the OpenAI API's JSON.
    #[command(
        after_help = "Texts come from standard input: other users can read a program's arguments.\n\n\
        Example:\n  printf 'a cat\\na kitten\\n' | chrysalis embed --config client.yaml"
    )]
    Embed {
        #[command(flatten)]
        common: Common,
        /// The model [default: the worker's first for embeddings]
        #[arg(long)]
        model: Option<String>,
    },
    /// Talk with a model: each line is a question, each answer streams to stdout and is verified at its end.
    #[command(
        after_help = "Questions come from standard input: other users can read a program's arguments. At a terminal, \
        /help lists the commands; Ctrl-C cancels an answer, and pressed again it ends the program.\n\n\
        Example:\n  chrysalis chat --config client.yaml --system 'Answer in one sentence.'\n  \
        echo 'Why is the sky blue?' | chrysalis chat --config client.yaml"
    )]
    Chat {
        #[command(flatten)]
        common: Common,
        /// The model [default: the worker's first for chat]
        #[arg(long)]
        model: Option<String>,
        /// What the model is told before the conversation.
        #[arg(long, value_name = "TEXT")]
        system: Option<String>,
        /// The maximum number of completion tokens of an answer.
        #[arg(long)]
        max_tokens: Option<u32>,
        /// All of standard input is one question; print one JSON object instead of streaming.
        #[arg(long)]
        json: bool,
    },
    /// Make a directory to work in: keys, configuration, manifest; with --simulate test funds and a channel, too.
    #[command(
        after_help = "The worker is verified first; its keyset names payee, chain and model roots. Nothing is written over.\n\n\
        Example:\n  chrysalis init desk --proxy http://provider.example:9000 --manifest manifest.json \\\n    \
        --model tiny-chat=model --toncenter http://toncenter.example:8081"
    )]
    Init(init::InitArguments),
    /// Serve the OpenAI API on the loopback interface or on a socket.
    Serve {
        #[command(flatten)]
        common: Common,
        /// The address or unix:PATH to listen on, instead of the configured one; port 0 takes a free port.
        #[arg(long)]
        listen: Option<String>,
        /// Ask for no key: every program of every user of this machine may spend the budget. For the loopback alone.
        #[arg(long)]
        open: bool,
        /// Leave out fields that this version does not know, and name them in the header x-ignored-fields.
        #[arg(long)]
        lenient: bool,
    },
    /// Make keys, each in a file that only you can read.
    #[command(after_help = "Example:\n  chrysalis keygen payer.key wallet.key")]
    Keygen {
        /// Files to write; one that exists is left alone and refused.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Open, fund, show and close the payment channel.
    Channel {
        #[command(subcommand)]
        command: channel::ChannelCommand,
    },
    /// Show and change what the network's registry allows and has revoked.
    Registry {
        #[command(subcommand)]
        command: registry::RegistryCommand,
    },
    /// Make, fund and show the wallet that pays for the channel.
    Wallet {
        #[command(subcommand)]
        command: wallet::WalletCommand,
    },
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  chrysalis completions bash > ~/.local/share/bash-completion/completions/chrysalis"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Trust this root (a DER file) instead of Intel's. For simulated machines: nothing under it is confidential.
    #[arg(long, value_name = "PATH")]
    insecure_test_root: Option<PathBuf>,
}

/// The program's commands and options.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// This process's arguments. Misuse ends with 2, and under --json with an object on standard output, too.
pub fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() && wants_json() {
            let text = error.to_string();
            let (sentence, _) = text.split_once("\n\n").unwrap_or((&text, ""));
            let sentence = sentence.trim().trim_start_matches("error: ");
            println!("{}", json!({ "error": sentence, "fault": "arguments" }));
        }
        error.exit()
    })
}

/// Whether errors are wanted as JSON. Known before the arguments are understood.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// Runs a command and says how it went.
pub fn run(arguments: Arguments) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chrysalis: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            let sentence = told(&error);
            eprintln!("chrysalis: {sentence}");
            let is_misuse = error.is::<Misuse>();
            if wants_json() {
                let named = error
                    .chain()
                    .find_map(|cause| cause.downcast_ref::<ClientError>());
                let fault = match named {
                    _ if is_misuse => "arguments",
                    Some(error) => error.fault().as_str(),
                    None => "unknown",
                };
                println!("{}", json!({ "error": sentence, "fault": fault }));
            }
            match is_misuse {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Arguments that are understood and make no sense together, or name what is not there. Ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

async fn dispatch(given: Command) -> anyhow::Result<ExitCode> {
    let done = match given {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command(), "chrysalis", &mut std::io::stdout());
            Ok(())
        }
        Command::Attest { common, json } => attest(&open(&common)?, json).await,
        Command::Verify(arguments) => return verify::verify(arguments).await,
        Command::Check(arguments) => return check::check(arguments).await,
        Command::Proof(arguments) => verify::proof(arguments).await,
        Command::Report(arguments) => report::report(arguments).await,
        Command::Embed { common, model } => embed(&open(&common)?, model).await,
        Command::Chat {
            common,
            model,
            system,
            max_tokens,
            json,
        } => {
            let options = chat::ChatOptions {
                model,
                system,
                max_tokens,
            };
            let client = open(&common)?;
            match json {
                true => chat::once(&client, options).await,
                false => chat::lines(&client, options).await,
            }
        }
        Command::Init(arguments) => init::init(arguments).await,
        Command::Serve {
            common,
            listen,
            open,
            lenient,
        } => {
            let unknown = match lenient {
                true => Unknown::Ignore,
                false => Unknown::Refuse,
            };
            serve_command(&common, listen, open, unknown).await
        }
        Command::Channel { command } => channel::run(command).await,
        Command::Registry { command } => registry::run(command).await,
        Command::Wallet { command } => wallet::run(command).await,
        Command::Keygen { files } => {
            for path in &files {
                println!("{}  {}", hex::encode(new_key(path)?), path.display());
            }
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn open(common: &Common) -> anyhow::Result<Client> {
    let mut config = Config::read(&common.config)?;
    let confirmed = config.confirm_test_root(common.insecure_test_root.as_deref())?;
    if confirmed {
        eprintln!("root of trust: insecure test root; nothing behind it is confidential");
    }
    Ok(Client::open(config, confirmed)?)
}

async fn attest(client: &Client, json: bool) -> anyhow::Result<()> {
    let session = client.attest().await?;
    match json {
        true => println!("{}", attestation_object(&session, session.registry())),
        false => show_attestation(&session, session.registry()),
    }
    Ok(())
}

fn show_attestation(attestation: &Attestation, registry: Option<&RegistrySeen>) {
    let worker = attestation.worker();
    let (peer, keyset) = (worker.peer(), worker.keyset());
    println!(
        "verified: the quote leads to {}",
        root_words(attestation.root())
    );
    println!("profile   {}", keyset.profile);
    println!("platform  {}", peer.tcb_status);
    println!(
        "PPID      {} ({})",
        hex::encode(&peer.ppid),
        match attestation.platform() {
            Platform::First => "the first one seen behind this proxy",
            Platform::Known => "seen before behind this proxy",
            Platform::Another => "another one than those seen before behind this proxy",
        }
    );
    println!("MRTD      {}", peer.registers.mrtd);
    for (index, register) in peer.registers.rtmr.iter().enumerate() {
        println!("RTMR{index}     {register}");
    }
    println!(
        "keyset    {} (good for {} s)",
        worker.keyset_digest(),
        keyset.lifetime_s
    );
    println!("payee     {} on chain {}", keyset.payee, keyset.chain);
    for model in &keyset.models {
        println!("model     {} root {}", model.id, model.root);
    }
    match registry {
        None => println!("registry  none is configured: nobody was asked what is revoked"),
        Some(seen) => {
            let (address, version, age_s) = (seen.address, seen.version, seen.age_s());
            println!("registry  {address}, version {version}, {age_s} s old");
        }
    }
    println!("nonce     {}", hex::encode(attestation.nonce()));
    println!("took      {} ms", attestation.took().as_millis());
}

/// What to ask, from standard input.
fn prompt() -> anyhow::Result<String> {
    let mut text = String::new();
    let most = REQUEST_BYTES_MAX as u64;
    let read = std::io::stdin().take(most + 1).read_to_string(&mut text);
    let read = read.context("reading standard input")?;
    anyhow::ensure!(
        read as u64 <= most,
        "standard input has more than {most} bytes"
    );
    anyhow::ensure!(
        !text.trim().is_empty(),
        "standard input is empty: it is what is asked"
    );
    Ok(text)
}

async fn embed(client: &Client, model: Option<String>) -> anyhow::Result<()> {
    let text = prompt()?;
    let texts: Vec<&str> = text.lines().collect();
    let model = pick(client, model, crate::Endpoint::Embeddings).await?;
    let answer = client
        .embeddings(&json!({"model": model, "input": texts}))
        .await?;
    println!("{}", embeddings_object(&answer, Delivery::default()));
    Ok(())
}

async fn pick(
    client: &Client,
    named: Option<String>,
    endpoint: crate::Endpoint,
) -> anyhow::Result<String> {
    if let Some(model) = named {
        return Ok(model);
    }
    let session = client.session().await?;
    let offers = session.keyset().models.iter();
    let mut fitting =
        offers.filter(|o| o.endpoint == endpoint && client.models().get(&o.id).is_some());
    let offer = fitting.next();
    Ok(offer
        .with_context(|| format!("no model on the allow-list answers {}", endpoint.path()))?
        .id
        .clone())
}

async fn serve_command(
    common: &Common,
    listen: Option<String>,
    no_key: bool,
    unknown: Unknown,
) -> anyhow::Result<()> {
    let config = Config::read(&common.config)?;
    let address = listen.unwrap_or_else(|| config.listen.clone());
    if let Some(path) = address.strip_prefix("unix:") {
        let client = Arc::new(open(common)?);
        let listener = socket(Path::new(path))?;
        let url = format!("unix:{path}");
        return serve_until_told(client, listener, Access::Socket, unknown, &url).await;
    }
    let client = Arc::new(open(common)?);
    let listener = TcpListener::bind(&address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    let local = listener.local_addr().context("reading the address")?;
    let url = format!("http://{local}/v1");
    if no_key {
        anyhow::ensure!(
            local.ip().is_loopback(),
            "--open is for the loopback; {local} is not"
        );
        eprintln!("warning: --open: every user of this machine can spend this budget");
        return serve_until_told(client, listener, Access::Open, unknown, &url).await;
    }
    let mut keys = vec![(Spender::default(), api_key(&config.api_key_file)?)];
    for key in &config.keys {
        if let Some(file) = &key.file {
            keys.push((Spender::named(&key.name), api_key(file)?));
            eprintln!("the key `{}` is in {}", key.name, file.display());
        }
    }
    if !local.ip().is_loopback() {
        eprintln!("warning: {local} is not the loopback; whoever has the key spends this budget");
    }
    eprintln!(
        "applications need the key in {}",
        config.api_key_file.display()
    );
    serve_until_told(client, listener, Access::Keys(keys), unknown, &url).await
}

async fn serve_until_told<L>(
    client: Arc<Client>,
    listener: L,
    access: Access,
    unknown: Unknown,
    url: &str,
) -> anyhow::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let session = client.attest().await?;
    eprintln!(
        "worker verified: the quote leads to {}",
        root_words(session.root())
    );
    println!("{url}");
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        ended = serve(Arc::clone(&client), listener, access, unknown) => ended.context("serving"),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let delivered = timeout(LAST_DELIVERY_TIME, client.deliver_outstanding()).await;
    if !matches!(delivered, Ok(Ok(()))) {
        eprintln!("the last voucher is on disk and will be sent at the next start");
    }
    ended
}

/// A socket in a directory that only this user may enter. One that a dead sidecar left is replaced.
fn socket(path: &Path) -> anyhow::Result<UnixListener> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    private_directory(directory.unwrap_or(Path::new(".")))?;
    if std::os::unix::net::UnixStream::connect(path).is_err() && path.exists() {
        std::fs::remove_file(path).with_context(|| format!("replacing {}", path.display()))?;
    }
    UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))
}

/// An error and its causes in one line, without the causes that a sentence before them quotes already.
pub fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    causes.fold(String::new(), |told, cause| match told {
        told if told.contains(&cause) => told,
        told if told.is_empty() => cause,
        told => format!("{told}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
