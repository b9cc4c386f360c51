//! Random sequences of messages to a channel, a stake and a registry, on this machine and on TON's own C++ emulator (`contracts/emulate.mjs`): hash for hash the
//! same messages out, the same description of each transaction (gas, exit code, actions, fees), and the same account after it. Where
//! the emulator is not at hand the sequences still have to keep what the contract promises.

mod registry;
mod sequence;
mod stake;

use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use sequence::{Sequence, Step};
use serde_json::{Value, json};
use settlement::{Address, ChainId};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use tycho_types::cell::CellSliceRange;
use tycho_types::models::{
    AccountState, BouncePhase, ComputePhase, MessageLayout, StateInit, StorageExtra, Transaction,
    TxInfo,
};

/// Sequences that one process of the emulator takes.
const BATCH: u64 = 250;

#[test]
fn random_messages_do_to_a_channel_what_they_do_in_the_reference_emulator() {
    compare(0..500);
}

#[test]
fn random_messages_do_to_a_stake_what_they_do_in_the_reference_emulator() {
    compare_stakes(0..60);
}

#[test]
fn random_messages_do_to_a_registry_what_they_do_in_the_reference_emulator() {
    compare_registries(0..60);
}

#[test]
#[ignore = "minutes"]
fn a_thousand_registries_live_as_they_do_in_the_reference_emulator() {
    compare_registries(60..1_060);
}

#[test]
#[ignore = "minutes"]
fn a_thousand_stakes_live_as_they_do_in_the_reference_emulator() {
    compare_stakes(60..1_060);
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_sequences_do_what_they_do_in_the_reference_emulator() {
    compare(500..10_500);
}

/// What a machine says to a message.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It was not accepted, with this exit code; 0 if nothing ran.
    Refused(i32),
    /// Hashes of messages in and out, of the transaction's description, and of the account. Left out is where this machine is known to
    /// differ: a digest of large accounts' cells, which TON writes for their next transaction; two flags about a message's initial
    /// state; and what a bounce would have cost that the message could not pay.
    Done([HashBytes; 3]),
}

impl Said {
    fn of(transaction: &[u8], account: &ShardAccount) -> Said {
        let root = Boc::decode(transaction).expect("a transaction");
        let mut info = root.parse::<Transaction>().and_then(|tx| tx.load_info());
        if let Ok(TxInfo::Ordinary(info)) = &mut info {
            if let ComputePhase::Executed(phase) = &mut info.compute_phase {
                (phase.msg_state_used, phase.account_activated) = (false, false);
            }
            if let Some(BouncePhase::NoFunds(phase)) = &mut info.bounce_phase {
                phase.req_fwd_fees = Tokens::ZERO;
            }
        }
        let info = CellBuilder::build_from(info.expect("a description")).expect("cells");
        let messages = root.reference_cloned(0).expect("its messages");
        let mut account = account.account.load().expect("an account");
        if let Some(account) = &mut account.0 {
            account.storage_stat.storage_extra = StorageExtra::None;
        }
        let account = CellBuilder::build_from(&account).expect("cells");
        Said::Done([messages, info, account].map(|cell| *cell.repr_hash()))
    }

    /// What `emulate.mjs` prints.
    fn from(value: &Value) -> Said {
        let cell = |n: usize| {
            STANDARD
                .decode(value[n].as_str().expect("cells"))
                .expect("base64")
        };
        match value[0].as_i64() {
            Some(code) => Said::Refused(code as i32),
            None => {
                let account = Boc::decode(cell(1)).expect("cells");
                Said::of(&cell(0), &account.parse().expect("an account"))
            }
        }
    }
}

fn compare(seeds: std::ops::Range<u64>) {
    let mut seen = sequence::Seen::default();
    compare_with(seeds, |config, seed| Sequence::run(config, seed, &mut seen));
    println!("{seen:?}");
    seen.assert_wide();
}

fn compare_stakes(seeds: std::ops::Range<u64>) {
    let mut seen = stake::Seen::default();
    let sequences = seeds.clone().count();
    compare_with(seeds, |config, seed| {
        stake::Life::run(config, seed, &mut seen)
    });
    println!("{seen:?}");
    seen.assert_wide(sequences);
}

fn compare_registries(seeds: std::ops::Range<u64>) {
    let mut seen = registry::Seen::default();
    compare_with(seeds, |config, seed| {
        registry::Life::run(config, seed, &mut seen)
    });
    println!("{seen:?}");
    seen.assert_wide();
}

/// An internal message at this moment and logical time, as it arrives.
fn internal(
    from: &Address,
    to: &Address,
    value: u64,
    bounce: bool,
    init: Option<StateInit>,
    body: Cell,
    (now, lt): (u32, u64),
) -> Cell {
    let info = IntMsgInfo {
        ihr_disabled: true,
        bounce,
        bounced: false,
        src: int_address(from),
        dst: int_address(to),
        value: CurrencyCollection::from(Tokens::new(value.into())),
        extra_flags: Default::default(),
        fwd_fee: Tokens::ZERO,
        created_lt: lt - 1,
        created_at: now,
    };
    let message = OwnedMessage {
        info: MsgInfo::Int(info),
        init,
        body: (CellSliceRange::full(&body), body),
        layout: Some(MessageLayout {
            init_to_cell: true,
            body_to_cell: true,
        }),
    };
    CellBuilder::build_from(&message).expect("a message")
}

fn compare_with(seeds: std::ops::Range<u64>, mut run: impl FnMut(&ParsedConfig, u64) -> Vec<Step>) {
    let config = config::network(ChainId::MAINNET, 1).expect("a configuration");
    let emulator = emulator();
    if emulator.is_none() {
        let why = "set CHRYSALIS_TOLK to a node_modules with @ton/sandbox";
        without::skip("TON's C++ emulator", why);
    }
    let mut first = seeds.start;
    while first < seeds.end {
        let batch = first..(first + BATCH).min(seeds.end);
        let ours: Vec<Vec<Step>> = batch.clone().map(|seed| run(&config, seed)).collect();
        if let Some(modules) = &emulator {
            let theirs = emulated(modules, &ours);
            assert_eq!(ours.len(), theirs.len());
            for ((seed, ours), theirs) in batch.clone().zip(&ours).zip(theirs) {
                for (number, (step, theirs)) in ours.iter().zip(theirs).enumerate() {
                    assert_eq!(
                        step.said,
                        Said::from(&theirs),
                        "seed {seed}, step {number}: {} at {}",
                        step.what,
                        step.now
                    );
                }
            }
        }
        first = batch.end;
    }
}

/// The packages with the emulator.
fn emulator() -> Option<PathBuf> {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts");
    let modules = std::env::var_os("CHRYSALIS_TOLK");
    let modules = modules.map_or(contracts.join("node_modules"), Into::into);
    modules.join("@ton/sandbox").is_dir().then_some(modules)
}

/// What the emulator says to each step of each sequence.
fn emulated(modules: &Path, sequences: &[Vec<Step>]) -> Vec<Vec<Value>> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for steps in sequences {
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| {
                let message = STANDARD.encode(Boc::encode(&step.message));
                json!({ "now": step.now, "lt": step.lt.to_string(), "message": message })
            })
            .collect();
        writeln!(file, "{}", Value::from(steps)).expect("written");
    }
    let output = Command::new("node")
        .arg("emulate.mjs")
        .arg(file.path())
        .env("CHRYSALIS_TOLK", modules)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts"))
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("an array"))
        .collect()
}
