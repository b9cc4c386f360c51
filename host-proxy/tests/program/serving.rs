//! `serve`, `payouts`, `earnings`, `channels` and `address`, with a real TVM behind them: what they print, how they end, and what a
//! `kill -9` costs.

mod stake;

use crate::process;

use ed25519_dalek::SigningKey;
use ledger::Ledger;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use settlement::{Address, ChainId, ChannelTerms, Nano, SignedVoucher, Voucher, Wallet};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::{Child, Command};

const FAR: u32 = 1_900_000_000;
const PAYEE_SEED: [u8; 32] = [1; 32];
const ENDORSING_SEED: [u8; 32] = [201; 32];
const PAYER_SEED: [u8; 32] = [2; 32];

struct Provider {
    directory: TempDir,
    ledger: Ledger,
    channel: Address,
}

/// A ledger on loopback with an open channel, and a configuration that names it.
async fn provider() -> Provider {
    let ledger = Ledger::in_memory().expect("a ledger");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let node = listener.local_addr().expect("bound");
    tokio::spawn(ledger::serve(ledger.clone(), listener));
    let payee = Wallet::from_seed(&PAYEE_SEED, ChainId::EMBEDDED);
    let payer = Wallet::from_seed(&PAYER_SEED, ChainId::EMBEDDED);
    for wallet in [&payer, &payee] {
        ledger
            .faucet(&wallet.address(), Nano(5_000_000_000))
            .expect("money");
    }
    let terms = ChannelTerms {
        chain: ChainId::EMBEDDED,
        payer: payer.address(),
        payee: payee.address(),
        payer_key: payer_key().verifying_key().to_bytes(),
        payee_key: payee_key(),
        close_delay_s: 3600,
        claims_until: FAR,
        salt: 0,
    };
    let deploy = terms
        .deploy(Nano(2_000_000_000), 1)
        .expect("a deposit there can be");
    let boc = payer.transfer(0, FAR, &[deploy]).expect("one transfer");
    ledger.send_external(&boc).expect("accepted");
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("written")
    };
    write("wallet.key", &format!("{}\n", hex::encode(PAYEE_SEED)));
    write("endorsing.key", &hex::encode(ENDORSING_SEED));
    write("delegation", &delegation());
    write("collateral.json", "{}");
    let config = include_str!("../../example.yaml")
        .replace("127.0.0.1:9000", "127.0.0.1:0")
        .replace("keys/", "")
        .replace(&"22".repeat(32), &hex::encode(payee_key()))
        .replace("127.0.0.1:8081", &node.to_string());
    write("host-proxy.yaml", &config);
    Provider {
        directory,
        ledger,
        channel: terms.address(),
    }
}

/// The payee's public key; its secret signs the delegation to [`ENDORSING_SEED`].
fn payee_key() -> [u8; 32] {
    SigningKey::from_bytes(&[101; 32])
        .verifying_key()
        .to_bytes()
}

fn delegation() -> String {
    let endorsing = SigningKey::from_bytes(&ENDORSING_SEED).verifying_key();
    let payee = SigningKey::from_bytes(&[101; 32]);
    let signed = wire::Delegation::sign(endorsing.to_bytes(), FAR, ChainId::EMBEDDED, &payee);
    hex::encode(signed.encode())
}

fn payer_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

impl Provider {
    fn command(&self, arguments: &[&str]) -> Command {
        process::command(arguments, &self.directory.path().join("host-proxy.yaml"))
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .output()
            .await
            .expect("the program runs")
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn settle(&self) -> Value {
        self.json(&[
            "payouts",
            "settle",
            "--json",
            "--channel",
            &self.channel.to_string(),
        ])
        .await
    }

    fn voucher(&self, cumulative: u64) -> SignedVoucher {
        let voucher = Voucher {
            chain: ChainId::EMBEDDED,
            channel: self.channel,
            cumulative: Nano(cumulative),
            usage_root: [7; 32],
        };
        voucher.sign(&payer_key())
    }

    /// Starts `serve` and gives its address.
    async fn serve(&self) -> (Child, String) {
        let mut command = self.command(&["serve", "--json"]);
        let mut child = command.env("RUST_LOG", "trace").spawn().expect("starts");
        let listen = process::listen_address(&mut child).await;
        (child, listen)
    }
}

async fn post_voucher(listen: &str, voucher: &SignedVoucher) -> String {
    let body = voucher.encode();
    let head = format!(
        "POST /v1/vouchers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(listen).await.expect("connected");
    stream
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

fn nano(value: &Value, name: &str) -> u64 {
    value[name]
        .as_str()
        .expect("a decimal string")
        .parse()
        .expect("a number")
}

fn check_figures(settled: &Value) {
    let figure = |name| nano(settled, name);
    assert_eq!(
        figure("price_nano"),
        figure("paid_after_nano") - figure("paid_before_nano")
    );
    let expected = figure("wallet_before_nano") + figure("price_nano");
    assert_eq!(
        expected,
        figure("wallet_after_nano") + figure("fee_nano"),
        "{settled}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_voucher_outlives_a_kill_and_is_paid() {
    let provider = provider().await;
    let (mut child, listen) = provider.serve().await;
    let answer = post_voucher(&listen, &provider.voucher(700_000_000)).await;
    child.kill().await.expect("killed");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let settled = provider.settle().await;
    assert_eq!(nano(&settled, "price_nano"), 700_000_000);
    check_figures(&settled);
    let again = provider.settle().await;
    assert_eq!(
        (nano(&again, "price_nano"), nano(&again, "fee_nano")),
        (0, 0)
    );
    let list = provider.json(&["channels", "--json"]).await;
    let line = &list["channels"][0];
    assert_eq!(
        (nano(line, "vouchered_nano"), nano(line, "paid_nano")),
        (700_000_000, 700_000_000)
    );
    assert_eq!(
        (nano(line, "paid_out_nano"), nano(line, "owed_nano")),
        (700_000_000, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_killed_at_any_moment_pays_everything_once() {
    let provider = provider().await;
    let (mut child, listen) = provider.serve().await;
    let channel = provider.channel.to_string();
    let payee = Wallet::from_seed(&PAYEE_SEED, ChainId::EMBEDDED).address();
    for round in 1..=12 {
        let answer = post_voucher(&listen, &provider.voucher(round * 100_000_000)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut settling = provider
            .command(&["payouts", "settle", "--channel", &channel])
            .spawn()
            .expect("starts");
        tokio::time::sleep(Duration::from_millis(8 * round)).await;
        // It may have ended already.
        let _ = settling.kill().await;
    }
    let last = provider.settle().await;
    assert_eq!(nano(&last, "paid_after_nano"), 1_200_000_000);
    // What the channel sent to the wallet, message by message, is what was promised. A claim without the wallet takes its gas out of
    // what it pays.
    let payouts = provider.ledger.transactions(&provider.channel);
    let payouts = payouts
        .expect("read")
        .into_iter()
        .filter_map(|transaction| match transaction.out_messages.as_slice() {
            [payout] | [payout, _] => Some(payout.value.0),
            _ => None,
        });
    let payouts: Vec<u64> = payouts.collect();
    let (received, claims) = (payouts.iter().sum::<u64>(), payouts.len() as u64);
    let missing = 1_200_000_000 - received;
    assert!(missing <= claims * 5_000_000, "{payouts:?}");
    assert!(provider.ledger.account(&payee).expect("read").balance.0 > 6_000_000_000);
    child.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_ends_it_well_and_nothing_of_a_payload_is_logged() {
    let provider = provider().await;
    let (child, listen) = provider.serve().await;
    let voucher = provider.voucher(5);
    post_voucher(&listen, &voucher).await;
    process::signal(&child, Signal::SIGTERM);
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await;
    let output = output.expect("in time").expect("ended");
    assert_eq!(output.status.code(), Some(0));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        !log.contains(&hex::encode(voucher.signature)),
        "a signature was logged"
    );
    assert!(
        !log.contains(&hex::encode(PAYEE_SEED)),
        "the seed was logged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stop_signal_ends_it_at_once() {
    let provider = provider().await;
    // A guest that takes a question and never answers.
    let guest = UnixListener::bind(provider.directory.path().join("guest.sock")).expect("a guest");
    let (child, listen) = provider.serve().await;
    let mut asking = TcpStream::connect(&listen).await.expect("connected");
    let nonce = "ab".repeat(32);
    let ask = format!("GET /v1/attestation?nonce={nonce} HTTP/1.1\r\nhost: x\r\n\r\n");
    asking.write_all(ask.as_bytes()).await.expect("sent");
    let asked = async {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = guest.accept().await.expect("a question");
            // The proxy asks for itself, too.
            let mut question = [0; 5 + 32];
            let read = stream.read_exact(&mut question).await;
            held.push(stream);
            if read.is_ok() && question.ends_with(&[0xab; 32]) {
                return held;
            }
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
    let _held = asked.expect("the proxy asks its guest");
    process::signal(&child, Signal::SIGTERM);
    let pid = Pid::from_raw(child.id().expect("running").cast_signed());
    let ended = child.wait_with_output();
    tokio::pin!(ended);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut ended).await;
    assert!(early.is_err(), "it waits for what runs");
    kill(pid, Signal::SIGTERM).expect("signalled");
    let output = tokio::time::timeout(Duration::from_secs(2), ended).await;
    let output = output.expect("at once").expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped at once"), "{said}");
}

/// What `serve` says on stderr without `RUST_LOG`, until it says `last`.
async fn said_at_the_start(provider: &Provider, last: &str) -> String {
    let mut command = provider.command(&["serve", "--json"]);
    let mut child = command.env_remove("RUST_LOG").spawn().expect("starts");
    process::listen_address(&mut child).await;
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = String::new();
    let reading = async {
        while let Some(line) = stderr.next_line().await.expect("read") {
            said.push_str(&line);
            said.push('\n');
            if line.contains(last) {
                break;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), reading).await;
    child.kill().await.expect("killed");
    assert!(in_time.is_ok(), "`{last}` was not said: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_start_it_says_what_is_wrong_without_being_asked() {
    let provider = provider().await;
    let said = said_at_the_start(&provider, "no job can be served").await;
    assert!(said.contains("WARN"), "{said}");
    assert!(said.contains("guest.sock"), "{said}");
    assert!(!said.contains('\u{1b}'), "colour codes in a file: {said}");
    // Another payee, whose wallet is empty.
    let key = provider.directory.path().join("wallet.key");
    std::fs::write(&key, hex::encode([9; 32])).expect("written");
    std::fs::remove_file(provider.directory.path().join("host-proxy.sqlite")).expect("removed");
    let said = said_at_the_start(&provider, "a claim needs").await;
    let wallet = Wallet::from_seed(&[9; 32], ChainId::EMBEDDED).address();
    assert!(said.contains(&wallet.friendly_unbounceable()), "{said}");
    assert!(said.contains("a claim needs"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_once_and_a_backup_of_a_running_proxy_is_whole() {
    let provider = provider().await;
    let path = |name: &str| provider.directory.path().join(name);
    let host_proxy = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-proxy"));
        command.args(arguments).env("PHRASE", "correct horse");
        async move { { command }.output().await.expect("the program runs") }
    };
    let out = path("keys");
    let out = out.to_str().expect("text");
    let keygen = [
        "keygen",
        "--json",
        "--passphrase",
        "env:PHRASE",
        "--out",
        out,
    ];
    let made = host_proxy(&keygen).await;
    assert!(made.status.success(), "{made:?}");
    for name in ["payee.key", "wallet.key", "endorsing.key"] {
        let file = path("keys").join(name);
        let mode = std::fs::metadata(&file)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).expect("read");
        assert!(text.starts_with("chrysalis-key-v1 "), "{text}");
    }
    let said: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    // What it says of them is what the keys say, opened with the passphrase.
    let config = std::fs::read_to_string(path("host-proxy.yaml")).expect("read");
    let config = config
        .replace("file:", "file:keys/")
        .replace("delegation: ", "passphrase: env:PHRASE\ndelegation: keys/")
        .replace(
            &hex::encode(payee_key()),
            said["public_key"].as_str().expect("text"),
        );
    std::fs::write(path("new.yaml"), config).expect("written");
    let new = path("new.yaml");
    let new = new.to_str().expect("text");
    let shown = host_proxy(&["address", "--json", "--config", new]).await;
    assert!(shown.status.success(), "{shown:?}");
    assert_eq!(
        serde_json::from_slice::<Value>(&shown.stdout).expect("JSON"),
        said
    );
    assert_eq!(
        host_proxy(&keygen).await.status.code(),
        Some(1),
        "never twice"
    );
    // A longer delegation takes the payee's key.
    let (key, longer) = (format!("file:{out}/payee.key"), path("longer"));
    let endorsing = said["endorsing_key"].as_str().expect("text");
    let longer = longer.to_str().expect("text");
    let delegate = ["delegate", "--key", &key, "--passphrase", "env:PHRASE"];
    let rest = ["--public-key", endorsing, "--days", "900", "--out", longer];
    let delegated = host_proxy(&[&delegate[..], &rest].concat()).await;
    assert!(delegated.status.success(), "{delegated:?}");
    std::fs::copy(longer, path("keys").join("delegation")).expect("copied");
    let shown = host_proxy(&["address", "--json", "--config", new]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let until = |of: &Value| of["endorses_until"].as_u64().expect("a number");
    assert!(until(&shown) > until(&said) + 500 * 86_400);

    let (mut child, listen) = provider.serve().await;
    let answer = post_voucher(&listen, &provider.voucher(700_000_000)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let saved = path("saved.sqlite");
    let saved = saved.to_str().expect("text");
    let done = provider.run(&["backup", "--out", saved]).await;
    assert!(done.status.success(), "{done:?}");
    child.kill().await.expect("killed");
    // As the command says: stop, remove, copy.
    for name in [
        "host-proxy.sqlite",
        "host-proxy.sqlite-wal",
        "host-proxy.sqlite-shm",
    ] {
        let _ = std::fs::remove_file(path(name));
    }
    std::fs::copy(saved, path("host-proxy.sqlite")).expect("restored");
    assert_eq!(nano(&provider.settle().await, "price_nano"), 700_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_earned_is_shown_withdrawn_and_listed() {
    let provider = provider().await;
    let (mut child, listen) = provider.serve().await;
    post_voucher(&listen, &provider.voucher(700_000_000)).await;
    let status = provider.json(&["payouts", "status", "--json"]).await;
    assert_eq!(nano(&status, "unpaid_nano"), 700_000_000);
    assert_eq!(status["signs"], true);
    // A dry run changes nothing.
    let planned = provider
        .json(&["payouts", "settle", "--json", "--dry-run"])
        .await;
    assert_eq!(nano(&planned["claims"][0], "price_nano"), 700_000_000);
    let wallet = Wallet::from_seed(&PAYEE_SEED, ChainId::EMBEDDED).address();
    let holds = || provider.ledger.account(&wallet).expect("read").balance.0;
    assert_eq!(holds(), 5_000_000_000);
    let settled = provider.json(&["payouts", "settle", "--json"]).await;
    assert_eq!(nano(&settled["channels"][0], "price_nano"), 700_000_000);
    let cold = Address {
        workchain: 0,
        hash: [9; 32],
    };
    let to = cold.friendly_unbounceable();
    let withdraw = |more: &[&'static str]| {
        let mut arguments = vec!["payouts", "withdraw", "--to", &to, "--amount", "1.25"];
        arguments.extend(more);
        let command = provider.command(&arguments);
        async move { { command }.output().await.expect("the program runs") }
    };
    let dry = withdraw(&["--dry-run"]).await;
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(
        said.contains("1.250000000 TON (1250000000 nanoTON)"),
        "{said}"
    );
    let received = || provider.ledger.account(&cold).expect("read").balance.0;
    assert_eq!(received(), 0);
    let sent = withdraw(&[]).await;
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(received(), 1_250_000_000);
    let too_much = ["payouts", "withdraw", "--to", &to, "--amount", "100"];
    assert_eq!(provider.run(&too_much).await.status.code(), Some(1));
    let csv = provider.run(&["earnings", "--csv"]).await.stdout;
    let csv = String::from_utf8(csv).expect("text");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[1].starts_with("payout,") && lines[1].contains(",700000000,0.700000000,"));
    assert!(lines[2].starts_with("withdrawal,") && lines[2].contains(",1250000000,"));
    child.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_are_older_than_the_chain_are_named_and_taken_over_by_command() {
    let provider = provider().await;
    let wallet = Wallet::from_seed(&PAYEE_SEED, ChainId::EMBEDDED);
    let away = settlement::Transfer::money(provider.channel, Nano(1));
    let boc = wallet.transfer(0, FAR, &[away]).expect("one transfer");
    provider.ledger.send_external(&boc).expect("accepted");
    let (mut child, listen) = provider.serve().await;
    post_voucher(&listen, &provider.voucher(40_000_000)).await;
    let refused = provider.run(&["payouts", "settle"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("host-proxy payouts adopt"), "{said}");
    assert_eq!(
        provider.run(&["payouts", "status"]).await.status.code(),
        Some(1)
    );
    provider
        .json(&["payouts", "adopt", "--json", "--dry-run"])
        .await;
    assert_eq!(
        provider.run(&["payouts", "settle"]).await.status.code(),
        Some(1)
    );
    let adopted = provider.json(&["payouts", "adopt", "--json"]).await;
    assert_eq!(adopted["taken_over"], true);
    assert_eq!(nano(&provider.settle().await, "price_nano"), 40_000_000);
    child.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_tells_refusal_from_misuse() {
    let provider = provider().await;
    let address = provider.json(&["address", "--json"]).await;
    let payee = Wallet::from_seed(&PAYEE_SEED, ChainId::EMBEDDED);
    assert_eq!(address["address"], payee.address().to_string());
    assert_eq!(address["public_key"], hex::encode(payee_key()));
    let no_voucher = provider
        .run(&[
            "payouts",
            "settle",
            "--channel",
            &provider.channel.to_string(),
        ])
        .await;
    assert_eq!(no_voucher.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&no_voucher.stderr).contains("no voucher"));
    assert_eq!(
        provider
            .run(&["payouts", "settle", "--channel", "nonsense"])
            .await
            .status
            .code(),
        Some(2)
    );
    assert_eq!(provider.run(&["sell"]).await.status.code(), Some(2));
    let delegate = ["delegate", "--key", "file:none", "--out", "none"];
    let delegate = [&delegate[..], &["--public-key", "zz"]].concat();
    assert_eq!(provider.run(&delegate).await.status.code(), Some(2));
    let config = provider.directory.path().join("host-proxy.yaml");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, format!("{text}\nunknown: 1\n")).expect("written");
    let refused = provider.run(&["address"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unknown field"));
}
