//! The proxy holds neither text nor token ids nor the keys of client and guest: its memory is read while it carries a job, and its
//! trace log afterwards, and once more after it was made to panic, and both programs to abort, in the middle of a job. The guest holds
//! ids and no text.
//! And it reads no block of a disk during jobs, from which its host could tell which weights are touched.

use crate::common::{self, RUN_BYTES, find, find_run};
use crate::guest_memory::{memory, receipt_key, sealing_key};
use client::{Client, Session};
use nix::fcntl::{FcntlArg, PosixFadviseAdvice, fcntl, posix_fadvise};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::report::Steps;
use tests::stack::{CHAT, EMBEDDER};
use tests::{Stack, StackOptions, scenario};

const QUESTION: &str = "Explain Chrysalis in one sentence.";
/// Of a job for which a thousand are paid. The developer has 20.
const DEPOSIT_TON: &str = "17.5";

/// Bytes that a process made the storage layer fetch (proc_pid_io(5)).
fn block_bytes_read(process: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).expect("it is our child");
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "))
        .expect("the kernel counts them");
    line.parse().expect("a number")
}

/// The files that a process has open or mapped, but for libraries and devices.
fn files(process: u32) -> Vec<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it is our child");
    let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let all = open.chain(mapped.map(PathBuf::from));
    let mut files: Vec<PathBuf> = all
        .filter(|path| path.is_absolute() && !path.starts_with("/dev"))
        .filter(|path| !path.starts_with("/usr/lib") && !path.starts_with("/lib"))
        .collect();
    files.sort();
    files.dedup();
    files
}

/// The first run of a secret that is somewhere in a snapshot, as it is or in hexadecimal.
fn is_in(snapshot: &[Vec<u8>], secret: impl AsRef<[u8]>) -> Option<String> {
    let secret = secret.as_ref();
    assert!(secret.len() >= RUN_BYTES, "too short to be searched for");
    let digits = hex::encode(secret);
    snapshot.iter().find_map(|bytes| {
        find(bytes, secret).or_else(|| find_run(bytes, digits.as_bytes(), 2 * RUN_BYTES))
    })
}

async fn begun(options: StackOptions) -> Option<(Stack, Client)> {
    let stack = common::stack(options).await?;
    scenario::open_channel_with(&stack, DEPOSIT_TON, &mut Steps::quiet()).unwrap();
    let client = scenario::open_client(&stack).unwrap();
    Some((stack, client))
}

fn question(max_tokens: u32) -> Value {
    let messages = [json!({"role": "user", "content": QUESTION})];
    json!({"model": CHAT, "messages": messages, "temperature": 0, "max_tokens": max_tokens})
}

fn seal(session: &Session) -> client::Sealed {
    let job = client::Job::prepare(session, client::Endpoint::Chat, question(40));
    job.unwrap().seal().unwrap()
}

/// The secret keys of developer and payee, which a proxy has no need of.
fn keys_of_others(stack: &Stack) -> Vec<(&'static str, Vec<u8>)> {
    let names = ["payer.key", "developer.key", "keys/payee.key"];
    let read = names.map(|name| {
        let text = std::fs::read_to_string(stack.path(name)).unwrap();
        (name, hex::decode(text.trim()).unwrap())
    });
    read.to_vec()
}

/// A proxy that serves and still waits to say so, because its standard output is a pipe that is full.
struct Unheard {
    proxy: Child,
    output: Option<PipeReader>,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

impl Unheard {
    /// The stack's proxy anew, at the address that it had.
    fn start(stack: &mut Stack) -> Unheard {
        stack.kill_proxy();
        let config = stack.path("proxy.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        let (listen, rest) = text.split_once('\n').unwrap();
        assert!(listen.starts_with("listen: "), "{listen}");
        std::fs::write(&config, format!("listen: {}\n{rest}", stack.proxy)).unwrap();
        let (output, mut full) = std::io::pipe().unwrap();
        let room = fcntl(&full, FcntlArg::F_GETPIPE_SZ).unwrap();
        full.write_all(&vec![b' '; usize::try_from(room).unwrap()])
            .unwrap();
        let mut command = Command::new(stack.program("host-proxy"));
        command.args(["serve", "--json", "--config"]).arg(config);
        command
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        command.stdin(Stdio::null()).stdout(full);
        command.stderr(File::create(stack.path("panicked.log")).unwrap());
        Unheard {
            proxy: command.spawn().unwrap(),
            output: Some(output),
        }
    }

    /// Leaves it without a reader: `println!` panics if it cannot write. Waits until the program has ended by that.
    fn panic(mut self) {
        self.output = None;
        // A panic that leaves `main`.
        assert_eq!(self.proxy.wait().unwrap().code(), Some(101));
    }
}

/// A proxy in place of the stack's panics in the middle of a job. Gives back its memory just before, its log, and that of the stack's.
async fn panicked(stack: &mut Stack, client: &Client, session: &Session) -> Vec<Vec<u8>> {
    let unheard = Unheard::start(stack);
    let before = std::fs::read(stack.path("proxy.log")).unwrap();
    assert!(before.len() > 1000, "trace logs were written");
    let until = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(stack.proxy).is_err() {
        assert!(Instant::now() < until, "the proxy does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut answering = seal(session).send(client.proxy()).await.unwrap();
    assert!(answering.next_event().await.unwrap().is_some());
    // So that the job cannot end before the proxy does.
    let guest = Pid::from_raw(i32::try_from(stack.guest_id().unwrap()).unwrap());
    kill(guest, Signal::SIGSTOP).unwrap();
    let mut left = memory(unheard.proxy.id());
    unheard.panic();
    kill(guest, Signal::SIGCONT).unwrap();
    while let Ok(Some(_)) = answering.next_event().await {}
    assert!(answering.finish().await.is_err(), "nobody brought the rest");
    let log = std::fs::read(stack.path("panicked.log")).unwrap();
    let said = String::from_utf8_lossy(&log);
    assert!(said.contains("thread 'main'") && said.contains("panicked at"));
    assert!(said.contains("failed printing to stdout"), "its message");
    left.extend([log, before]);
    left
}

/// Ends both programs where they stand, as an abort does, and gives back what they had logged.
fn abort(stack: &Stack) -> Vec<Vec<u8>> {
    for process in [stack.proxy_id(), stack.guest_id()].into_iter().flatten() {
        let process = Pid::from_raw(i32::try_from(process).unwrap());
        kill(process, Signal::SIGABRT).unwrap();
    }
    let names = ["proxy.log", "guest.log", "simulator.log"];
    names
        .map(|name| std::fs::read(stack.path(name)).unwrap())
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_of_16_bytes_of_prompt_answer_or_key_is_in_the_proxies_memory_or_logs() {
    let options = StackOptions {
        proxy_log: Some("trace".into()),
        ..StackOptions::default()
    };
    let Some((mut stack, client)) = begun(options).await else {
        return;
    };
    let session = client.attest().await.unwrap();
    let proxy = stack.proxy_id().expect("it runs");
    let guest = stack.guest_id().expect("this guest is a process");
    let prompt = scenario::prompt_ids(&client, &question(40)).unwrap();
    let mut answering = seal(&session).send(client.proxy()).await.unwrap();
    // The job is under way: the first event has come through and the rest is on its way.
    assert!(answering.next_event().await.unwrap().is_some());
    let mut snapshots = vec![memory(proxy)];
    let inside = memory(guest);
    assert!(answering.next_event().await.unwrap().is_some());
    snapshots.push(memory(proxy));
    while answering.next_event().await.unwrap().is_some() {}
    snapshots.push(memory(proxy));
    let answer = answering.finish().await.unwrap().verify(&session).unwrap();
    let text = answer.text.clone();
    let ids = scenario::id_bytes(&answer.ids);
    for secret in [text.as_bytes(), &ids, &prompt] {
        assert!(
            secret.len() > 2 * RUN_BYTES,
            "long enough to be searched for"
        );
    }
    let keys = [sealing_key, receipt_key].map(|key| key(&inside, session.worker().keyset()));
    let [sealing_key, receipt_key] = keys.map(|key| key.expect("the guest uses it"));

    snapshots.push(panicked(&mut stack, &client, &session).await);
    stack.start_proxy().unwrap();
    let mut second = seal(&session).send(client.proxy()).await.unwrap();
    assert!(second.next_event().await.unwrap().is_some());
    let logs = abort(&stack);
    while let Ok(Some(_)) = second.next_event().await {}
    assert!(second.finish().await.is_err(), "nobody is left to sign");
    snapshots.push(logs);

    let mut secrets = keys_of_others(&stack);
    secrets.push(("the guest's receipt key", receipt_key.to_vec()));
    secrets.push(("the guest's sealing key", sealing_key.to_vec()));
    secrets.push(("the prompt", QUESTION.into()));
    secrets.push(("the answer", text.into()));
    secrets.push(("the prompt's ids", prompt.clone()));
    secrets.push(("the answer's ids", ids));
    for (name, secret) in &secrets {
        for snapshot in &snapshots {
            assert_eq!(is_in(snapshot, secret), None, "{name}");
        }
    }
    assert_eq!(is_in(&inside, QUESTION), None, "the guest sees no text");
    // The search finds what is there: in the guest, and in the proxy a path of its own configuration and its own key.
    assert!(
        is_in(&inside, &prompt).is_some(),
        "the guest computes with ids"
    );
    assert!(is_in(&inside, receipt_key).is_some());
    assert!(is_in(&inside, sealing_key).is_some());
    let known = stack.path("sim/collateral.json");
    let endorsing = std::fs::read_to_string(stack.path("keys/endorsing.key")).unwrap();
    let endorsing = hex::decode(endorsing.trim()).unwrap();
    for snapshot in &snapshots[..3] {
        assert!(is_in(snapshot, known.to_str().unwrap()).is_some());
        assert!(is_in(snapshot, &endorsing).is_some(), "the proxy endorses");
    }
}

/// Whether this kernel counts what this process reads from a disk, shown by a file that is on the disk and not in memory.
fn blocks_are_counted() -> bool {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("counted");
    let mut file = File::create(&path).unwrap();
    file.write_all(&[7; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    let before = block_bytes_read(std::process::id());
    File::open(&path)
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    block_bytes_read(std::process::id()) > before
}

/// Runs jobs, every tenth a chat, and counts the blocks that the guest reads meanwhile.
async fn no_block_is_read_during(jobs: u32) {
    let Some((stack, client)) = begun(StackOptions::default()).await else {
        return;
    };
    client.attest().await.unwrap();
    assert!(blocks_are_counted(), "what is not counted proves nothing");
    let guest = stack.guest_id().expect("this guest is a process");
    let before = block_bytes_read(guest);
    for number in 0..jobs {
        let input = format!("This is text number {number} of {jobs}.");
        match number % 10 {
            0 => drop(client.chat(&question(4), &mut |_| ()).await.unwrap()),
            _ => {
                let body = json!({"model": EMBEDDER, "input": input});
                drop(client.embeddings(&body).await.unwrap());
            }
        }
    }
    assert_eq!(block_bytes_read(guest), before, "{jobs} jobs");
    // It could not: no file is open or mapped but the program and its log. The proxy has its state and its log.
    let [agent, proxy] = ["guest-agent-sim", "host-proxy"].map(|name| stack.program(name));
    let beside = |file: &PathBuf, names: &[&str]| names.iter().any(|name| file.ends_with(name));
    for file in files(guest) {
        assert!(
            file == agent || beside(&file, &["guest.log"]),
            "the guest has {}",
            file.display()
        );
    }
    let state = [
        "proxy.log",
        "proxy.sqlite",
        "proxy.sqlite-wal",
        "proxy.sqlite-shm",
    ];
    for file in files(stack.proxy_id().expect("it runs")) {
        assert!(
            file == proxy || beside(&file, &state),
            "the proxy has {}",
            file.display()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_block_is_read_during_jobs() {
    no_block_is_read_during(30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a thousand jobs take minutes"]
async fn no_block_is_read_during_a_thousand_jobs() {
    no_block_is_read_during(1000).await;
}
