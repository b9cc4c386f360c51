//! What one core relays: the proxy as a process on the first core; clients, an echo in place of the guest, and the node on the others.
//! docs/benchmarks.md has the command and its figures.

use super::*;
use crate::config::NodeUrl;
use crate::credit::Credit;
use crate::fixtures::{payer_key, receipt_key};
use crate::limits::{CONNECTIONS_MAX, JOBS_PER_GUEST_MAX};
use crate::store::Store;
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
use wire::limits::FRAME_BYTES_MAX;
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

    /// Opens so many channels. The proxy has proved them before: it looks up only some unknown ones in ten seconds.
    fn channels(&self, count: usize) -> Vec<ChannelTerms> {
        let store = self.store();
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
            let proved = store.remember_first_key(&terms.address(), &terms.payer_key);
            proved.expect("written");
            terms
        };
        (0..count).map(open).collect()
    }

    /// The proxy's resident memory.
    fn resident_bytes(&self) -> u64 {
        let status = process(&self.child, "status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.expect("there").trim().trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number") * 1024
    }
}

fn process(child: &Child, file: &str) -> String {
    let pid = child.id().expect("it runs");
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("read")
}

/// What a process has computed, in seconds.
fn processor_s(child: &Child) -> f64 {
    let stat = process(child, "stat");
    let (_, after) = stat.rsplit_once(") ").expect("a name");
    let fields: Vec<f64> = after
        .split(' ')
        .map(|of| of.parse().unwrap_or_default())
        .collect();
    // proc_pid_stat(5): utime and stime, of it and of its children that have ended, in hundredths of a second.
    fields[11..15].iter().sum::<f64>() / 100.0
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
        assert!(
            got > 0 && answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(answer)
        );
    }
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
        let (started, before) = (Instant::now(), processor_s(&bench.child));
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
        let (took, busy) = (started.elapsed().as_secs_f64(), processor_s(&bench.child) - before);
        let done = (each * channels.len() * AT_ONCE) as f64;
        let verified = verifications_a_second();
        println!(
            "{done} jobs in {took:.2} s: {:.0} a second, {:.0} a second of the proxy's core ({busy:.2} s busy)\n\
             Ed25519: {verified:.0} verifications a second; reached {:.0} % of the bound of three a job, {:.0} % of that of two",
            done / took,
            done / busy,
            100.0 * done / took / (verified / 3.0),
            100.0 * done / took / (verified / 2.0)
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
                let frame = Frame::data(&vec![1; FRAME_BYTES_MAX]);
                for _ in 0..4_000 {
                    stream.write_all(&frame).await.expect("read");
                }
                let _ = stream.write_all(&last).await;
            }
        });
        let terms = &bench.channels(1)[0];
        for round in 0..number("ROUNDS", 3) as u64 {
            let jobs = (0..24).map(|at| sealed_job(terms, round << 8 | at, 600_000));
            let posted = jobs.clone().map(|job| {
                let head = format!(
                    "POST /v1/sealed HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    job.len()
                );
                [head.as_bytes(), &job].concat()
            });
            relayed("host-proxy", &bench.child, bench.listen, posted.collect()).await;
            let framed = jobs.map(|job| {
                let (envelope, _) = SignedEnvelope::decode_prefix(&job).expect("an envelope");
                let opened = Frame::encode(FrameKind::OpenJob, &envelope.encode());
                [opened, Frame::encode(FrameKind::End, b"")].concat()
            });
            let framed: Vec<_> = framed.collect();
            for (name, relay) in others(&bench.directory.path().join("guest.sock")) {
                let Some((child, listen)) = relay else {
                    println!("{name}: not installed");
                    continue;
                };
                relayed(name, &child, listen, framed.clone()).await;
            }
        }
    });
}

/// Sends these requests over four connections at a time and reads what comes to its end.
async fn relayed(name: &str, relay: &Child, listen: SocketAddr, requests: Vec<Vec<u8>>) {
    let bytes = Arc::new(AtomicUsize::new(0));
    let (started, before) = (Instant::now(), processor_s(relay));
    let clients = requests.chunks(6).map(|requests| {
        let (requests, bytes) = (requests.to_vec(), bytes.clone());
        tokio::spawn(async move {
            let mut chunk = vec![0; 256 * 1024];
            for request in requests {
                let mut stream = loop {
                    match TcpStream::connect(listen).await {
                        Ok(stream) => break stream,
                        // It is just starting.
                        Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                };
                stream.write_all(&request).await.expect("sent");
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
    let (took, busy) = (started.elapsed().as_secs_f64(), processor_s(relay) - before);
    let bytes = bytes.load(Ordering::Relaxed);
    assert!(
        bytes > requests.len() * 4_000 * FRAME_BYTES_MAX,
        "{name} relays all of it"
    );
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{name}: {gigabytes:.2} GB in {took:.2} s: {:.2} GB/s, {:.2} GB for a second of its core ({busy:.2} s busy)",
        gigabytes / took,
        gigabytes / busy
    );
}

/// Programs that relay bytes to this socket and know nothing of jobs, on the proxy's core: as they come, and with buffers of 64 KiB.
/// `None`: not installed.
fn others(to: &std::path::Path) -> Vec<(&'static str, Option<(Child, SocketAddr)>)> {
    let started = |program: &str, arguments: &dyn Fn(SocketAddr) -> Vec<String>| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let listen = free.local_addr().expect("bound");
        drop(free);
        let found = std::process::Command::new("which").arg(program).output();
        found.is_ok_and(|found| found.status.success()).then(|| {
            let child = Command::new("taskset")
                .args(["-c", "0", program])
                .args(arguments(listen))
                .kill_on_drop(true)
                .spawn();
            (child.expect("starts"), listen)
        })
    };
    let socat = |buffer: &str| {
        let arguments = |listen: SocketAddr| {
            let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,fork", listen.port());
            let to = format!("UNIX-CONNECT:{}", to.display());
            ["-b", buffer, &listen, &to].map(str::to_owned).to_vec()
        };
        started("socat", &arguments)
    };
    let nginx = |buffer: &str| {
        let arguments = |listen: SocketAddr| {
            let file = to.with_file_name(format!("nginx{}", listen.port()));
            let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
            let text = format!(
                "load_module {module};\ndaemon off;\nmaster_process off;\npid {0}.pid;\nerror_log stderr error;\nevents {{}}\n\
                 stream {{ server {{ listen {listen}; proxy_pass unix:{1}; proxy_buffer_size {buffer}; }} }}\n",
                file.display(),
                to.display()
            );
            std::fs::write(&file, text).expect("written");
            ["-c", &file.display().to_string()]
                .map(str::to_owned)
                .to_vec()
        };
        started("nginx", &arguments)
    };
    vec![
        ("socat", socat("8192")),
        ("socat, 64 KiB", socat("65536")),
        ("nginx stream", nginx("16k")),
        ("nginx stream, 64 KiB", nginx("64k")),
    ]
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
                    let got = stream.read_buf(&mut answer).await.expect("read");
                    let good = got > 0 && answer.starts_with(b"HTTP/1.1 200");
                    assert!(good, "{}", String::from_utf8_lossy(&answer));
                    if began.is_none() && go.available_permits() > 0 {
                        began = Some((Instant::now(), answer.len()));
                    }
                }
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
    fn store(&self) -> Store {
        let store = Store::open_at(&self.config().state, &payee().address(), payee().chain());
        store.expect("opens")
    }

    /// Jobs that are charged, by the proxy's own books.
    fn settled(&self, channels: &[ChannelTerms]) -> u64 {
        let store = self.store();
        assert!(store.channels().expect("read").len() >= channels.len());
        store.logged().expect("counted")
    }
}
