//! Pairs of texts are scored as the model scores them, and counted by their tokens.

#[path = "../../../engine/tests/engine/checkpoint.rs"]
mod checkpoint;

use crate::world::{Running, body, boot_in, config};
use checkpoint::Reference;
use serde_json::json;
use wire::*;

const RERANKER: &str = "random-reranker";

/// A guest with a random cross-encoder, and what `transformers` computes with it.
async fn guest() -> (Running, Reference) {
    let reference = Reference::parse(checkpoint::RERANKER);
    let model = reference.directory();
    let models = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(model.path(), models.path().join(RERANKER)).unwrap();
    let root = engine::weights::read(model.path()).unwrap().root().unwrap();
    let config = config(|config| {
        config["jobs_max"] = 100.into();
        config["models"] = json!([{"id": RERANKER, "endpoint": "rerank", "root": root.to_string(), "context_tokens": 24,
            "prompt_nano": 1_000_000_000, "completion_nano": 0}]);
    });
    (boot_in(models.path(), &config).await, reference)
}

fn pair(reference: &Reference) -> Pair {
    let first = reference.segments.iter().filter(|segment| **segment == 0);
    Pair {
        first: first.count() as u32,
        tokens: reference.prompt.clone(),
    }
}

fn seal(running: &Running, number: u8, ask: Ask) -> SealedJob {
    let request = Request {
        model_root: running.worker.keyset().models[0].root,
        parent: None,
        ask,
    };
    let endpoint = request.endpoint();
    let body = request.encode().unwrap();
    running.seal_body(number, &body, |envelope| envelope.endpoint = endpoint)
}

#[tokio::test]
async fn each_pair_gets_the_score_of_the_reference_and_is_paid_by_its_tokens() {
    let (running, reference) = guest().await;
    let pairs = vec![pair(&reference); 3];
    let tokens: usize = pairs.iter().map(|pair| pair.tokens.len()).sum();
    let job = seal(&running, 1, Ask::Rerank(pairs));
    let frames = running.send(&job.envelope.encode(), &job.request).await;
    let mut opener = job.opener;
    let mut reader = AnswerReader::new(Endpoint::Rerank, job.envelope.digest());
    let (mut scores, mut receipt) = (Vec::new(), None);
    for record in opener.push(&body(&frames, FrameKind::Data)).unwrap() {
        match reader.take(&record).unwrap() {
            AnswerEvent::Vectors { numbers, .. } => scores.extend(numbers),
            AnswerEvent::Receipt(bytes) => receipt = Some(bytes),
            _ => {}
        }
    }
    let [expected, _] = reference.pair_scores();
    assert_eq!(scores.len(), 3);
    for score in &scores {
        assert!(
            (score - expected).abs() <= 1e-5,
            "{score} is not {expected}"
        );
        assert_eq!(
            score.to_bits(),
            scores[0].to_bits(),
            "the same alone and beside others"
        );
    }
    let receipt = Receipt::decode(&receipt.unwrap()).unwrap();
    let usage = receipt.unverified().usage;
    assert_eq!((usage.prompt as usize, usage.completion), (tokens, 0));
    assert_eq!(receipt.unverified().seed, None);
}

#[tokio::test]
async fn what_the_model_does_not_score_is_refused() {
    let (running, reference) = guest().await;
    let good = pair(&reference);
    let with = |change: &dyn Fn(&mut Pair)| {
        let mut pair = good.clone();
        change(&mut pair);
        Ask::Rerank(vec![good.clone(), pair])
    };
    let cases = [
        (with(&|pair| pair.tokens[1] = 1 << 20), RefusalCode::Request),
        (
            with(&|pair| pair.tokens.resize(25, 5)),
            RefusalCode::Request,
        ),
        (
            Ask::Embeddings(vec![good.tokens.clone()]),
            RefusalCode::Model,
        ),
        (Ask::Chat(ChatRequest::new(vec![1], 1)), RefusalCode::Model),
    ];
    for (number, (ask, code)) in (1..).zip(cases) {
        let refused = running.code(seal(&running, number, ask)).await;
        assert_eq!(refused, Some(code), "case {number}");
    }
    let good = seal(&running, 9, Ask::Rerank(vec![good.clone()]));
    assert_eq!(running.code(good).await, None);
}
