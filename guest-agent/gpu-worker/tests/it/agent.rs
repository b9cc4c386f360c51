//! The agent with its gate, whose driver's library is a fake, and with a worker that SIMULATES a GPU: what becomes of jobs.

use crate::fake::{Fake, Said};
use crate::made::{OcspMaker, RimMaker};
use crate::world::*;
use attest::Manifest;
use guest_agent::{BootError, Booted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use registers::{Digest48, RuntimeEvent};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use wire::limits::WORKER_BYTES_MAX;
use wire::*;

/// A machine with a GPU, as its agent sees it.
struct Machine {
    directory: TempDir,
    program: PathBuf,
    _fake: Fake,
}

impl Machine {
    /// The worker gets such arguments more.
    fn new(more: &str) -> Machine {
        let simulated = Path::new(env!("CARGO_BIN_EXE_simulated-gpu-worker"));
        Machine::with(simulated, more)
    }

    fn with(worker: &Path, more: &str) -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let fake = Fake::new(directory.path());
        let gate = Path::new(env!("CARGO_BIN_EXE_gpu-worker"));
        let started = fake.program(gate, worker, more);
        // `exec` keeps the process, so this is the worker's.
        let program = directory.path().join("noting");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --serve ] && echo $$ > '{}'\nexec '{}' \"$@\"\n",
            directory.path().join("pid").display(),
            started.display()
        );
        std::fs::write(&program, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        Machine {
            directory,
            program,
            _fake: fake,
        }
    }

    async fn boot(
        &self,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Running, BootError> {
        let config = config(|config| {
            config["gpu"] = true.into();
            config["jobs_max"] = 100.into();
            change(config);
        });
        let (module, said, rims) = (module(), Said::good(), RimMaker::driver());
        let (root, collateral) = (
            module.root_der().to_vec(),
            module.collateral_json().to_vec(),
        );
        let agent = Digest48([7; 48]);
        let roots = said.device.roots(&rims);
        let booted = Booted::new(InProcess(module), &config, true)?;
        let measured = booted
            .with_gpu(Some(&self.program), roots)
            .measure(|| Ok(agent), models())?;
        let attested = measured.attest(&mut ChaCha20Rng::from_seed([1; 32]))?;
        let identity = GpuReport::new(Vec::new(), said.device.certificates()).identity();
        let event = GpuReport::event(&identity.unwrap());
        let manifest = Manifest::process(agent, Digest48::of(&config)).then(RuntimeEvent {
            name: event.name,
            digest: Digest48(event.digest),
        });
        let files = [rims.file(), RimMaker::vbios().file()].map(String::into_bytes);
        let ocsp = OcspMaker::all_good(&said.device, &rims);
        let judged = Judged {
            root,
            collateral,
            manifest: manifest.to_json(),
            gpu: Some((roots, GpuCollateral::new(files.to_vec(), ocsp))),
        };
        Ok(attested_by(attested.serve(), judged).await)
    }

    fn pid(&self) -> Pid {
        let text = std::fs::read_to_string(self.directory.path().join("pid")).unwrap();
        Pid::from_raw(text.trim().parse().unwrap())
    }

    /// Why a guest with this worker does not boot.
    async fn refused(&self) -> String {
        self.boot(|_| ()).await.map(drop).unwrap_err().to_string()
    }
}

/// What came of a job.
#[derive(Debug, Default)]
struct Outcome {
    ids: Vec<u32>,
    finish: Option<Finish>,
    failed: bool,
    receipt: Option<Receipt>,
}

fn read(job: SealedJob, frames: &[Frame]) -> Outcome {
    let mut opener = job.opener;
    let mut outcome = Outcome::default();
    let mut reader = AnswerReader::new(Endpoint::Chat, job.envelope.digest());
    for record in opener.push(&body(frames, FrameKind::Data)).unwrap() {
        match reader.take(&record).unwrap() {
            AnswerEvent::Ids { ids, finish } => {
                outcome.ids.extend(ids);
                outcome.finish = finish;
            }
            AnswerEvent::Receipt(bytes) => outcome.receipt = Receipt::decode(&bytes).ok(),
            AnswerEvent::Failure(_) => outcome.failed = true,
            _ => {}
        }
    }
    outcome
}

async fn send(running: &Running, number: u8) -> Outcome {
    let job = running.seal(number, |_| ());
    let frames = running.send(&job.envelope.encode(), &job.request).await;
    assert_eq!(running.refused(&frames), None);
    read(job, &frames)
}

/// That the guest serves nothing any more, and says why.
async fn is_lost(running: &Running, why: &str) {
    let job = running.seal(200, |_| ());
    assert_eq!(running.code(job).await, Some(RefusalCode::StaleKeyset));
    let ask = [Frame::encode(FrameKind::OpenAttest, &[9; 32]), end()].concat();
    assert!(exchange(&running.serving, ask).await.is_empty());
    let ask = [Frame::encode(FrameKind::OpenStatus, b""), end()].concat();
    let status = body(&exchange(&running.serving, ask).await, FrameKind::Data);
    let gpus = Status::decode(&status).unwrap().gpus;
    assert!(
        gpus[0].starts_with("lost: ") && gpus[0].contains(why),
        "{gpus:?}"
    );
}

async fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ended(pid: Pid) -> bool {
    kill(pid, None).is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_goes_sealed_to_the_worker_and_comes_back_with_a_receipt() {
    let machine = Machine::new("");
    let running = machine.boot(|_| ()).await.unwrap();
    assert!(running.worker.gpu().is_some(), "the client appraised it");
    let (first, second) = tokio::join!(send(&running, 1), send(&running, 2));
    for outcome in [first, second] {
        assert_eq!(outcome.ids, random_model::answer());
        assert_eq!(outcome.finish, Some(Finish::Stop));
        let receipt = outcome.receipt.unwrap();
        let core = receipt.unverified();
        assert_eq!(core.gpus, running.worker.keyset().gpus);
        assert!(core.determinism.starts_with("simulated-gpu/"), "{core:?}");
        assert_eq!(core.usage.completion as usize, outcome.ids.len());
        assert_eq!(core.usage.prompt as usize, greeting().prompt.len());
    }
    // As the processor would: the same request with every option gives the same tokens.
    let mut chat = ChatRequest {
        seed: Some(77),
        temperature: 1.3,
        top_p: 0.9,
        repetition: 1.1,
        bias: vec![(70, 3.0)],
        stops: vec![vec![5, 5]],
        ..greeting()
    };
    let beside = boot(&config(|config| config["jobs_max"] = 100.into())).await;
    for number in 10..14 {
        chat.seed = Some(number.into());
        let request = asking(Ask::Chat(chat.clone())).encode().unwrap();
        let mut made = Vec::new();
        for running in [&running, &beside] {
            let job = running.seal_body(number, &request, |_| ());
            let frames = running.send(&job.envelope.encode(), &job.request).await;
            made.push(read(job, &frames).ids);
        }
        assert!(made[0] == made[1] && !made[0].is_empty(), "{made:?}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"));
    let environment = std::fs::read(format!("/proc/{}/environ", machine.pid())).unwrap();
    let text = String::from_utf8_lossy(&environment);
    // The shell between, which is the test's, sets some of its own.
    assert!(!text.contains("CARGO") && !text.contains("HOME="), "{text}");
    let pid = machine.pid();
    drop(running);
    until(|| ended(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_holds_up_itself_alone() {
    let machine = Machine::new("");
    let running = machine.boot(|_| ()).await.unwrap();
    let job = running.seal(1, |_| ());
    // Room for less than a record.
    let (mut ours, agent) = running.begin(&job, 100).await;
    for number in 2..8 {
        assert_eq!(send(&running, number).await.ids, random_model::answer());
    }
    let mut bytes = Vec::new();
    ours.read_to_end(&mut bytes).await.unwrap();
    agent.await.unwrap();
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    decoder.push(&bytes);
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    assert_eq!(read(job, &frames).ids, random_model::answer());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_a_job_fails_it_without_a_charge_and_ends_serving() {
    let machine = Machine::new("--step 300");
    let running = machine.boot(|_| ()).await.unwrap();
    let (job, other) = (running.seal(1, |_| ()), running.seal(2, |_| ()));
    let pid = machine.pid();
    let killed = async {
        // A step for the prompt and some for tokens.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        kill(pid, Signal::SIGKILL).unwrap();
    };
    let (envelopes, requests) = (
        [job.envelope.encode(), other.envelope.encode()],
        [job.request.clone(), other.request.clone()],
    );
    let (frames, others, ()) = tokio::join!(
        running.send(&envelopes[0], &requests[0]),
        running.send(&envelopes[1], &requests[1]),
        killed
    );
    for (job, frames) in [(job, frames), (other, others)] {
        let none = frames.iter().all(|frame| frame.kind != FrameKind::Charge);
        assert!(none && running.fetch(&job).await.is_none(), "it is charged");
        let outcome = read(job, &frames);
        assert!(outcome.failed && outcome.receipt.is_none(), "{outcome:?}");
        let made = outcome.ids.len();
        assert!((1..random_model::answer().len()).contains(&made), "{made}");
        assert!(random_model::answer().starts_with(&outcome.ids));
    }
    is_lost(&running, "the GPU worker ended").await;
    assert!(ended(pid), "nobody waited for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_ends_with_its_step_and_others_go_on() {
    let machine = Machine::new("--step 100");
    let running = machine.boot(|_| ()).await.unwrap();
    let job = running.seal(1, |_| ());
    let cancel = job.cancel.cancel(job.envelope.digest()).encode();
    let (envelope, request) = (job.envelope.encode(), job.request.clone());
    let cancelled = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let open = Frame::encode(FrameKind::OpenCancel, &cancel);
        exchange(&running.serving, [open, end()].concat()).await;
    };
    let sent = running.send(&envelope, &request);
    let (frames, other, ()) = tokio::join!(sent, send(&running, 2), cancelled);
    let outcome = read(job, &frames);
    assert_eq!(outcome.finish, Some(Finish::Cancelled));
    let used = outcome.receipt.unwrap().unverified().usage.completion as usize;
    assert_eq!(used, outcome.ids.len(), "what was delivered is paid for");
    assert!(used < random_model::answer().len());
    assert_eq!(other.ids, random_model::answer());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_may_not_say_ends_it_and_serving() {
    let token = || WorkerAnswer::Tokens(vec![WorkerToken::new(0, 5, None)]);
    let cases: [(&[u8], &str); 5] = [
        (&[0xff; 30], "GPU worker message: not a well-formed"),
        (&[0; WORKER_BYTES_MAX + 1], "a packet has 98305 bytes"),
        (&token().encode(), "sent a token out of order"),
        (
            &WorkerAnswer::Fault("what a prompt said".into()).encode(),
            "sent a complaint out of order",
        ),
        (
            &WorkerAnswer::Ended {
                job: 0,
                end: WorkerEnd::Stop,
            }
            .encode(),
            "sent an end out of order",
        ),
    ];
    for (packet, why) in cases {
        let noise = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(noise.path(), packet).unwrap();
        let machine = Machine::new(&format!("--noise 2000 '{}'", noise.path().display()));
        let running = machine.boot(|_| ()).await.unwrap();
        let pid = machine.pid();
        until(|| ended(pid)).await;
        is_lost(&running, why).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_no_longer_answers_is_given_up() {
    let machine = Machine::new("");
    let running = machine.boot(|_| ()).await.unwrap();
    let pid = machine.pid();
    kill(pid, Signal::SIGSTOP).unwrap();
    let job = running.seal(1, |envelope| envelope.deadline_ms = 300);
    // It never started, so it is refused.
    assert_eq!(running.code(job).await, Some(RefusalCode::Busy));
    is_lost(&running, "has not ended a job").await;
    assert!(ended(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_worker_does_not_load_the_model_does_not_boot_and_says_why() {
    let gate = Path::new(env!("CARGO_BIN_EXE_gpu-worker"));
    let shipped = Machine::with(gate, "").refused().await;
    let name = "model `random-model`: the GPU worker refuses: ";
    assert!(shipped.starts_with(name), "{shipped}");
    let silent = Machine::with(Path::new("/bin/true"), "").refused().await;
    assert!(silent.contains("the GPU worker ended"), "{silent}");
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("noise");
    std::fs::write(&script, "#!/bin/sh\nhead -c 1 > /dev/null\nprintf x >&0\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let noise = Machine::with(&script, "").refused().await;
    assert!(noise.contains("not a well-formed"), "{noise}");
    let machine = Machine::new("");
    let other =
        |config: &mut serde_json::Value| config["models"][0]["root"] = "11".repeat(32).into();
    let refused = machine.boot(other).await.map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("the GPU worker read a model with the root"),
        "{refused}"
    );
    until(|| ended(machine.pid())).await;
}
