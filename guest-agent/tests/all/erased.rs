//! The secret keys of an epoch are in the guest's memory while the epoch lives, and nowhere in it afterwards. The guest is the simulated
//! agent as a process. Its memory is read from outside, and the keys are found there by their public halves: no code of the agent helps.

use crate::memory::{memory, receipt_key, sealing_key};
use crate::program::{ready, start_module};
use crate::world::{
    Judged, asking, body, config, end, frames, greeting, judge, module, payer, seal_to,
};
use attest::Manifest;
use registers::Digest48;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use wire::*;

const RUN_BYTES: usize = 16;

/// Whether a run of 16 bytes of a secret is anywhere.
fn is_in(memory: &[Vec<u8>], secret: &[u8]) -> bool {
    let mut runs = secret.windows(RUN_BYTES).map(memchr::memmem::Finder::new);
    runs.any(|run| memory.iter().any(|bytes| run.find(bytes).is_some()))
}

/// The agent, which does not outlive its test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One exchange with the agent.
fn exchange(directory: &Path, request: &[Vec<u8>]) -> Vec<Frame> {
    let mut stream = UnixStream::connect(directory.join("guest.sock")).unwrap();
    stream.write_all(&request.concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    frames(&answer)
}

/// The agent's newest keyset, attested.
fn attested(directory: &Path, judged: &Judged) -> AttestedWorker {
    let nonce = [9; 32];
    let ask = [Frame::encode(FrameKind::OpenAttest, &nonce), end()];
    let evidence = body(&exchange(directory, &ask), FrameKind::Data);
    judge(evidence, &nonce, judged)
}

#[test]
fn an_epochs_secret_keys_are_in_memory_until_it_ends_and_not_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    // An epoch ends twelve seconds after it began.
    let config = config(|config| config["lifetime_s"] = 8.into());
    std::fs::write(directory.join("config.json"), &config).unwrap();
    let module = module();
    let program = std::fs::read(env!("CARGO_BIN_EXE_guest-agent-sim")).unwrap();
    let judged = Judged {
        root: module.root_der().to_vec(),
        collateral: module.collateral_json().to_vec(),
        manifest: Manifest::process(Digest48::of(&program), Digest48::of(&config)).to_json(),
        gpu: None,
    };
    start_module(module, directory);
    let agent = Agent(ready(directory).0);
    let process = agent.0.id();

    // A job is opened, answered and signed for, so the keys were used.
    let worker = attested(directory, &judged);
    let request = asking(Ask::Chat(greeting())).encode().unwrap();
    let job = seal_to(&worker, &payer(), 1, &request, |_| ());
    let open = Frame::encode(FrameKind::OpenJob, &job.envelope.encode());
    let job = [open, Frame::data(&job.request), end()];
    let answer = exchange(directory, &job);
    assert!(answer.iter().any(|frame| frame.kind == FrameKind::Receipt));
    let alive = memory(process);
    let keys = [sealing_key, receipt_key].map(|key| key(&alive, worker.keyset()));
    let keys = keys.map(|key| key.expect("it was used, and its epoch lives"));
    for key in &keys {
        assert!(is_in(&alive, key));
    }

    // While the epoch lives, the job is known; then nobody can open it.
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = exchange(directory, &job);
        let refusal = answer.iter().find(|frame| frame.kind == FrameKind::Refused);
        let refusal = refusal.map(|frame| SignedRefusal::decode(&frame.payload).unwrap());
        match refusal.map(|refusal| refusal.unverified_code()) {
            Some(RefusalCode::StaleKeyset) => break,
            code if Instant::now() > until => panic!("the epoch does not end: {code:?}"),
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    let newest = attested(directory, &judged);
    let ended = memory(process);
    for key in &keys {
        assert!(!is_in(&ended, key));
    }
    // The same search finds the keys of today.
    let found = [sealing_key, receipt_key].map(|key| key(&ended, newest.keyset()));
    assert!(found.iter().all(Option::is_some));
}
