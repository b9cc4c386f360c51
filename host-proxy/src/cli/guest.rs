//! `host-proxy guest`: how a running guest is, in its own words.

use crate::config::Config;
use crate::error::{Context, Error, Fault};
use crate::guest::GuestAddress;
use crate::guest_status::ask;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use wire::Status;

#[derive(Subcommand)]
pub(super) enum GuestCommand {
    /// Stages of the boot, registers, keysets and load.
    Status(Asked),
    /// The newest lines of the guest's log. Nothing of a prompt or an answer is in them.
    Logs(Asked),
    /// What RTMR3 was extended with, in order.
    Events(Asked),
    /// The GPUs that take part.
    Gpu(Asked),
}

#[derive(Args)]
pub(super) struct Asked {
    /// The configuration file, which says where the guest is, if it has one alone.
    #[arg(long, value_name = "FILE", required_unless_present = "guest")]
    config: Option<PathBuf>,
    /// Where the guest is: unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    guest: Option<GuestAddress>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// For programs, and line by line for people.
type Shown = (Value, Vec<String>);

pub(super) async fn run(command: GuestCommand) -> Result<(), Error> {
    let (asked, show): (_, fn(&Status) -> Shown) = match command {
        GuestCommand::Status(asked) => (asked, status),
        GuestCommand::Logs(asked) => (asked, logs),
        GuestCommand::Events(asked) => (asked, events),
        GuestCommand::Gpu(asked) => (asked, gpu),
    };
    let guest = match (asked.guest, asked.config) {
        (Some(guest), _) => guest,
        (None, Some(config)) => only(Config::read(&config)?.guests)?,
        (None, None) => {
            let words = "give --config or --guest";
            return Err(Error::new(Fault::Configuration, words));
        }
    };
    let answered = ask(&guest).await;
    let (object, lines) = show(&answered.context(Fault::Guest, || format!("asking {guest}"))?);
    match asked.json {
        true => println!("{object}"),
        false => lines.iter().for_each(|line| println!("{line}")),
    }
    Ok(())
}

/// The one guest of a configuration.
fn only(mut guests: Vec<GuestAddress>) -> Result<GuestAddress, Error> {
    match (guests.pop(), guests.is_empty()) {
        (Some(guest), true) => Ok(guest),
        _ => {
            let words = "the configuration has several guests; name one with --guest";
            Err(Error::new(Fault::Configuration, words))
        }
    }
}

fn status(status: &Status) -> Shown {
    let stage = status.stages.last().map_or("unknown", |stage| &stage.name);
    let names = ["MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3"];
    let registers: Vec<_> = { names.iter() }
        .zip(status.registers.chunks(48).map(hex::encode))
        .collect();
    let load = status.load;
    let mut lines = vec![
        format!("{} of profile {}: {stage}", status.agent, status.profile),
        format!("up         {} s", status.up_ms / 1000),
        format!("load       {} of {} jobs", load.jobs, load.jobs_max),
        format!("GPU        {}", gpus(status)),
    ];
    let stages = status.stages.iter();
    lines.extend(stages.map(|stage| format!("stage      {} after {} ms", stage.name, stage.at_ms)));
    let epochs = status.epochs.iter();
    lines.extend(epochs.map(|epoch| {
        format!(
            "keyset     {} epoch {}, {} s old, {} of {} jobs",
            epoch.keyset, epoch.epoch, epoch.age_s, epoch.jobs, epoch.jobs_max
        )
    }));
    lines.extend(
        registers
            .iter()
            .map(|(name, hex)| format!("{name:<10} {hex}")),
    );
    lines.push("Nobody signed this; what clients trust is in the evidence.".into());
    let registers = registers.into_iter();
    let registers = registers.map(|(name, hex)| (name.to_lowercase(), Value::from(hex)));
    let registers: serde_json::Map<String, Value> = registers.collect();
    let stages = status.stages.iter();
    let stages = stages.map(|stage| json!({"name": stage.name, "at_ms": stage.at_ms}));
    let keysets = status.epochs.iter().map(|epoch| {
        json!({"keyset": epoch.keyset.to_string(), "epoch": epoch.epoch, "age_s": epoch.age_s, "jobs": epoch.jobs,
            "jobs_max": epoch.jobs_max})
    });
    let object = json!({
        "agent": status.agent,
        "profile": status.profile,
        "stage": stage,
        "stages": stages.collect::<Vec<_>>(),
        "up_ms": status.up_ms,
        "load": {"jobs": load.jobs, "jobs_max": load.jobs_max},
        "gpus": status.gpus,
        "keysets": keysets.collect::<Vec<_>>(),
        "registers": registers,
    });
    (object, lines)
}

fn logs(status: &Status) -> Shown {
    let lines = status.log.iter().map(|line| plain(line));
    (json!({ "log": status.log }), lines.collect())
}

fn events(status: &Status) -> Shown {
    let events = status.events.iter();
    let events: Vec<_> = events
        .map(|event| (plain(&event.name), hex::encode(event.digest)))
        .collect();
    let objects: Vec<Value> = { events.iter() }
        .map(|(name, digest)| json!({"register": 3, "name": name, "digest": digest}))
        .collect();
    let line = |(name, digest): &(String, String)| format!("RTMR3 {name:<8} {digest}");
    (
        json!({ "events": objects }),
        events.iter().map(line).collect(),
    )
}

fn gpu(status: &Status) -> Shown {
    (json!({ "gpus": status.gpus }), vec![gpus(status)])
}

fn gpus(status: &Status) -> String {
    match status.gpus.as_slice() {
        [] => "none".into(),
        some => plain(&some.join(", ")),
    }
}

/// A guest's words, without what a terminal would obey.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}
