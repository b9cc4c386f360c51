//! Pairs of texts are scored as the engine scores them alone, and counted by their tokens.

#[path = "../../../engine/tests/engine/checkpoint.rs"]
mod checkpoint;

use crate::world::{Running, body, boot_in, config};
use checkpoint::Reference;
use engine::encoder::Text;
use engine::{Kind, Memory, Packing, Scorer, kernels_of};
use serde_json::json;
use std::sync::Arc;
use tempfile::TempDir;
use wire::*;

const RERANKER: &str = "random-reranker";

/// A random cross-encoder in a directory of models, and how a configuration offers it.
pub fn reranker() -> (TempDir, serde_json::Value) {
    let models = tempfile::tempdir().unwrap();
    std::fs::create_dir(models.path().join(RERANKER)).unwrap();
    Reference::parse(checkpoint::RERANKER).write(&models.path().join(RERANKER));
    let files = engine::weights::read(&models.path().join(RERANKER)).unwrap();
    let root = files.root().unwrap();
    let offer = json!([{"id": RERANKER, "endpoint": "rerank", "root": root.to_string(), "context_tokens": 24,
        "prompt_nano": 1_000_000_000, "completion_nano": 0}]);
    (models, offer)
}

/// A guest with that, and the same model beside it.
async fn guest() -> (Running, Scorer) {
    let (models, offer) = reranker();
    let files = engine::weights::read(&models.path().join(RERANKER)).unwrap();
    let kernels = Arc::new(kernels_of(Some(1)).unwrap());
    let packing = Packing::All(Kind::F32);
    let alone = Scorer::load_on(&files, kernels, packing, &Memory::unlimited()).unwrap();
    let config = config(|config| {
        config["jobs_max"] = 100.into();
        config["models"] = offer;
    });
    (boot_in(models.path(), &config).await, alone)
}

fn pair(document: &[u32]) -> Pair {
    let tokens = [&[5, 8, 9, 6], document, &[6]].concat();
    Pair { tokens, first: 4 }
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
async fn each_pair_gets_the_score_that_it_has_alone_and_is_paid_by_its_tokens() {
    let (running, alone) = guest().await;
    let pairs = vec![pair(&[10, 11, 12]), pair(&[13]), pair(&[10, 11, 12])];
    let expected = pairs.iter().map(|pair| {
        let (tokens, first) = (&pair.tokens[..], pair.first as usize);
        alone.score(Text { tokens, first }).unwrap().to_bits()
    });
    let expected: Vec<u32> = expected.collect();
    assert_ne!(expected[0], expected[1]);
    let tokens: usize = pairs.iter().map(|pair| pair.tokens.len()).sum();
    let job = seal(&running, 1, Ask::Rerank(pairs));
    let frames = running.send(&job.envelope.encode(), &job.request).await;
    let mut opener = job.opener;
    let mut reader = AnswerReader::new(Endpoint::Rerank, job.envelope.digest());
    let (mut scores, mut receipt) = (Vec::<f32>::new(), None);
    for record in opener.push(&body(&frames, FrameKind::Data)).unwrap() {
        match reader.take(&record).unwrap() {
            AnswerEvent::Vectors { numbers, .. } => scores.extend(numbers),
            AnswerEvent::Receipt(bytes) => receipt = Some(bytes),
            _ => {}
        }
    }
    let scores: Vec<u32> = scores.iter().map(|score| score.to_bits()).collect();
    assert_eq!(scores, expected);
    let receipt = Receipt::decode(&receipt.unwrap()).unwrap();
    let usage = receipt.unverified().usage;
    assert_eq!((usage.prompt as usize, usage.completion), (tokens, 0));
    assert_eq!(receipt.unverified().seed, None);
}

#[tokio::test]
async fn what_the_model_does_not_score_is_refused() {
    let (running, _) = guest().await;
    let good = pair(&[10, 11]);
    let with = |change: &dyn Fn(&mut Pair)| {
        let mut pair = good.clone();
        change(&mut pair);
        Ask::Rerank(vec![good.clone(), pair])
    };
    let cases = [
        (with(&|pair| pair.tokens[1] = 1 << 20), RefusalCode::Request),
        (
            with(&|pair| pair.tokens.resize(25, 8)),
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
