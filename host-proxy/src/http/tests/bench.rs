//! What one core relays: the proxy as a process on the first core; clients, an echo in place of the guest, and the node on the others.
//! docs/benchmarks.md has the command and its figures.

use super::*;
use crate::config::NodeUrl;
use crate::credit::Credit;
use crate::fixtures::{payer_key, receipt_key};
use crate::limits::{CONNECTIONS_MAX, JOBS_PER_GUEST_MAX};
use ed25519_dalek::{Signer, Verifier};
use ledger::Ledger;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use settlement::{ChannelTerms, Charge, Nano, Wallet};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use wire::{Envelope, SignedEnvelope};

const DIRECTORY: &str = "CHRYSALIS_BENCH_DIRECTORY";
const NODE: &str = "CHRYSALIS_BENCH_NODE";
/// Jobs that one channel may have at once.
const AT_ONCE: usize = crate::limits::JOBS_PER_CHANNEL_MAX;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn run_on(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).expect("a core");
    sched_setaffinity(Pid::from_raw(0), &set).expect("pinned");
}

fn many_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("set");
}

fn settings(directory: &std::path::Path, node: NodeUrl) -> Config {
    let mut config = config(directory, node);
    config.credit = Credit::new(Some(Nano(500_000_000)), Nano(500_000_000)).expect("within bounds");
    config.service.connections = CONNECTIONS_MAX;
    config.service.jobs_per_guest = JOBS_PER_GUEST_MAX;
    config
}

/// The child: serves on one core, and ends with its standard input.
#[test]
#[ignore = "a part of the benchmark"]
fn the_proxy() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let node = std::env::var(NODE).expect("set, too");
    run_on(0);
    many_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let config = settings(directory.as_ref(), NodeUrl::parse(&node).expect("a url"));
        let serving = serve(config, pending()).await.expect("serves");
        println!("\nlistens on {}", serving.listen);
        let ended = || std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        let _ = tokio::task::spawn_blocking(ended).await;
    });
}

struct Bench {
    directory: TempDir,
    ledger: Ledger,
    node: NodeUrl,
    child: Child,
    listen: SocketAddr,
}

impl Bench {
    async fn start() -> Self {
        many_files();
        let directory = directory();
        let (ledger, node) = node().await;
        let mut child = Command::new(std::env::current_exe().expect("this test program"))
            .args([
                "--exact",
                "http::tests::bench::the_proxy",
                "--ignored",
                "--nocapture",
            ])
            .env(DIRECTORY, directory.path())
            .env(NODE, format!("http://{}", node.authority))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let listen = loop {
            let line = lines
                .next_line()
                .await
                .expect("read")
                .expect("it says where it listens");
            if let Some(address) = line.strip_prefix("listens on ") {
                break address.parse().expect("an address");
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Bench {
            directory,
            ledger,
            node,
            child,
            listen,
        }
    }

    fn config(&self) -> Config {
        settings(self.directory.path(), self.node.clone())
    }

    /// Opens so many channels.
    fn channels(&self, count: usize) -> Vec<ChannelTerms> {
        let payer = Wallet::from_seed(&[2; 32], settlement::ChainId::EMBEDDED);
        let enough = Nano(2_000_000_000 * count as u64 + 5_000_000_000);
        self.ledger.faucet(&payer.address(), enough).expect("money");
        let open = |at: usize| {
            let terms = ChannelTerms {
                salt: at as u64,
                ..channel_terms()
            };
            let deploy = terms.deploy(fixtures::DEPOSIT, 1).expect("a deposit");
            let boc = payer
                .transfer(at as u32, fixtures::FAR, &[deploy])
                .expect("a transfer");
            self.ledger.send_external(&boc).expect("accepted");
            terms
        };
        (0..count).map(open).collect()
    }

    fn process(&self, file: &str) -> String {
        let pid = self.child.id().expect("it runs");
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("read")
    }

    /// Its resident memory.
    fn resident_bytes(&self) -> u64 {
        let status = self.process("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.expect("there").trim().trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number") * 1024
    }

    /// What it has computed, in seconds.
    fn processor_s(&self) -> f64 {
        let stat = self.process("stat");
        let (_, after) = stat.rsplit_once(") ").expect("a name");
        let fields: Vec<f64> = after
            .split(' ')
            .map(|of| of.parse().unwrap_or_default())
            .collect();
        // proc_pid_stat(5): utime and stime, in hundredths of a second.
        (fields[11] + fields[12]) / 100.0
    }
}

/// A job on a channel, sealed beforehand, with a request of 2 KiB.
fn sealed_job(terms: &ChannelTerms, number: u64, deadline_ms: u32) -> Vec<u8> {
    let request = vec![6; 2048];
    let mut job = [0; 16];
    job[..8].copy_from_slice(&number.to_be_bytes());
    let envelope = Envelope {
        job,
        terms: terms.clone(),
        deadline_ms,
        first_token_ms: deadline_ms,
        sealed_bytes: request.len() as u32,
        ..envelope(100, None).unverified().clone()
    };
    let signed = envelope.sign(&request[7..7 + 1120], &payer_key());
    [signed.encode(), request].concat()
}

/// The last frames of the job in these frames, with a charge of one nanoTON.
fn settled(frames: &[Frame], seq: u64) -> Vec<u8> {
    let opened = frames.iter().find(|frame| frame.kind == FrameKind::OpenJob);
    let envelope = SignedEnvelope::decode(&opened.expect("a job").payload).expect("an envelope");
    let charge = Charge {
        cap: envelope.unverified().cap(),
        stake: payee().address(),
        receipt_hash: [8; 32],
        seq,
        cost: Nano(1),
        cumulative: Nano(seq + 1),
    };
    [
        Frame::encode(FrameKind::Receipt, &[7; 4114]),
        Frame::encode(FrameKind::Charge, &charge.sign(&receipt_key()).encode()),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat()
}

/// Sends a job on a connection that stays open, and gives the answer's bytes.
async fn exchange(stream: &mut TcpStream, job: &[u8], answer: &mut Vec<u8>) {
    let head = format!(
        "POST /v1/sealed HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        job.len()
    );
    stream
        .write_all(&[head.as_bytes(), job].concat())
        .await
        .expect("sent");
    answer.clear();
    while !answer.ends_with(b"0\r\n\r\n") {
        let got = stream.read_buf(answer).await.expect("read");
        assert!(got > 0, "{}", String::from_utf8_lossy(answer));
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(answer)
    );
}

/// How many signatures a second this core verifies.
fn verifications_a_second() -> f64 {
    let key = payer_key();
    let (message, public) = ([7; 32], key.verifying_key());
    let signature = key.sign(&message);
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(1) {
        public.verify(&message, &signature).expect("good");
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a benchmark"]
fn jobs_a_second_on_one_core() {
    run_on(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let bench = Bench::start().await;
        let seq = AtomicU64::new(0);
        let seq = Arc::new(seq);
        guest(&bench.config(), move |frames, mut stream: UnixStream| {
            let answer = settled(&frames, seq.fetch_add(1, Ordering::SeqCst));
            async move {
                let _ = stream.write_all(&[Frame::data(&[1; 512]), answer].concat()).await;
            }
        });
        let (channels, jobs) = (bench.channels(4), number("JOBS", 12_000));
        let each = jobs / (channels.len() * AT_ONCE);
        let sealed = |at: usize| {
            let terms = &channels[at % channels.len()];
            (0..each).map(|of| sealed_job(terms, (at * each + of) as u64, 60_000)).collect()
        };
        let batches: Vec<Vec<Vec<u8>>> = (0..channels.len() * AT_ONCE).map(sealed).collect();
        let (started, before) = (Instant::now(), bench.processor_s());
        let listen = bench.listen;
        let clients = batches.into_iter().map(|batch| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(listen).await.expect("connected");
                let mut answer = Vec::new();
                for job in batch {
                    exchange(&mut stream, &job, &mut answer).await;
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("served");
        }
        let (took, busy) = (started.elapsed().as_secs_f64(), bench.processor_s() - before);
        let done = (each * channels.len() * AT_ONCE) as f64;
        let verified = verifications_a_second();
        println!(
            "{done} jobs in {took:.2} s: {:.0} a second, {:.0} a second of the proxy's core ({busy:.2} s busy)\n\
             Ed25519: {verified:.0} verifications a second; three a job: {:.0} jobs a second, reached {:.0} %",
            done / took,
            done / busy,
            verified / 3.0,
            100.0 * done / took / (verified / 3.0)
        );
    });
}

#[test]
#[ignore = "a benchmark"]
fn ciphertext_a_second_on_one_core() {
    run_on(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let bench = Bench::start().await;
        let seq = Arc::new(AtomicU64::new(0));
        guest(&bench.config(), move |frames, mut stream: UnixStream| {
            let last = settled(&frames, seq.fetch_add(1, Ordering::SeqCst));
            async move {
                let frame = Frame::data(&vec![1; wire::limits::FRAME_BYTES_MAX]);
                for _ in 0..4_000 {
                    stream.write_all(&frame).await.expect("read");
                }
                let _ = stream.write_all(&last).await;
            }
        });
        let channels = bench.channels(1);
        let jobs: Vec<_> = (0..24).map(|at| sealed_job(&channels[0], at, 600_000)).collect();
        let bytes = Arc::new(AtomicUsize::new(0));
        let (started, before) = (Instant::now(), bench.processor_s());
        let clients = jobs.chunks(6).map(|jobs| {
            let (jobs, bytes, listen) = (jobs.to_vec(), bytes.clone(), bench.listen);
            tokio::spawn(async move {
                let mut chunk = vec![0; 256 * 1024];
                for job in jobs {
                    let mut stream = TcpStream::connect(listen).await.expect("connected");
                    let head = format!(
                        "POST /v1/sealed HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        job.len()
                    );
                    stream.write_all(&[head.as_bytes(), &job].concat()).await.expect("sent");
                    loop {
                        match stream.read(&mut chunk).await.expect("read") {
                            0 => break,
                            got => bytes.fetch_add(got, Ordering::Relaxed),
                        };
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("served");
        }
        let (took, busy) = (started.elapsed().as_secs_f64(), bench.processor_s() - before);
        let gigabytes = bytes.load(Ordering::Relaxed) as f64 / 1e9;
        println!(
            "{gigabytes:.2} GB in {took:.2} s: {:.2} GB/s, {:.2} GB for a second of the proxy's core ({busy:.2} s busy)",
            gigabytes / took,
            gigabytes / busy
        );
    });
}

#[test]
#[ignore = "a benchmark"]
fn many_streams_at_once() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let bench = Bench::start().await;
        let (streams, seconds) = (number("STREAMS", 5_000), 20);
        let (seq, go) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let (started_jobs, gate) = (Arc::new(AtomicUsize::new(0)), go.clone());
        let counted = started_jobs.clone();
        guest(&bench.config(), move |frames, mut stream: UnixStream| {
            let seq = seq.clone();
            let (gate, counted) = (gate.clone(), counted.clone());
            async move {
                stream.write_all(&Frame::data(&[1; 545])).await.expect("read");
                counted.fetch_add(1, Ordering::SeqCst);
                let _all_there = gate.acquire().await;
                let until = Instant::now() + Duration::from_secs(seconds);
                while Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    stream.write_all(&Frame::data(&[1; 545])).await.expect("read");
                }
                // Numbered as they end, as a guest does.
                let last = settled(&frames, seq.fetch_add(1, Ordering::SeqCst));
                let _ = stream.write_all(&last).await;
            }
        });
        let channels = bench.channels(streams.div_ceil(AT_ONCE));
        let memory = bench.resident_bytes();
        let mut clients = Vec::new();
        for at in 0..streams {
            let job = sealed_job(&channels[at / AT_ONCE], at as u64, 600_000);
            let (listen, go) = (bench.listen, go.clone());
            clients.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(listen).await.expect("connected");
                let mut answer = Vec::new();
                let head = format!(
                    "POST /v1/sealed HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
                    job.len()
                );
                stream.write_all(&[head.as_bytes(), &job].concat()).await.expect("sent");
                let mut began = None;
                while !answer.ends_with(b"0\r\n\r\n") {
                    assert!(stream.read_buf(&mut answer).await.expect("read") > 0);
                    if began.is_none() && go.available_permits() > 0 {
                        began = Some((Instant::now(), answer.len()));
                    }
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
                let (began, before) = began.expect("it went on");
                (answer.len() - before) as f64 / began.elapsed().as_secs_f64()
            }));
            while at + 1 - started_jobs.load(Ordering::SeqCst) >= 32 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while started_jobs.load(Ordering::SeqCst) < streams {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let idle = bench.resident_bytes() - memory;
        go.add_permits(streams * 2);
        tokio::time::sleep(Duration::from_secs(seconds / 2)).await;
        let busy = bench.resident_bytes() - memory;
        let mut rates = Vec::new();
        for client in clients {
            rates.push(client.await.expect("served"));
        }
        rates.sort_by(f64::total_cmp);
        let (slowest, median) = (rates[0], rates[rates.len() / 2]);
        println!(
            "{streams} streams: {} bytes of memory a stream when all are open, {} while they run; slowest {slowest:.0} bytes/s, \
             median {median:.0} bytes/s, {:.2} of it",
            idle / streams as u64,
            busy / streams as u64,
            slowest / median
        );
        let figures = bench.settled(&channels);
        assert_eq!(figures, streams as u64, "each is charged once");
        assert!(slowest >= median / 2.0);
    });
}

impl Bench {
    /// Jobs that are charged, by the proxy's own books.
    fn settled(&self, channels: &[ChannelTerms]) -> u64 {
        let store = Store::open_at(&self.config().state, &payee().address(), payee().chain());
        let store = store.expect("opens");
        assert!(store.channels().expect("read").len() >= channels.len());
        store.logged().expect("counted")
    }
}
