//! Event logs: those of real machines lead to the registers of the quotes beside them; no others are believed.

use std::fs;

use crate::common::{json, run, vector};
use attest::Quote;
use diagnose::{Claim, EventLog, EventLogError, Kind, Source};
use registers::Digest48;
use serde_json::{Value, json};

const COS: &str = "ccel/gcp-cos-113/ccel_data.dat";
const COS_QUOTE: &str = "ccel/gcp-cos-113/cos-113-tdx-quote.dat";
const DSTACK: &str = "ccel/dstack/quote-report.json";
const DSTACK_CCEL: &str = "ccel/dstack/ccel.bin";
const TPM: &str = "tpm-log/direct/tpmlog.bin";
const BESIDE: &str = "it lies beside the first";

fn dstack_quote(report: &[u8]) -> Vec<u8> {
    let report: Value = serde_json::from_slice(report).unwrap();
    hex::decode(report["quote"].as_str().unwrap()).unwrap()
}

fn rtmrs(quote: &[u8]) -> [Digest48; 4] {
    Quote::parse(quote).unwrap().td.registers.rtmr
}

/// The firmware logs, with a little of what fills up their areas.
fn firmware_logs() -> Vec<(&'static str, Vec<u8>, Kind)> {
    let all = [
        (COS, Kind::Ccel),
        (DSTACK_CCEL, Kind::Ccel),
        (TPM, Kind::Tpm),
    ];
    let read = |(name, kind)| {
        let mut bytes = vector(name)?;
        bytes.truncate(used(&bytes) + 16);
        Some((name, bytes, kind))
    };
    all.into_iter().filter_map(read).collect()
}

fn used(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|b| **b == 0xff).count()
}

/// How many events of a log have each claim: data, value, label, differs, absent.
fn claims(log: &EventLog) -> [usize; 5] {
    let all: Vec<Claim> = log.events().iter().map(|event| event.claim()).collect();
    let kinds = [
        Claim::Data,
        Claim::Value,
        Claim::Label,
        Claim::Differs,
        Claim::Absent,
    ];
    kinds.map(|kind| all.iter().filter(|claim| **claim == kind).count())
}

#[test]
fn the_log_of_a_real_guest_leads_to_its_quote() {
    let Some(log) = vector(COS) else { return };
    let log = EventLog::parse_tcg(&log, Kind::Ccel).unwrap();
    let replay = log.replay();
    assert_eq!(replay.rtmr, rtmrs(&vector(COS_QUOTE).expect(BESIDE)));
    assert_eq!(replay.events, [16, 7, 20, 0]);
    assert_eq!(claims(&log), [13, 18, 12, 0, 0]);
}

#[test]
fn the_log_of_a_dstack_guest_leads_to_its_quote() {
    let Some(report) = vector(DSTACK) else { return };
    let log = EventLog::parse_dstack(&report).unwrap();
    let replay = log.replay();
    assert_eq!(replay.rtmr, rtmrs(&dstack_quote(&report)));
    assert_eq!(replay.events, [13, 5, 2, 8]);
    assert_eq!(claims(&log), [18, 2, 8, 0, 0]);

    // The list alone says the same.
    let report: Value = serde_json::from_slice(&report).unwrap();
    let list = report["event_log"].as_str().unwrap();
    assert_eq!(EventLog::parse_dstack(list.as_bytes()), Ok(log.clone()));
    let nested = format!(r#"{{"event_log":{list}}}"#);
    assert_eq!(EventLog::parse_dstack(nested.as_bytes()), Ok(log));
}

/// Another machine's, of 1 GiB: no quote lies beside it, but what machines share is the same as in the first log.
#[test]
fn a_second_log_of_dstack_firmware_has_the_same_separators_and_variables() {
    let Some(log) = vector(DSTACK_CCEL) else {
        return;
    };
    let log = EventLog::parse_tcg(&log, Kind::Ccel).unwrap();
    let other = EventLog::parse_dstack(&vector(DSTACK).expect(BESIDE)).unwrap();
    assert_eq!(log.events().len(), 18);
    for (one, two) in log.events()[1..8].iter().zip(&other.events()[1..8]) {
        assert_eq!(
            (one.register, one.kind, one.digest, &one.data),
            (two.register, two.kind, two.digest, &two.data)
        );
    }
}

/// PCR 10 is Linux's own list (IMA), which firmware does not log.
#[test]
fn the_log_of_a_tpm_leads_to_its_pcrs() {
    let Some(log) = vector(TPM) else { return };
    let log = EventLog::parse_tcg(&log, Kind::Tpm).unwrap();
    let replayed = log.replay_by_index();
    let names = String::from_utf8(vector("tpm-log/direct/names.txt").expect(BESIDE)).unwrap();
    let mut compared = 0;
    for line in names.lines().filter(|line| line.starts_with("pcr")) {
        let (number, value) = line[3..].split_once(' ').unwrap();
        let number: u32 = number.parse().unwrap();
        if number != 10 {
            let value: Digest48 = value.to_lowercase().parse().unwrap();
            let ours = replayed.get(&number).copied();
            assert_eq!(ours.unwrap_or(Digest48::ZERO), value, "PCR {number}");
            compared += 1;
        }
    }
    assert_eq!(compared, 15);
    assert_eq!(log.replay().events, [13, 9, 2, 0]);
    assert_eq!(log.replay().rtmr[2], replayed[&9]);
}

/// A digest of any algorithm but SHA-384 extends no register of ours.
#[test]
fn no_flipped_digest_byte_leaves_the_registers_as_they_were() {
    for (name, mut bytes, kind) in firmware_logs() {
        let log = EventLog::parse_tcg(&bytes, kind).unwrap();
        let registers = log.replay_by_index();
        let mut from = 0;
        for event in log.events() {
            let found = bytes[from..].windows(48).position(|w| w == event.digest.0);
            from += found.unwrap();
            for at in from..from + 48 {
                bytes[at] ^= 1 << (at % 8);
                let flipped = EventLog::parse_tcg(&bytes, kind).unwrap();
                assert_ne!(flipped.replay_by_index(), registers, "{name} byte {at}");
                bytes[at] ^= 1 << (at % 8);
            }
            from += 48;
        }
    }
}

/// Anywhere: it is refused, or the log says something else. Data that was hashed does not go on to be called so.
#[test]
fn every_flipped_byte_of_a_log_is_harmless() {
    for (name, mut bytes, kind) in firmware_logs() {
        let log = EventLog::parse_tcg(&bytes, kind).unwrap();
        let [hashed, values, ..] = claims(&log);
        let used = used(&bytes);
        for at in 0..used {
            bytes[at] ^= 0x80;
            let flipped = EventLog::parse_tcg(&bytes, kind);
            // Every byte is read; hashing all data again each time is for some of them.
            if let (Ok(flipped), true) = (flipped, at % (1 + used / 400) == 0) {
                let [data, value, ..] = claims(&flipped);
                assert!(data + value <= hashed + values, "{name} byte {at}");
                for event in flipped.events() {
                    plain(&event.describe());
                }
            }
            bytes[at] ^= 0x80;
        }
    }
}

fn plain(words: &str) {
    assert!(words.chars().all(|c| (' '..='~').contains(&c)), "{words}");
    assert!(words.len() <= diagnose::limits::EVENT_DESCRIPTION_CHARACTERS_MAX);
}

/// Between two events a cut cannot be seen in the log; in the registers it can.
#[test]
fn no_cut_log_leads_to_the_registers() {
    for (name, bytes, kind) in firmware_logs() {
        let log = EventLog::parse_tcg(&bytes, kind).unwrap();
        let used = used(&bytes);
        let mut whole = 0;
        for length in 0..used {
            match EventLog::parse_tcg(&bytes[..length], kind) {
                Ok(cut) => {
                    assert_ne!(cut.replay_by_index(), log.replay_by_index());
                    whole += 1;
                }
                Err(error) => assert!(
                    matches!(error, EventLogError::Cut { .. }),
                    "{name} {length}: {error}"
                ),
            }
        }
        // After the header and after each event but the last, also where only zeros or ones of the next are left.
        assert!(whole >= log.events().len(), "{name}: {whole}");
        assert!(EventLog::parse_tcg(&bytes[..used], kind).is_ok());
    }
}

#[test]
fn a_flipped_or_cut_json_log_is_harmless() {
    let Some(report) = vector(DSTACK) else { return };
    let report: Value = serde_json::from_slice(&report).unwrap();
    let mut bytes = report["event_log"].as_str().unwrap().as_bytes().to_vec();
    let log = EventLog::parse_dstack(&bytes).unwrap();
    for length in 0..bytes.len() {
        assert!(EventLog::parse_dstack(&bytes[..length]).is_err());
    }
    for at in 0..bytes.len() {
        for bit in [0, 5] {
            bytes[at] ^= 1 << bit;
            if let Ok(flipped) = EventLog::parse_dstack(&bytes) {
                assert!(claims(&flipped)[0] <= claims(&log)[0], "byte {at}");
                let same = |(a, b): (&diagnose::Event, &diagnose::Event)| {
                    (a.register, a.digest) == (b.register, b.digest)
                };
                if flipped.events().iter().zip(log.events()).all(same) {
                    assert_eq!(flipped.replay(), log.replay());
                } else {
                    assert_ne!(flipped.replay(), log.replay(), "byte {at}");
                }
            }
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_list_of_runtime_events_replays_into_the_last_register() {
    let manifest = crate::common::manifest();
    let list = serde_json::to_vec(manifest.rtmr3_events()).unwrap();
    let log = EventLog::parse_runtime(&list).unwrap();
    assert_eq!(log.source(), Source::Runtime);
    let last = registers::replay(manifest.rtmr3_events());
    let zero = Digest48::ZERO;
    assert_eq!(log.replay().rtmr, [zero, zero, zero, last]);
    assert_eq!(log.events()[0].claim(), Claim::Label);
    assert!(EventLog::parse_dstack(&list).is_err());
}

/// Firmware's events in one file, the application's in another: together they lead to the quote, in this order only.
#[test]
fn two_logs_are_replayed_one_after_the_other() {
    let Some(report) = vector(DSTACK) else { return };
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("quote", &dstack_quote(&report));
    let report: Value = serde_json::from_slice(&report).unwrap();
    let list: Vec<Value> = serde_json::from_str(report["event_log"].as_str().unwrap()).unwrap();
    let runtime: Vec<Value> = list[22..]
        .iter()
        .map(|event| json!({ "name": event["event"], "digest": event["digest"] }))
        .collect();
    write("firmware", Value::from(&list[..22]).to_string().as_bytes());
    write("agent", Value::from(runtime).to_string().as_bytes());
    let good = |logs: [&str; 2]| {
        let [one, two] = logs;
        let arguments = [
            "replay",
            "--event-log",
            one,
            "--event-log",
            two,
            "--quote",
            "quote",
            "--json",
        ];
        let out = run(directory.path(), &arguments);
        assert_eq!(
            out.status.code(),
            Some(i32::from(json(&out)["good"] == false))
        );
        assert_eq!(json(&out)["logs"].as_array().unwrap().len(), 2);
        json(&out)["good"].clone()
    };
    assert_eq!(good(["firmware", "agent"]), true);
    assert_eq!(good(["agent", "firmware"]), false);
    assert_eq!(good(["firmware", "firmware"]), false);
}

#[test]
fn the_program_compares_with_a_quote() {
    let Some(report) = vector(DSTACK) else { return };
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("report", &report);
    write("quote", &dstack_quote(&report));
    let replay = |log: &str, more: &[&str]| {
        let fixed = ["replay", "--event-log", log, "--quote", "quote", "--json"];
        run(directory.path(), &[&fixed[..], more].concat())
    };
    let out = replay("report", &[]);
    assert_eq!(
        (out.status.code(), &json(&out)["good"]),
        (Some(0), &json!(true))
    );
    assert_eq!(json(&out)["registers"]["rtmr3"]["matches"], true);
    assert_eq!(json(&out)["events"][7]["what"], "end of a phase");

    // One digit of one payload: the registers stand, the data does not.
    let text = String::from_utf8(report.clone()).unwrap();
    let payload = "f552dfc1998cba2d60da27e7";
    assert_eq!(text.matches(payload).count(), 1);
    write(
        "lie",
        text.replace(payload, "f552dfc1998cba2d60da27e8").as_bytes(),
    );
    let out = replay("lie", &[]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(json(&out)["registers"]["rtmr3"]["matches"], true);
    assert_eq!(json(&out)["data_differs"], 1);
    let what = json(&out)["events"][22]["what"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(what.starts_with("NOT what was measured: "), "{what}");

    // Another guest's log, and a TPM's under its name.
    write("other", &vector(DSTACK_CCEL).expect(BESIDE));
    let out = replay("other", &["--format", "ccel"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(json(&out)["registers"]["rtmr0"]["matches"], false);
    write("tpm", &vector(TPM).expect(BESIDE));
    let out = run(
        directory.path(),
        &["replay", "--event-log", "tpm", "--format", "tcg"],
    );
    assert_eq!(out.status.code(), Some(0));
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(
        table.starts_with("log of a TPM, not of a TDX guest"),
        "{table}"
    );
    assert!(table.contains("PCR9         24  EV_EVENT_TAG"), "{table}");
}
