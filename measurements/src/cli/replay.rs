//! `measurements replay`: event logs as registers, and as a table for people.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use attest::FileKind;
use clap::{Args, ValueEnum};
use diagnose::{Claim, Event, EventLog, Kind, Replay, Source};
use registers::Register;
use serde_json::{Map, Value, json};

use super::quote_file::parse_quote;
use super::{print, print_json, read_bounded};

/// Replay event logs into registers, compare them with a quote, and show what each event is worth.
///
/// Exit code 0: all four RTMRs of the quote, if there is one, are what the logs lead to, and no event has data that does
/// not hash to its digest. 1: something differs. The quote's signature is not checked; use `quote verify` for that.
///
/// Example, in a guest:
///   measurements replay --event-log /sys/firmware/acpi/tables/data/CCEL --quote quote.bin
/// Example, firmware's log and agent's, one after the other:
///   measurements replay --event-log ccel.bin --event-log events.json --quote quote.bin
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ReplayArguments {
    /// An event log. Repeatable; replayed in this order.
    #[arg(long, value_name = "FILE", required = true)]
    event_log: Vec<PathBuf>,
    /// The format of the logs [default: json if they begin like JSON, else ccel]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// A quote to compare with: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Kinds of log.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The log of a TDX guest's firmware.
    Ccel,
    /// The log of a TPM.
    Tcg,
    /// The log of a dstack guest, or a list of this project's runtime events.
    Json,
}

/// One RTMR, and how it stands to the quote's.
struct Compared {
    register: Register,
    value: String,
    events: usize,
    quoted: Option<String>,
}

/// Whether everything that was compared holds.
pub fn replay(arguments: &ReplayArguments) -> anyhow::Result<bool> {
    let logs = arguments
        .event_log
        .iter()
        .map(|path| read(path, arguments.format))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let replayed = logs
        .iter()
        .fold(Replay::START, |before, log| log.replay_after(before));
    let registers = compare(&replayed, arguments.quote.as_deref())?;
    let events = || logs.iter().flat_map(EventLog::events);
    let lies = events().filter(|event| event.claim() == Claim::Differs);
    let lies = lies.count();
    let good = lies == 0 && registers.iter().all(Compared::holds);
    if arguments.json {
        let of_tpm = logs.iter().filter(|log| log.source() == Source::Tpm);
        let pcrs = of_tpm
            .flat_map(EventLog::replay_by_index)
            .map(|(index, value)| (index.to_string(), value.to_string().into()));
        print_json(&json!({
            "good": good,
            "logs": logs.iter().map(|log| source(log.source())).collect::<Vec<_>>(),
            "events": logs.iter().flat_map(events_json).collect::<Vec<_>>(),
            "registers": registers.iter().map(Compared::json).collect::<Map<_, _>>(),
            "pcrs": pcrs.collect::<Map<_, _>>(),
            "data_differs": lies,
        }))?;
    } else {
        let lines: String = logs
            .iter()
            .map(table)
            .chain(registers.iter().map(Compared::line))
            .collect();
        print(lines.as_bytes())?;
    }
    remarks(&logs, lies, arguments.quote.is_some());
    Ok(good)
}

/// A log of any kind.
pub(super) fn read(path: &Path, format: Option<Format>) -> anyhow::Result<EventLog> {
    let bytes = read_log_file(path)?;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let format = format.unwrap_or(match first {
        Some(b'{' | b'[') => Format::Json,
        _ => Format::Ccel,
    });
    let log = match format {
        Format::Ccel => EventLog::parse_tcg(&bytes, Kind::Ccel),
        Format::Tcg => EventLog::parse_tcg(&bytes, Kind::Tpm),
        Format::Json => EventLog::parse_runtime(&bytes).or_else(|_| EventLog::parse_dstack(&bytes)),
    };
    log.with_context(|| {
        let kind = match format {
            Format::Ccel => "a CCEL log (a TPM's is `--format tcg`)",
            Format::Tcg => "a TPM's log",
            Format::Json => "a JSON log",
        };
        format!("reading {} as {kind}", path.display())
    })
}

/// The bytes of a log, or those that its text stands for. A file that is recognisably something else is refused by name.
pub(super) fn read_log_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let most = diagnose::limits::EVENT_LOG_BYTES_MAX.max(predict::limits::EVENT_LOG_JSON_BYTES_MAX);
    // Text in hexadecimal takes two characters a byte.
    let file = read_bounded(path, 2 * most)?;
    let bytes = attest::bytes_of_text(&file).into_owned();
    match FileKind::of(&bytes) {
        Some(FileKind::EventLog | FileKind::Json) | None => Ok(bytes),
        Some(other) => bail!(
            "{} is not an event log: it is {other}; wanted is a copy of a TDX guest's /sys/firmware/acpi/tables/data/CCEL, or the JSON \
             of a dstack guest or of this project's agent",
            path.display()
        ),
    }
}

fn compare(replayed: &Replay, quote: Option<&Path>) -> anyhow::Result<Vec<Compared>> {
    let quote = quote.map(parse_quote).transpose()?;
    let rtmrs = [
        Register::Rtmr0,
        Register::Rtmr1,
        Register::Rtmr2,
        Register::Rtmr3,
    ];
    let compared = rtmrs
        .into_iter()
        .zip(replayed.rtmr)
        .zip(replayed.events)
        .map(|((register, value), events)| Compared {
            register,
            value: value.to_string(),
            events,
            quoted: quote
                .as_ref()
                .map(|quote| register.of(&quote.td.registers).to_string()),
        });
    Ok(compared.collect())
}

impl Compared {
    /// Nothing to compare with holds.
    fn holds(&self) -> bool {
        self.quoted
            .as_ref()
            .is_none_or(|quoted| *quoted == self.value)
    }

    fn outcome(&self) -> &'static str {
        match (&self.quoted, self.holds(), self.events) {
            (None, ..) => "not compared",
            (Some(_), true, _) => "match",
            (Some(_), false, 0) => "differs: no event of it in the logs",
            (Some(_), false, _) => "differs",
        }
    }

    fn line(&self) -> String {
        let Compared {
            register,
            value,
            events,
            ..
        } = self;
        let mut line = format!("{register}  {value}  {events} events  {}\n", self.outcome());
        if let (Some(quoted), false) = (&self.quoted, self.holds()) {
            line += &format!("  quote  {quoted}\n");
        }
        line
    }

    fn json(&self) -> (String, Value) {
        let fields = json!({
            "value": self.value,
            "events": self.events,
            "quote": self.quoted,
            "matches": self.quoted.as_ref().map(|_| self.holds()),
        });
        (self.register.to_string().to_lowercase(), fields)
    }
}

fn table(log: &EventLog) -> String {
    let mut lines = format!(
        "{}\n{:8}  {:>5}  {:32}  {:16}  {:12}  what the log says\n",
        source(log.source()),
        "register",
        "event",
        "type",
        "digest",
        "data"
    );
    for (number, event) in log.events().iter().enumerate() {
        let digest: String = event.digest.to_string().chars().take(16).collect();
        lines += &format!(
            "{:8}  {number:5}  {:32}  {digest:16}  {:12}  {}\n",
            register(log.source(), event),
            kind(event),
            claim(event.claim()),
            event.describe()
        );
    }
    if log.source() == Source::Tpm {
        for (index, value) in log.replay_by_index() {
            lines += &format!("\nPCR{index:<3} {value}");
        }
        lines += "\n";
    }
    lines + "\n"
}

fn events_json(log: &EventLog) -> Vec<Value> {
    let one = |(number, event): (usize, &Event)| {
        json!({
            "log": source(log.source()),
            "event": number,
            "register": event.register,
            "index": event.index,
            "extends": event.extends(),
            "type": kind(event),
            "type_number": event.kind.map(|kind| kind.0),
            "digest": event.digest,
            "data": claim(event.claim()),
            "what": event.describe(),
        })
    };
    log.events().iter().enumerate().map(one).collect()
}

fn register(source: Source, event: &Event) -> String {
    match (source, event.extends(), event.register) {
        (_, false, _) => "none".into(),
        (Source::Tpm, ..) => format!("PCR{}", event.index),
        (_, _, Some(register)) => register.to_string(),
        (_, _, None) => event.index.to_string(),
    }
}

fn kind(event: &Event) -> String {
    event
        .kind
        .map_or_else(|| "runtime event".into(), |kind| kind.to_string())
}

fn claim(claim: Claim) -> &'static str {
    match claim {
        Claim::Data => "data ok",
        Claim::Value => "value ok",
        Claim::Label => "label",
        Claim::Differs => "data differs",
        Claim::Absent => "no data",
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Ccel => "CCEL log of a TDX guest",
        Source::Tpm => {
            "log of a TPM, not of a TDX guest (PCR 1, 7 as RTMR0; 2 to 6 as RTMR1; 8 to 15 as RTMR2)"
        }
        Source::Dstack => "log of a dstack guest",
        Source::Runtime => "runtime events of a guest agent (RTMR3)",
    }
}

fn remarks(logs: &[EventLog], lies: usize, with_quote: bool) {
    if lies > 0 {
        eprintln!(
            "{lies} events carry data that does not hash to their digest: that data was not measured"
        );
    }
    if logs.iter().any(|log| log.source() == Source::Tpm) {
        eprintln!(
            "a TPM's log: its RTMRs are no TDX guest's, whose firmware measures one separator a register, not a PCR"
        );
    }
    match with_quote {
        true => {
            eprintln!("the quote's signature was not checked (`measurements quote verify` does)")
        }
        false => eprintln!("nothing is compared: anyone can write a log"),
    }
}
