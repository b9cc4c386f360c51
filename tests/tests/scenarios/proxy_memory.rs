//! The proxy holds neither text nor token ids: its memory is read while it carries a job, and its trace log afterwards. The
//! guest holds ids and no text. And it reads no block of a disk during jobs, from which its host could tell which weights are
//! touched.

use crate::common;
use memchr::memmem;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{StackOptions, scenario};

const RUN_BYTES: usize = 16;
const QUESTION: &str = "Explain Chrysalis in one sentence.";

/// Every readable private mapping of a process.
fn memory(process: u32) -> Vec<Vec<u8>> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    let memory = File::open(format!("/proc/{process}/mem")).expect("it is our child");
    let regions = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (
            u64::from_str_radix(from, 16).ok()?,
            u64::from_str_radix(to, 16).ok()?,
        );
        rest.starts_with("rw").then_some((from, to))
    });
    let read = regions.filter_map(|(from, to)| {
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        memory.read_exact_at(&mut bytes, from).ok()?;
        Some(bytes)
    });
    read.collect()
}

/// Bytes that a process made the storage layer fetch (proc_pid_io(5)).
fn block_bytes_read(process: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).expect("it is our child");
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "))
        .expect("the kernel counts them");
    line.parse().expect("a number")
}

fn find(haystacks: &[Vec<u8>], secret: impl AsRef<[u8]>) -> Option<String> {
    let runs = secret.as_ref().windows(RUN_BYTES);
    let found = runs.filter(|run| {
        haystacks
            .iter()
            .any(|haystack| memmem::find(haystack, run).is_some())
    });
    found
        .map(|run| String::from_utf8_lossy(run).into_owned())
        .next()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_of_16_bytes_of_prompt_or_answer_is_in_the_proxies_memory_or_logs() {
    let options = StackOptions {
        proxy_log: Some("trace".into()),
        ..StackOptions::default()
    };
    let Some(stack) = common::stack(options).await else {
        return;
    };
    scenario::open_channel(&stack, &mut Steps::quiet()).unwrap();
    let client = scenario::open_client(&stack).unwrap();
    let session = client.attest().await.unwrap();
    let proxy = stack.proxy_id().expect("it runs");
    let guest = stack.guest_id().expect("this guest is a process");
    let blocks_before = block_bytes_read(guest);

    let body = json!({"model": CHAT, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0,
        "max_tokens": 40});
    let prompt = scenario::prompt_ids(&client, &body).unwrap();
    let sealed = client::Job::prepare(&session, client::Endpoint::Chat, body)
        .unwrap()
        .seal()
        .unwrap();
    let mut answering = sealed.send(client.proxy()).await.unwrap();
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
    assert!(
        text.len() > 2 * RUN_BYTES,
        "the answer is long enough to be searched for: {text}"
    );

    assert_eq!(
        block_bytes_read(guest),
        blocks_before,
        "no block was read during the job"
    );
    let log = std::fs::read(stack.path("proxy.log")).unwrap();
    assert!(log.len() > 1000, "trace logs were written");
    snapshots.push(vec![log, std::fs::read(stack.path("guest.log")).unwrap()]);
    let ids = scenario::id_bytes(&answer.ids);
    assert!(ids.len() > 2 * RUN_BYTES && prompt.len() > 2 * RUN_BYTES);
    for snapshot in &snapshots {
        assert_eq!(find(snapshot, QUESTION), None, "the prompt");
        assert_eq!(find(snapshot, &text), None, "the answer");
        assert_eq!(find(snapshot, &prompt), None, "the prompt's ids");
        assert_eq!(find(snapshot, &ids), None, "the answer's ids");
    }
    assert_eq!(find(&inside, QUESTION), None, "the guest sees no text");
    assert!(
        find(&inside, &prompt).is_some(),
        "the guest computes with ids"
    );
    // The search finds what is there: a path of the proxy's own configuration.
    let known = stack.path("sim/collateral.json");
    for snapshot in &snapshots[..3] {
        assert!(
            find(snapshot, known.to_str().unwrap()).is_some(),
            "the dump is a dump"
        );
    }
}
