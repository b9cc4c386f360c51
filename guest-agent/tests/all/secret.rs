//! Ids are secrets: from the sealed request to the sealed answer no address, no branch and no length depends on one.
//!
//! Memcheck follows bytes that are not defined and reports each jump and each address that depends on one. The ids of a sealed
//! request are marked so: of its prompt, its biases, its stop sequences and its grammar. What is meant to show is marked defined again, or excused by name: whether the request opens, whether
//! all ids are in the vocabulary, and the bytes that are sent. What the engine does in between is not part of this test.

#[expect(dead_code)]
#[path = "../../../wire/tests/all/common.rs"]
mod common;

use ed25519_dalek::SigningKey;
use model::Vocabulary;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use wire::*;

/// In the environment of the inner run: the file of the job, and what to do with its ids.
const JOB: &str = "CHRYSALIS_SECRET_JOB";
const USE: &str = "CHRYSALIS_SECRET_USE";
/// The exit code of a run in which Memcheck found something.
const FOUND: i32 = 97;
const PROMPT: [u32; 9] = [1, 269, 201, 793, 2, 201, 1, 268, 201];
const BIASED: [(u32, f32); 3] = [(7, -1.5), (793, 4.0), (899, 0.5)];
const STOPS: [&[u32]; 2] = [&[11, 12, 13], &[201]];
const GRAMMAR: [u32; 5] = [0x8000_0001, 17, 4, 899, 0x4000_0000];
/// Where the words lie: behind the header and one word, and before the end of the message and the tag.
const WORDS_AT: usize = 256 + 4;
const BEHIND: usize = 1 + 16;

/// Whether a sealed request opens is meant to show: the tag is compared in constant time, and its verdict branches.
const TAG: &str =
    "{\n  the verdict over the tag\n  Memcheck:Cond\n  ...\n  fun:*chacha20poly1305*decrypt*\n}\n";

#[test]
#[ignore = "runs under valgrind"]
fn no_branch_and_no_address_depends_on_an_id() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return without::skip("valgrind", "it is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let (job, suppressions) = (directory.path().join("job"), directory.path().join("tag"));
    std::fs::write(&job, sealed_job()).unwrap();
    std::fs::write(&suppressions, TAG).unwrap();
    let run = |used: &str| {
        let output = Command::new("valgrind")
            .args(["--quiet", &format!("--error-exitcode={FOUND}")])
            .arg(format!("--suppressions={}", suppressions.display()))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "secret::inner", "--ignored", "--nocapture"])
            .env(JOB, &job)
            .env(USE, used)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, said) = run("as the guest does");
    assert_eq!(code, Some(0), "{said}");
    // It finds what it looks for.
    for naive in ["compare one by one", "look up in a table"] {
        let (code, said) = run(naive);
        assert_eq!(code, Some(FOUND), "{naive}: {said}");
    }
}

/// The envelope's digest, the length of the body, and a sealed request.
fn sealed_job() -> Vec<u8> {
    let guest = common::guest();
    let worker = guest.attest(&guest.bundle(&common::NONCE)).unwrap();
    let mut chat = ChatRequest::new(PROMPT.to_vec(), 16);
    chat.bias = BIASED.to_vec();
    chat.stops = STOPS.map(<[u32]>::to_vec).to_vec();
    chat.grammar = GRAMMAR.to_vec();
    let request = Request {
        model_root: Digest([6; 32]),
        parent: None,
        ask: Ask::Chat(chat),
    };
    let request = request.job().unwrap();
    let payer = SigningKey::from_bytes(&[9; 32]);
    let envelope = common::envelope(&payer);
    let job = seal_job(&worker, envelope, &request, &payer, &mut common::rng()).unwrap();
    let length = (request.body.len() as u32).to_le_bytes();
    [&job.envelope.digest().0[..], &length, &job.request].concat()
}

#[test]
#[ignore = "the inner run of the test above"]
fn inner() {
    let Some(job) = std::env::var_os(JOB) else {
        return;
    };
    let job = std::fs::read(Path::new(&job)).unwrap();
    let (digest, rest) = job.split_first_chunk().unwrap();
    let (length, sealed) = rest.split_first_chunk().unwrap();
    let mut sealed = sealed.to_vec();
    let words = sealed.len() - BEHIND - u32::from_le_bytes(*length) as usize + WORDS_AT;
    for word in secret_words() {
        mark(&mut sealed[words + 4 * word..][..4], SECRET);
    }
    // The key that `common::guest` made, from the same numbers.
    let key = SealingKey::generate(1, &mut common::rng());
    let opened = open_job(&key, &sealed, EnvelopeDigest(*digest), &mut common::rng()).unwrap();
    let request = Request::decode(Endpoint::Chat, &opened.request.body).unwrap();
    let Ask::Chat(chat) = request.ask else {
        panic!("a chat is a chat")
    };
    let tokenizer = br#"{"model": {"vocab": {"last": 899}}}"#;
    let vocabulary = Vocabulary::parse(tokenizer, 900).unwrap();
    let biased: Vec<u32> = chat.bias.iter().map(|(id, _)| *id).collect();
    let stops = chat.stops.iter().map(Vec::as_slice);
    for ids in [&chat.prompt[..], &biased].into_iter().chain(stops) {
        let mut has = vocabulary.has(ids);
        mark(std::slice::from_mut(&mut has), PUBLIC);
        assert!(has);
    }
    black_box(opened.commitments.request(&opened.request.body));
    match std::env::var(USE).unwrap().as_str() {
        "compare one by one" => assert!(chat.prompt.iter().all(|id| *id < 900)),
        "look up in a table" => {
            let table: Vec<u64> = (0..1000).collect();
            black_box(
                chat.prompt
                    .iter()
                    .map(|id| table[*id as usize & 511])
                    .sum::<u64>(),
            );
        }
        _ => {}
    }
    let (mut sealer, digest) = (opened.sealer, EnvelopeDigest(*digest));
    let plain = AnswerWriter::new(Endpoint::Chat, digest).ids(&chat.prompt, None);
    let scored: Vec<Scored> = { chat.prompt.iter() }
        .map(|id| Scored {
            id: *id,
            logprob: f32::from_bits(*id),
            top: biased.iter().map(|id| (*id, f32::from_bits(*id))).collect(),
        })
        .collect();
    let scored = AnswerWriter::with_logprobs(digest, 5).scored(&scored, None);
    for record in [plain, scored] {
        let mut sent = sealer.seal(&record);
        let mut copy = record;
        mark(&mut sent, PUBLIC);
        mark(&mut copy, PUBLIC);
        assert!(sent.len() > record.len());
        assert_eq!(Record::decode(&copy).unwrap().count % PROMPT.len(), 0);
    }
}

/// Which words of the request are ids: those of the prompt, one of each bias, those of the stop sequences behind their lengths, and
/// the grammar's.
fn secret_words() -> Vec<usize> {
    let biases = PROMPT.len();
    let stops = biases + 2 * BIASED.len() + STOPS.len();
    let end = stops + STOPS.concat().len() + GRAMMAR.len();
    let biased = (0..BIASED.len()).map(|bias| biases + 2 * bias);
    (0..biases).chain(biased).chain(stops..end).collect()
}

/// Memcheck's requests (`memcheck.h`): the tool's letters, then 1 to make memory undefined and 2 to make it defined.
const SECRET: u64 = 0x4d43_0001;
const PUBLIC: u64 = 0x4d43_0002;

/// Tells Memcheck what these bytes are. Outside of valgrind it does nothing.
#[expect(unsafe_code)]
fn mark<T>(bytes: &mut [T], what: u64) {
    let (address, length) = (bytes.as_mut_ptr() as u64, size_of_val(bytes) as u64);
    let arguments = [what, address, length, 0, 0, 0];
    // SAFETY: valgrind.h's instructions for amd64: four rotations that together rotate by 128 bits, and an exchange of a
    // register with itself. The processor changes nothing by them but flags; valgrind reads `arguments` and sets rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &raw const arguments,
            inout("rdx") 0u64 => _,
        );
    }
}
