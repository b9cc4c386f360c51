//! The guest as a measured machine: its boot measures what was predicted, event by event; its model on a volume is served from
//! memory; and nothing that it says, on the serial port, on vsock or in a log, holds a run of a prompt or an answer, not even
//! when its kernel is made to panic. One boot for all of it.

use crate::common::{self, RUN_BYTES, find};
use crate::model_volume::{Packed, reads};
use memchr::memmem;
use registers::Register;
use serde_json::json;
use simulator::{Launched, Source, events_of};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{Image, Stack, StackOptions, scenario};

const PANIC: &[u8] = b"Kernel panic - not syncing";
const QUESTION: &str = "Explain Chrysalis in one sentence.";

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_measures_what_was_predicted_and_serves_from_memory_and_says_nothing_of_its_jobs() {
    let Some(packed) = Packed::new().await else {
        return;
    };
    let options = StackOptions {
        image: Some(packed.image.clone()),
        volume: Some(packed.volume()),
        proxy_log: Some("trace".into()),
        record: true,
        ..StackOptions::default()
    };
    let Some(stack) = common::stack(options).await else {
        return;
    };
    every_event_is_as_predicted(&stack, &packed.image);
    jobs_read_no_disk_and_logs_hold_no_run_of_prompt_or_answer(&stack, &packed).await;
}

/// RTMR1 and RTMR2 against the log of the boot's own TPM, and RTMR0 too, of which the log knows all but two events.
fn every_event_is_as_predicted(stack: &Stack, image: &Image) {
    let machine = stack.machine().expect("this guest is a machine");
    let launched = Launched::read(&machine.run.join("launched.json")).unwrap();
    let measured = events_of(&launched).unwrap();
    for (index, register) in [Register::Rtmr0, Register::Rtmr1, Register::Rtmr2]
        .into_iter()
        .enumerate()
    {
        let predicted = image.manifest.events.iter();
        let predicted: Vec<_> = predicted
            .filter(|event| event.register == register)
            .map(|event| event.digest)
            .collect();
        let seen = measured.iter().filter(|event| event.rtmr == index);
        let seen: Vec<_> = seen.map(|event| event.digest).collect();
        assert_eq!(predicted, seen, "{register:?}");
        assert!(predicted.len() >= 2, "{register:?} has events");
    }
    let from_log = measured
        .iter()
        .filter(|event| matches!(event.source, Source::Pcr(_)));
    assert_eq!(from_log.count() + 2, measured.len());
}

async fn jobs_read_no_disk_and_logs_hold_no_run_of_prompt_or_answer(
    stack: &Stack,
    packed: &Packed,
) {
    scenario::open_channel(stack, &mut Steps::quiet()).unwrap();
    let client = scenario::open_client(stack).unwrap();
    let session = client.attest().await.unwrap();
    let body = json!({"model": CHAT, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0,
        "max_tokens": 40});
    let seal = |body| {
        client::Job::prepare(&session, client::Endpoint::Chat, body)
            .unwrap()
            .seal()
            .unwrap()
    };

    let prompt = scenario::prompt_ids(&client, &body).unwrap();
    let run = stack.machine().expect("a machine").run.clone();
    let monitor = run.join("monitor.sock");
    let before = reads(&monitor);
    let mut answering = seal(body.clone()).send(client.proxy()).await.unwrap();
    while answering.next_event().await.unwrap().is_some() {}
    let answer = answering.finish().await.unwrap().verify(&session).unwrap();
    // SECURITY.md 1: no block is read during jobs, of the model's disk or of the root's.
    assert_eq!(reads(&monitor), before);
    let of_the_model = before.iter().find(|(disk, _)| disk == "model");
    assert!(
        of_the_model.is_some_and(|(_, reads)| *reads > 0),
        "{before:?}"
    );
    let root = answer.receipt().core().model_root.to_string();
    assert_eq!(root, packed.description.volume.verity_hash.to_string());
    let (text, ids) = (answer.text.clone(), scenario::id_bytes(&answer.ids));
    for secret in [text.as_bytes(), &ids, &prompt] {
        let length = secret.len();
        assert!(
            length > 2 * RUN_BYTES,
            "{length} bytes are too few to be searched for"
        );
    }

    // The second job is under way when the host makes the kernel panic, which any host can do.
    let mut answering = seal(body).send(client.proxy()).await.unwrap();
    assert!(answering.next_event().await.unwrap().is_some());
    inject_nmi(&monitor);
    let serial = wait_for_panic(&run.join("serial.log"));
    while let Ok(Some(_)) = answering.next_event().await {}
    assert!(
        answering.finish().await.is_err(),
        "a guest that is gone signs nothing"
    );

    let mut files = vec![("serial.log", serial)];
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    files.push(("recorded.bin", read(&stack.path("recorded.bin"))));
    for name in ["proxy.log", "launch.log", "simulator.log"] {
        files.push((name, read(&stack.path(name))));
    }
    for (name, bytes) in &files {
        assert_eq!(find(bytes, QUESTION), None, "the prompt is in {name}");
        assert_eq!(find(bytes, &text), None, "the answer is in {name}");
        assert_eq!(find(bytes, &prompt), None, "the prompt's ids are in {name}");
        assert_eq!(find(bytes, &ids), None, "the answer's ids are in {name}");
    }
    // The search finds what is there, and the recorder has recorded.
    assert!(memmem::find(&files[0].1, PANIC).is_some());
    assert!(files[1].1.len() > 16_000, "{} bytes", files[1].1.len());
}

/// Over QMP (QEMU, docs/interop/qmp-spec.rst): a greeting, the handshake, the command.
fn inject_nmi(socket: &Path) {
    let stream = UnixStream::connect(socket).expect("the machine has a monitor");
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let say = |words: &str| (&stream).write_all(words.as_bytes()).unwrap();
    say("{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"inject-nmi\"}\n");
    let answers = lines.by_ref().map(Result::unwrap);
    let done = answers.filter(|line| line.contains("\"return\"")).take(2);
    assert_eq!(done.count(), 2);
}

/// The serial port's bytes once the panic is on it and nothing has followed for three seconds.
fn wait_for_panic(serial: &Path) -> Vec<u8> {
    let until = Instant::now() + Duration::from_secs(120);
    let mut before = 0;
    loop {
        let bytes = std::fs::read(serial).unwrap();
        if memmem::find(&bytes, PANIC).is_some() && bytes.len() == before {
            return bytes;
        }
        before = bytes.len();
        assert!(
            Instant::now() < until,
            "no panic in {}",
            String::from_utf8_lossy(&bytes)
        );
        std::thread::sleep(Duration::from_secs(3));
    }
}
