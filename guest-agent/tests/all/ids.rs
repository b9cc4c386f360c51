//! Token ids in, token ids out: which requests are refused, and how an answer ends.

use crate::world::{asking, body, boot, boot_held, config, greeting};
use random_model::{VOCABULARY, answer};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use wire::*;

#[tokio::test]
async fn a_request_that_this_guest_does_not_answer_is_refused() {
    let running = boot(&config(|c| c["jobs_max"] = 1_000.into())).await;
    let encoded = |request: Request| request.encode().unwrap().to_vec();
    let chat = |change: &dyn Fn(&mut ChatRequest)| {
        let mut request = greeting();
        change(&mut request);
        encoded(asking(Ask::Chat(request)))
    };
    let good = chat(&|_| ());
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let odd = [
        b"{".to_vec(),
        br#"{"model":"random-model","messages":[{"role":"user","content":"Hello"}]}"#.to_vec(),
        [&good[..], &[0; 4]].concat(),
        encoded(asking(Ask::Embeddings(vec![vec![5]]))),
        // No completion token, a negative temperature, a reserved byte.
        broken(40, 0),
        broken(47, 0x80),
        broken(200, 1),
        // Ids that the tokenizer does not have, wherever they are, though the table may have rows for them.
        chat(&|r| r.prompt[0] = u32::MAX),
        chat(&|r| *r.prompt.last_mut().unwrap() = VOCABULARY),
        chat(&|r| r.stops = vec![vec![5], vec![VOCABULARY]]),
        // As long as the context, so that no completion fits.
        chat(&|r| r.prompt = vec![5; 256]),
        // What is not computed is not ignored.
        chat(&|r| r.choices = 2),
        chat(&|r| r.grammar = vec![1]),
        chat(&|r| r.bias = vec![(VOCABULARY, 1.0)]),
    ];
    for (number, odd) in odd.iter().enumerate() {
        let job = running.seal_body(30 + number as u8, odd, |_| ());
        let code = running.code(job).await;
        assert_eq!(code, Some(RefusalCode::Request), "{number}");
    }
    let other = Request {
        model_root: Digest([1; 32]),
        ..asking(Ask::Chat(greeting()))
    };
    let other = running.seal_body(60, &encoded(other), |_| ());
    assert_eq!(running.code(other).await, Some(RefusalCode::Model));
    let largest = chat(&|r| r.prompt[0] = VOCABULARY - 1);
    let job = running.seal_body(61, &largest, |_| ());
    assert_eq!(running.code(job).await, None, "the largest id runs");
}

#[tokio::test]
async fn a_record_leaves_in_every_interval_although_no_token_comes() {
    let (running, hold) = boot_held(&config(|_| ())).await;
    let job = running.seal(1, |_| ());
    let (mut stream, agent) = running.begin(&job, 1 << 20).await;
    // The model's first step waits for the test, so that all of these are empty.
    let mut records = [0; 5 * wire::limits::RECORD_BYTES];
    let left = timeout(Duration::from_secs(8), stream.read_exact(&mut records));
    left.await.expect("they leave").unwrap();
    drop((hold, stream));
    agent.await.unwrap();
}

#[tokio::test]
async fn a_completion_ends_with_a_stop_sequence_and_the_first_record_waits_for_no_token() {
    let running = boot(&config(|_| ())).await;
    let stop = answer()[2..4].to_vec();
    let request = ChatRequest {
        stops: vec![vec![5, 5, 5], stop],
        ..greeting()
    };
    let request = asking(Ask::Chat(request)).encode().unwrap();
    let job = running.seal_body(1, &request, |_| ());
    let frames = running.send(&job.envelope.encode(), &job.request).await;
    let mut opener = job.opener;
    let records = opener.push(&body(&frames, FrameKind::Data)).unwrap();
    let mut reader = AnswerReader::new(Endpoint::Chat, job.envelope.digest());
    let (mut ids, mut empty) = (Vec::new(), 0);
    for record in &records {
        if let AnswerEvent::Ids { ids: more, .. } = reader.take(record).unwrap() {
            empty += usize::from(more.is_empty());
            ids.extend(more);
        }
    }
    assert_eq!(ids, answer()[..4], "the sequence counts");
    assert!(empty > 0, "the first record waits for no token");
}
