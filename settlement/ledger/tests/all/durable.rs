//! What was answered is on disk; what another program is using is left alone.

use crate::network::{self, Network};
use ledger::{Ledger, LedgerError};
use settlement::{Address, Nano};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

#[test]
fn a_ledger_opened_again_is_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.sqlite");
    let network = Network::on(Ledger::open(&path).expect("a new ledger"));
    assert_eq!(network.claim(&network.voucher(500)), Ok(()));
    let addresses = [
        network.terms.address(),
        network.provider.address(),
        network.developer.address(),
    ];
    let look = |ledger: &Ledger| {
        let each = addresses.map(|address| {
            (
                ledger.account(&address).expect("an account"),
                ledger.transactions(&address).expect("transactions"),
            )
        });
        (
            each,
            ledger.totals().expect("totals"),
            ledger.seqno().expect("a number"),
        )
    };
    let before = look(&network.ledger);
    let Network {
        ledger,
        developer,
        provider,
        stranger,
        voucher_key,
        payee_key,
        terms,
    } = network;
    drop(ledger);
    let ledger = Ledger::open(&path).expect("opens again");
    assert_eq!(look(&ledger), before);
    // And goes on.
    ledger.set_time(network::START + 5);
    let network = Network {
        ledger,
        developer,
        provider,
        stranger,
        voucher_key,
        payee_key,
        terms,
    };
    assert_eq!(
        network.claim(&network.voucher(500)),
        Err(settlement::exit::NOT_ABOVE_PAID)
    );
    assert_eq!(network.claim(&network.voucher(700)), Ok(()));
    network.assert_conserved();
}

#[test]
fn a_database_in_use_or_of_another_program_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.sqlite");
    let first = Ledger::open(&path).expect("a new ledger");
    assert!(matches!(Ledger::open(&path), Err(LedgerError::InUse)));
    drop(first);
    Ledger::open(&path).expect("free again");

    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, and longer than a header would be, so that it is read as one and found wanting ....").expect("written");
    assert!(Ledger::open(&text).is_err());
}

/// Kills the program the hard way after each answer; whatever it had answered must be there when it starts again.
#[test]
fn a_killed_program_keeps_everything_it_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.sqlite");
    let to = Address {
        workchain: 0,
        hash: [9; 32],
    };
    for round in 1..=5_u64 {
        let (mut child, at) = start(&path);
        let body = format!("{{\"address\":\"{to}\",\"amount\":\"1000\"}}");
        let answer = post(&at, "/faucet", &body);
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(
            answer.contains("\"ok\":true") && answer.contains("simulated"),
            "{answer}"
        );
        let ledger = Ledger::open(&path).expect("opens after a kill");
        let totals = ledger.totals().expect("totals");
        assert_eq!(totals.issued, u128::from(1_000 * round));
        // When the rounds take long, the account has owed a little rent.
        let balance = ledger.account(&to).expect("an account").balance;
        assert!(balance > Nano(1_000 * round - 10), "{balance}");
        assert_eq!(
            totals.issued,
            totals.balances + totals.in_flight + totals.fees
        );
    }
}

fn start(path: &std::path::Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chrysalis-ledger"))
        .args(["serve", "--db"])
        .arg(path)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("it prints where it listens");
    let at = line
        .trim()
        .strip_prefix("http://")
        .expect("an address")
        .to_owned();
    (child, at)
}

fn post(at: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}
