//! What a request says of the choice of tokens is computed, by the ids that come back.

use crate::world::{asking, body, boot, config, greeting};
use random_model::{VOCABULARY, answer as expected};
use wire::*;

/// The tokens of a completion with their log probabilities, if it asks for these.
async fn answer(number: u8, request: ChatRequest) -> Result<Vec<Scored>, RefusalCode> {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let answered = answers(&running, number, [request]).await;
    answered.into_iter().next().expect("one request")
}

async fn answers(
    running: &crate::world::Running,
    number: u8,
    requests: impl IntoIterator<Item = ChatRequest>,
) -> Vec<Result<Vec<Scored>, RefusalCode>> {
    let mut answers = Vec::new();
    for (number, request) in (number..).zip(requests) {
        let logprobs = request.logprobs;
        let encoded = asking(Ask::Chat(request)).encode().unwrap();
        let job = running.seal_body(number, &encoded, |_| ());
        let frames = running.send(&job.envelope.encode(), &job.request).await;
        if let Some((_, code)) = running.refused(&frames) {
            answers.push(Err(code));
            continue;
        }
        let mut opener = job.opener;
        let envelope = job.envelope.digest();
        let mut reader = match logprobs {
            Some(count) => AnswerReader::with_logprobs(envelope, count.into()),
            None => AnswerReader::new(Endpoint::Chat, envelope),
        };
        let mut tokens = Vec::new();
        for record in opener.push(&body(&frames, FrameKind::Data)).unwrap() {
            let plain = |id| Scored {
                id,
                logprob: 0.0,
                top: Vec::new(),
            };
            match reader.take(&record).unwrap() {
                AnswerEvent::Ids { ids, .. } => tokens.extend(ids.into_iter().map(plain)),
                AnswerEvent::Scored { tokens: more, .. } => tokens.extend(more),
                _ => {}
            }
        }
        answers.push(Ok(tokens));
    }
    answers
}

fn ids(tokens: &[Scored]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

#[tokio::test]
async fn log_probabilities_come_with_each_token_and_change_none() {
    for count in [0, 5, 20] {
        let request = ChatRequest {
            logprobs: Some(count),
            ..greeting()
        };
        let tokens = answer(1, request).await.unwrap();
        assert_eq!(ids(&tokens), expected());
        for token in &tokens {
            assert_eq!(token.top.len(), usize::from(count));
            assert!(token.logprob <= 0.0 && token.logprob.is_finite());
            assert!(token.top.is_sorted_by(|a, b| a.1 >= b.1));
            if let Some((likeliest, logprob)) = token.top.first() {
                assert_eq!((*likeliest, *logprob), (token.id, token.logprob), "greedy");
            }
        }
    }
}

#[tokio::test]
async fn biases_penalties_and_top_k_change_the_choice() {
    let usual = expected();
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let hot = |top_k| ChatRequest {
        temperature: 2.0,
        seed: Some(3),
        top_k,
        ..greeting()
    };
    let requests = [
        ChatRequest {
            bias: vec![(usual[0], -100.0)],
            ..greeting()
        },
        ChatRequest {
            bias: vec![(usual[3], 100.0)],
            tokens_max: 4,
            ..greeting()
        },
        hot(1),
        hot(0),
        ChatRequest {
            frequency: 2.0,
            bias: vec![(usual[3], 100.0)],
            tokens_max: 4,
            ..greeting()
        },
    ];
    let answers = answers(&running, 1, requests).await;
    let made: Vec<Vec<u32>> = answers.into_iter().map(|a| ids(&a.unwrap())).collect();
    assert!(!made[0].contains(&usual[0]), "{:?}", made[0]);
    assert_eq!(made[1], [usual[3]; 4]);
    assert_eq!(made[2], usual, "the likeliest of one");
    assert_ne!(made[3], usual);
    assert_eq!(made[4], [usual[3]; 4], "100 is more than 2 for each time");
}

/// The prompt of the second job is long enough for whole blocks. The third brings other tokens under its handle.
#[tokio::test]
async fn a_prefix_is_reused_by_its_handle_with_the_same_answer_and_refused_with_other_tokens() {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let mut prompt = [5, 9, 14, 3].repeat(20);
    prompt.extend(greeting().prompt);
    let with = |prefix| ChatRequest {
        prompt: prompt.clone(),
        prefix,
        ..greeting()
    };
    let prefix = Some(([7; 32], 80));
    let mut other = with(prefix);
    other.prompt[40] = 10;
    let answers = answers(&running, 1, [with(None), with(prefix), with(prefix), other]).await;
    assert!(!answers[0].as_ref().unwrap().is_empty());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[3], Err(RefusalCode::Request));
}

/// Two states that take turns: even tokens, odd tokens.
#[tokio::test]
async fn a_grammar_decides_which_token_follows() {
    let classes: Vec<u32> = (0..VOCABULARY).map(|id| id % 2).collect();
    let halves = |numbers: &[u32]| -> Vec<u32> {
        let pairs = numbers.chunks(2);
        pairs
            .map(|pair| pair[0] | pair.get(1).unwrap_or(&0) << 16)
            .collect()
    };
    // States, classes; the first state; the class of each token; of each state the next one by class.
    let mut grammar = vec![2 | 2 << 16, 0];
    grammar.extend(halves(&classes));
    grammar.extend(halves(&[1, 0xffff, 0xffff, 0]));
    let request = ChatRequest {
        grammar,
        tokens_max: 8,
        ..greeting()
    };
    let made = ids(&answer(1, request).await.unwrap());
    let parities: Vec<u32> = made.iter().map(|id| id % 2).collect();
    assert!(made.len() > 1);
    assert!(
        parities
            .iter()
            .zip([0, 1].iter().cycle())
            .all(|(a, b)| a == b),
        "{made:?}"
    );
}
