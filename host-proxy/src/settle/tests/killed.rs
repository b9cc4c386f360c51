//! The payout engine as a child process, killed between any two of its effects, on a ledger with all its faults; and many channels
//! that close at once. Time is virtual: it passes when the engine waits, and for each call of the node.

mod hostile;

use crate::auto_settle::settle_automatically;
use crate::clock::virtual_clock::{self, VirtualClock};
use crate::config::{Config, NodeUrl};
use crate::fixtures::{DEPOSIT, FAR, channel_terms, config, directory, node, payee, payer_key};
use crate::kill;
use crate::limits::CLAIM_COST;
use crate::proxy::Proxy;
use crate::store::engines::Server;
use crate::store::{StatePlace, Store};
use ledger::{Conditions, Faults, Ledger};
use settlement::{Address, ChainId, ChannelState, ChannelTerms, Nano, Voucher, Wallet};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

const DIRECTORY: &str = "CHRYSALIS_TEST_DIRECTORY";
const NODE: &str = "CHRYSALIS_TEST_NODE";
/// The database that the books are in, if they are in one.
const STATE: &str = "CHRYSALIS_TEST_STATE";
/// How long a lease is taken for there, so that a test need not wait half a minute.
const LEASE: Duration = Duration::from_millis(800);
/// What the child does: settle all that is unpaid, or what `serve` does.
const TASK: &str = "CHRYSALIS_TEST_TASK";
/// Of the steps at which a host may be killed beside another.
const KILLED_EVERY: usize = 4;
/// As many as a public node takes with a free key.
const CALLS_PER_S: u32 = 10;

const ALL: Faults = Faults {
    drop: 150,
    duplicate: 200,
    reencode: 300,
    refuse: 50,
    delay_blocks_max: 3,
    lag_blocks_max: 3,
    reorder: true,
};

/// How a child process ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// When everything is settled.
    Done,
    /// Killed at this step.
    AtStep(u64),
    /// Killed after this time.
    After(Duration),
}

/// A ledger, and a provider's directory with channels that owe.
struct World {
    ledger: Ledger,
    directory: TempDir,
    node: NodeUrl,
    clock: VirtualClock,
    channels: Vec<ChannelTerms>,
    promised: Vec<u64>,
    place: StatePlace,
    store: Store,
    random: u64,
}

impl World {
    async fn new(channels: u64, faults: Faults, seed: u64) -> World {
        let directory = directory();
        let place = StatePlace::File(directory.path().join("state.sqlite"));
        Self::with_books(channels, faults, seed, directory, place).await
    }

    async fn with_books(
        channels: u64,
        faults: Faults,
        seed: u64,
        directory: TempDir,
        place: StatePlace,
    ) -> World {
        let (ledger, node) = node().await;
        let path = directory.path().join("clock");
        let clock = VirtualClock::create(&path, crate::clock::now());
        let of_ledger = VirtualClock::open(&path);
        ledger.set_clock(move || of_ledger.now().as_secs() as u32);
        let channels: Vec<ChannelTerms> = (0..channels).map(with_salt).collect();
        deploy(&ledger, &channels);
        ledger.set_conditions(Conditions {
            block_s: 3,
            seed,
            faults,
        });
        let store = crate::store::engines::open(&place);
        for terms in &channels {
            let known = store.remember_first_key(&terms.address(), &terms.payer_key);
            known.expect("stored");
        }
        World {
            promised: vec![0; channels.len()],
            ledger,
            directory,
            node,
            clock,
            channels,
            place,
            store,
            random: seed,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        below(&mut self.random, end)
    }

    /// A channel's payer promises so much more.
    fn promise(&mut self, index: usize, more: u64) {
        let left = DEPOSIT.0 - self.promised[index];
        self.promised[index] += more.min(left);
        let voucher = Voucher {
            chain: ChainId::EMBEDDED,
            channel: self.channels[index].address(),
            cumulative: Nano(self.promised[index]),
            usage_root: [7; 32],
        };
        let signed = voucher.sign(&payer_key());
        let verified = signed.verify(&self.channels[index].payer_key);
        self.store
            .take_now(&verified.expect("signed"))
            .expect("stored");
    }

    /// Runs a child to its end.
    async fn run(&self, task: &str, end: End) {
        self.run_at(self.directory.path(), task, end).await;
    }

    /// The same with files of its own, as on another host.
    async fn run_at(&self, directory: &Path, task: &str, end: End) {
        let output = self.child(directory, task, end).await;
        let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || (killed && !matches!(end, End::Done)),
            "{end:?}: {:?}\n{said}",
            output.status
        );
    }

    /// Runs a child, however it ends. Returns what it said on standard error.
    async fn attempt(&self, task: &str) -> String {
        let output = self.child(self.directory.path(), task, End::Done).await;
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn child(&self, directory: &Path, task: &str, end: End) -> Output {
        let executable = std::env::current_exe().expect("this test program");
        let mut child = Command::new(executable);
        child
            .args(["--exact", "settle::tests::killed::process_that_settles"])
            .args(["--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .env(NODE, format!("http://{}", self.node.authority))
            .env(TASK, task)
            .env(virtual_clock::VARIABLE, self.directory.path().join("clock"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let StatePlace::Database { url, .. } = &self.place {
            child.env(STATE, url);
        }
        if let End::AtStep(step) = end {
            child.env(kill::VARIABLE, step.to_string());
        }
        let mut child = child.spawn().expect("starts");
        if let End::After(time) = end {
            tokio::time::sleep(time).await;
            let _ = child.start_kill();
        }
        child.wait_with_output().await.expect("ends")
    }

    fn state(&self, channel: &Address) -> ChannelState {
        let answer = self
            .ledger
            .run_get_method(channel, ChannelState::GET_METHOD, &[]);
        ChannelState::parse(&answer.expect("a channel").stack).expect("its state")
    }

    /// Everything promised was paid once, and the books say the same as the chain.
    fn check_paid_once(&self) {
        let mut sum = 0;
        for (terms, promised) in self.channels.iter().zip(&self.promised) {
            let channel = terms.address();
            assert_eq!(self.state(&channel).paid, Nano(*promised), "{channel}");
            let (_, booked) = self.store.paid_out(&channel).expect("read");
            assert_eq!(booked, Nano(*promised), "{channel}");
            assert_eq!(self.store.open_message(&channel).expect("read"), None);
            sum += promised;
        }
        assert!(sum > 0);
        assert_eq!(self.store.pending_message().expect("read"), None);
        // The wallet has sent what is in the books and nothing else.
        let answer = self.ledger.run_get_method(&payee().address(), "seqno", &[]);
        let seqno = answer.expect("a wallet").stack[0].to_u64();
        let numbers = self.store.numbers().expect("read");
        assert_eq!(seqno, Some(numbers.taken.into()));
        let totals = self.ledger.totals().expect("read");
        assert_eq!(
            totals.issued,
            totals.balances + totals.in_flight + totals.fees
        );
    }

    /// No claim was open longer than this after its message was void. Time passes only while the engine runs.
    fn check_ended_within(&self, after_void_s: u64) {
        let late = self.store.latest_end().expect("read");
        assert!(late <= after_void_s as i64, "{late} s after it was void");
    }
}

/// SplitMix64.
fn below(random: &mut u64, end: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % end
}

fn with_salt(salt: u64) -> ChannelTerms {
    ChannelTerms {
        salt,
        ..channel_terms()
    }
}

fn payer() -> Wallet {
    Wallet::from_seed(&[2; 32], ChainId::EMBEDDED)
}

/// Opens the channels, a hundred with each message, and gives the payee something for fees.
fn deploy(ledger: &Ledger, channels: &[ChannelTerms]) {
    let needed = channels.len() as u64 * (DEPOSIT.0 + 200_000_000) + 1_000_000_000;
    let given = ledger.faucet(&payer().address(), Nano(needed));
    given.expect("money");
    let given = ledger.faucet(&payee().address(), Nano(1_000_000_000));
    given.expect("money");
    for (seqno, some) in channels.chunks(100).enumerate() {
        let transfers = some
            .iter()
            .map(|terms| terms.deploy(DEPOSIT, 1).expect("money"));
        let transfers: Vec<_> = transfers.collect();
        send(ledger, seqno as u32, &transfers);
    }
}

fn send(ledger: &Ledger, seqno: u32, transfers: &[settlement::Transfer]) {
    let boc = payer().transfer(seqno, FAR, transfers).expect("some");
    ledger.send_external(&boc).expect("accepted");
}

/// Not a claim: the child process of the others, which give it a directory.
#[test]
fn process_that_settles() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let node = std::env::var(NODE).expect("a node");
    let mut config = Config {
        calls_per_s: Some(CALLS_PER_S),
        ..config(&directory, NodeUrl::parse(&node).expect("a url"))
    };
    if let Ok(url) = std::env::var(STATE) {
        config.state = StatePlace::new(&url, None, Path::new(""));
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    match std::env::var(TASK).expect("a task").as_str() {
        "settle" => runtime.block_on(settle_everything(&config)),
        "serve" => runtime.block_on(settle_as_serve_does(&config)),
        other => panic!("no task {other}"),
    }
    std::fs::write(directory.join("steps"), kill::steps().to_string()).expect("written");
}

async fn settle_everything(config: &Config) {
    let mut proxy = Proxy::open(config).expect("opens");
    proxy.lock = proxy.lock.leased_for(LEASE);
    for _ in 0..200 {
        let unpaid = proxy.store.unpaid().expect("read");
        let channels: Vec<Address> = unpaid.into_iter().map(|(channel, _)| channel).collect();
        if channels.is_empty() {
            return;
        }
        match proxy.settler().settle_all(&channels).await {
            Ok(results) => {
                for (channel, result) in results {
                    let _ = result.inspect_err(|error| eprintln!("{channel}: {error}"));
                }
            }
            Err(error) => eprintln!("{error}"),
        }
        crate::clock::pause(Duration::from_secs(5)).await;
    }
    panic!("not everything could be settled");
}

async fn settle_as_serve_does(config: &Config) {
    let proxy = Arc::new(Proxy::open(config).expect("opens"));
    let settling = settle_automatically(proxy.clone(), None);
    tokio::pin!(settling);
    loop {
        let unpaid = proxy.store.unpaid().expect("read");
        if unpaid.iter().all(|(_, gain)| *gain <= CLAIM_COST) {
            return;
        }
        let turn = tokio::time::timeout(Duration::from_millis(200), &mut settling);
        assert!(turn.await.is_err(), "it never ends");
    }
}

fn steps(directory: &Path) -> u64 {
    let text = std::fs::read_to_string(directory.join("steps")).expect("written at its end");
    text.parse().expect("a number")
}

/// Seeds differ by run if the variable says so.
fn seed() -> u64 {
    let given = std::env::var("CHRYSALIS_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("CHRYSALIS_SEED={seed}");
    seed
}

#[tokio::test]
async fn killed_between_any_two_effects_it_pays_all_and_nothing_twice() {
    let mut world = World::new(2, Faults::default(), seed()).await;
    world.promise(0, 20_000_000);
    world.run("settle", End::Done).await;
    world.check_paid_once();
    let steps = steps(world.directory.path());
    assert!(steps > 20, "{steps} steps are not a settlement");
    for step in 1..=steps {
        // Each of the two has something new in turn, so that a claim is open while another is made.
        world.promise((step % 2) as usize, 13_000_000);
        world.run("settle", End::AtStep(step)).await;
    }
    world.run("settle", End::Done).await;
    world.check_paid_once();
}

#[tokio::test]
async fn of_two_hosts_on_one_database_one_is_killed_and_the_other_pays_all_and_nothing_twice() {
    one_of_two_killed(KILLED_EVERY).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn of_two_hosts_on_one_database_one_is_killed_at_every_step() {
    one_of_two_killed(1).await;
}

async fn one_of_two_killed(every: usize) {
    let Some(server) = Server::running() else {
        return;
    };
    let (directory, place) = (directory(), server.database());
    let hosts = ["one", "other"].map(|name| directory.path().join(name));
    for host in &hosts {
        std::fs::create_dir(host).expect("made");
    }
    let [one, other] = &hosts;
    let mut world = World::with_books(2, Faults::default(), seed(), directory, place).await;
    world.promise(0, 20_000_000);
    world.run_at(one, "settle", End::Done).await;
    world.check_paid_once();
    let steps = steps(one);
    assert!(steps > 20, "{steps} steps are not a settlement");
    for step in (1..=steps).step_by(every) {
        world.promise((step % 2) as usize, 13_000_000);
        // The other one waits for the lease, and takes it over from the dead.
        let killed = world.run_at(one, "settle", End::AtStep(step));
        let settles = world.run_at(other, "settle", End::Done);
        tokio::join!(killed, settles);
        world.check_paid_once();
    }
}

#[tokio::test]
async fn killed_at_random_on_a_bad_network_it_pays_all_and_nothing_twice() {
    killed_at_random(40, 4).await;
}

#[tokio::test]
#[ignore = "a thousand processes: ten minutes"]
async fn killed_a_thousand_times_on_a_bad_network_it_pays_all_and_nothing_twice() {
    killed_at_random(1_000, 40).await;
}

async fn killed_at_random(kills: u64, channels: u64) {
    let mut world = World::new(channels, ALL, seed()).await;
    for number in 1..=kills {
        for _ in 0..1 + world.below(3) {
            let (index, more) = (world.below(channels) as usize, world.below(30_000_000));
            world.promise(index, 1 + more);
        }
        let end = match world.below(4) {
            0 => End::After(Duration::from_millis(world.below(400))),
            _ => End::AtStep(1 + world.below(150)),
        };
        world.run("settle", end).await;
        if number % 20 == 0 {
            world.run("settle", End::Done).await;
            world.check_paid_once();
        }
    }
    world.run("settle", End::Done).await;
    world.check_paid_once();
    world.check_ended_within(60);
}

#[tokio::test]
async fn fifty_channels_that_close_at_once_are_claimed_in_time() {
    many_close_at_once(50).await;
}

#[tokio::test]
#[ignore = "a thousand channels: minutes"]
async fn a_thousand_channels_that_close_at_once_are_claimed_in_half_the_delay() {
    many_close_at_once(1_000).await;
}

async fn many_close_at_once(channels: u64) {
    let mut world = World::new(channels, Faults::default(), seed()).await;
    for index in 0..channels as usize {
        // Every tenth promised less than a claim costs.
        let more = match index % 10 {
            0 => CLAIM_COST.0,
            _ => CLAIM_COST.0 + 1 + world.below(500_000_000),
        };
        world.promise(index, more);
    }
    let seqno = world.channels.chunks(100).len();
    for (number, some) in world.channels.chunks(100).enumerate() {
        let transfers: Vec<_> = some.iter().map(|terms| terms.request_close(2)).collect();
        send(&world.ledger, (seqno + number) as u32, &transfers);
        world.clock.advance(Duration::from_secs(3));
    }
    world.clock.advance(Duration::from_secs(6));
    let before = world.clock.now();
    world.run("serve", End::Done).await;
    // The last claim's end: the clock runs on while the child looks whether it is done.
    let ended = world.store.entries().expect("read").into_iter();
    let last = ended.filter_map(|entry| entry.ended_unix_s).max();
    let took = Duration::from_secs(last.expect("something was paid")) - before;
    println!("{channels} channels: {} s of virtual time", took.as_secs());
    for (index, terms) in world.channels.iter().enumerate() {
        let state = world.state(&terms.address());
        let expected = if index % 10 == 0 {
            0
        } else {
            world.promised[index]
        };
        assert_eq!(state.paid, Nano(expected));
    }
    let half = Duration::from_secs(channel_terms().close_delay_s.into()) / 2;
    assert!(took <= half, "{took:?}");
}
