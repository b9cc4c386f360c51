//! A guest that panics in the middle of a job, with all of the job in the panic's message, tells its host where that was and nothing
//! of the job: not in its log, not in its status, not on its stream. The guest is a process of its own, for its hook is the process's.

use crate::world::{boot_wrapped, config, end, exchange, models};
use engine::{BlockTable, EngineError, Forward, ForwardShape, Row};
use std::path::Path;
use std::process::Command;
use wire::{Frame, FrameKind};

/// For the child: the file that takes what its host gets over streams. Its hook is the shipped one, unless there is `LOUD`, too.
const STREAMS: &str = "CHRYSALIS_TEST_STREAMS";
const LOUD: &str = "CHRYSALIS_TEST_LOUD";
const NAME: &str = "panics::a_guest_that_panics_with_a_job_in_its_message_says_nothing_of_the_job";
const RUN_BYTES: usize = 16;
/// Tokens that are computed before the panic: the prompt's and some of the answer's.
const LATEST: usize = 8;

/// Computes until it has seen a few tokens of an answer, and then panics with all that it saw.
struct Panicking {
    forward: Box<dyn Forward>,
    seen: Vec<u32>,
}

impl Forward for Panicking {
    fn shape(&self) -> &ForwardShape {
        self.forward.shape()
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.seen.extend(rows.iter().map(|row| row.token));
        if self.seen.len() >= random_model::prompt("Hello").len() + LATEST {
            panic!(
                "{}",
                forms(&self.seen)
                    .map(String::from_utf8)
                    .map(Result::unwrap)
                    .join(" ")
            );
        }
        self.forward.forward(rows, tables, scores)
    }
}

/// What ids look like in a log: in decimal, as Rust prints them, and their bytes in hexadecimal.
fn forms(ids: &[u32]) -> [Vec<u8>; 2] {
    [
        format!("{ids:?}").into_bytes(),
        hex::encode(raw(ids)).into_bytes(),
    ]
}

fn raw(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// The first run of 16 bytes of `secret` that is in `said`.
fn found<'a>(said: &[u8], secret: &'a [u8]) -> Option<&'a [u8]> {
    assert!(
        secret.len() >= 2 * RUN_BYTES,
        "too short to be searched for"
    );
    let mut runs = secret.windows(RUN_BYTES);
    runs.find(|run| said.windows(RUN_BYTES).any(|part| part == *run))
}

/// What the child does: a job that ends in a panic, and a question how the guest is.
async fn serve_and_panic(streams: &Path) {
    if std::env::var_os(LOUD).is_none() {
        guest_agent::quiet_panics();
    }
    let panicking = |forward| {
        let seen = Vec::new();
        Box::new(Panicking { forward, seen }) as Box<dyn Forward>
    };
    let running = boot_wrapped(models(), &config(|_| ()), panicking).await;
    let job = running.seal(1, |_| ());
    let mut told = running.send(&job.envelope.encode(), &job.request).await;
    let open = Frame::encode(FrameKind::OpenStatus, b"");
    told.extend(exchange(&running.serving, [open, end()].concat()).await);
    let told: Vec<u8> = told
        .iter()
        .flat_map(|frame| frame.payload.clone())
        .collect();
    std::fs::write(streams, told).unwrap();
}

/// The child's log, and what its host got over streams.
fn child(loud: bool) -> [Vec<u8>; 2] {
    let streams = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([NAME, "--exact", "--nocapture"])
        .env(STREAMS, streams.path());
    if loud {
        command.env(LOUD, "1");
    }
    // More of it would be printed by a hook that prints any.
    let output = command.env("RUST_BACKTRACE", "full").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    [said, std::fs::read(streams.path()).unwrap()]
}

#[tokio::test]
async fn a_guest_that_panics_with_a_job_in_its_message_says_nothing_of_the_job() {
    if let Some(streams) = std::env::var_os(STREAMS) {
        return serve_and_panic(Path::new(&streams)).await;
    }
    let (prompt, answer) = (random_model::prompt("Hello"), random_model::answer());
    let answer = &answer[..LATEST];
    let [said, told] = child(false);
    let at = format!("panic at {}:", file!());
    let lines = String::from_utf8_lossy(&said);
    assert!(lines.contains(&at), "{lines}");
    assert!(
        told.len() > 1000,
        "records and a status: {} bytes",
        told.len()
    );
    for ids in [&prompt[..], answer] {
        let [decimal, digits] = forms(ids);
        for secret in [raw(ids), decimal, digits] {
            for bytes in [&said, &told] {
                assert_eq!(found(bytes, &secret).map(String::from_utf8_lossy), None);
            }
        }
    }
    // Without that hook the search finds prompt and answer, as they were printed.
    let [said, _] = child(true);
    for ids in [&prompt[..], answer] {
        let shown = forms(ids).map(|form| found(&said, &form).is_some());
        assert_eq!(shown, [true, true]);
    }
}
