//! A transcript is what its receipt commits to, to the byte, and two of one question are compared bit for bit.

use crate::common::guest;
use crate::receipt::core;
use wire::*;

const ENVELOPE: EnvelopeDigest = EnvelopeDigest([7; 32]);

struct Job {
    transcript: Transcript,
    receipt: ReceiptCore,
}

impl Job {
    fn new(
        ask: Ask,
        finish: Finish,
        write: impl FnOnce(&mut AnswerWriter) -> Vec<RecordBytes>,
    ) -> Job {
        let request = Request {
            model_root: Digest([6; 32]),
            parent: None,
            ask,
        };
        Job::of(&request, finish, write)
    }

    fn of(
        request: &Request,
        finish: Finish,
        write: impl FnOnce(&mut AnswerWriter) -> Vec<RecordBytes>,
    ) -> Job {
        let commitments = Commitments::of_salts([1; 32], [2; 32]);
        let mut writer = match &request.ask {
            Ask::Chat(chat) if let Some(count) = chat.logprobs => {
                AnswerWriter::with_logprobs(ENVELOPE, count.into())
            }
            _ => AnswerWriter::new(request.endpoint(), ENVELOPE),
        };
        let records = write(&mut writer).concat();
        let body = request.encode().unwrap().to_vec();
        let receipt = ReceiptCore {
            envelope: ENVELOPE,
            endpoint: request.endpoint(),
            request: commitments.request(&body),
            response: commitments.response(writer.chain()),
            frames: writer.chain(),
            events: writer.chained(),
            finish,
            seed: Some(9),
            ..core(&guest())
        };
        let (request_salt, response_salt) = commitments.salts();
        let transcript = Transcript {
            version: 1,
            request: body,
            request_salt,
            response_salt,
            records,
        };
        Job {
            transcript,
            receipt,
        }
    }

    fn said(&self) -> Said {
        self.transcript.open(&self.receipt).ok().unwrap()
    }
}

fn chat(ids: &[u32], finish: Finish) -> Job {
    let ask = Ask::Chat(ChatRequest::new(vec![1, 2, 3], 16));
    Job::new(ask, finish, |w| vec![w.empty(), w.ids(ids, Some(finish))])
}

/// The same question again, with these tokens.
fn again(first: &Job, ids: &[u32], finish: Finish) -> Job {
    let request = first.said().again();
    Job::of(&request, finish, |w| vec![w.ids(ids, Some(finish))])
}

fn compared(first: &Job, second: &Job) -> Option<Compared> {
    compare(&first.said(), &second.said())
}

#[test]
fn a_transcript_opens_what_its_receipt_commits_to_and_no_other_byte_does() {
    let job = chat(&[5, 6, 7], Finish::Stop);
    assert_eq!(job.said().count(), 3);
    let bytes = job.transcript.encode();
    assert!(Transcript::decode(&bytes).is_ok_and(|again| again == job.transcript));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let opened = Transcript::decode(&flipped)
            .ok()
            .map(|other| other.open(&job.receipt));
        assert!(opened.is_none_or(|said| said.is_err()), "byte {at}");
    }
    for length in [0, 1, bytes.len() - 1] {
        assert!(Transcript::decode(&bytes[..length]).is_err());
    }
    assert!(Transcript::decode(&[&bytes[..], &[0]].concat()).is_err());
    // Another job's receipt.
    let other = chat(&[5, 6, 8], Finish::Stop);
    let error = job.transcript.open(&other.receipt).err();
    assert_eq!(error, Some(NotOpened::Commitment("answer")));
}

#[test]
fn the_same_question_names_the_seed_and_asks_for_no_more_than_there_is() {
    let whole = chat(&[5, 6, 7], Finish::Length).said().again();
    let cut = chat(&[5, 6, 7], Finish::Cancelled).said().again();
    let (Ask::Chat(whole), Ask::Chat(cut)) = (whole.ask, cut.ask) else {
        panic!("a chat stays one");
    };
    assert_eq!((whole.seed, whole.tokens_max), (Some(9), 16));
    assert_eq!((cut.seed, cut.tokens_max), (Some(9), 3));
}

#[test]
fn answers_are_compared_bit_for_bit() {
    let same = |count| Some(Compared::Same { count });
    let differ = |at| Some(Compared::Differ { at });
    let first = chat(&[5, 6, 7], Finish::Stop);
    let second = |ids: &[u32], finish| compared(&first, &again(&first, ids, finish));
    assert_eq!(second(&[5, 6, 7], Finish::Stop), same(3));
    assert_eq!(second(&[5, 6, 8], Finish::Stop), differ(2));
    assert_eq!(second(&[5, 6], Finish::Stop), differ(2));
    assert_eq!(second(&[5, 6, 7, 8], Finish::Length), differ(3));
    // What a deadline cut off is not compared.
    assert_eq!(second(&[5, 6], Finish::Deadline), same(2));
    assert_eq!(second(&[5, 7], Finish::Deadline), differ(1));
    let cut = chat(&[5, 6, 7], Finish::Cancelled);
    assert_eq!(
        compared(&cut, &again(&cut, &[5, 6, 7], Finish::Length)),
        same(3)
    );
    // Another question.
    assert_eq!(compared(&first, &chat(&[5, 6, 7], Finish::Stop)), None);
}

#[test]
fn log_probabilities_and_vectors_are_compared_by_their_bits() {
    let mut asked = ChatRequest::new(vec![1], 4);
    asked.logprobs = Some(0);
    asked.seed = Some(9);
    let scored = |logprob| {
        let tokens: Vec<Scored> = [0.5, logprob]
            .map(|logprob| Scored {
                id: 5,
                logprob,
                top: Vec::new(),
            })
            .into();
        let ask = Ask::Chat(asked.clone());
        Job::new(ask, Finish::Stop, |w| {
            vec![w.scored(&tokens, Some(Finish::Stop))]
        })
    };
    let next = f32::from_bits(0.25f32.to_bits() + 1);
    assert_eq!(
        compared(&scored(0.25), &scored(0.25)),
        Some(Compared::Same { count: 2 })
    );
    assert_eq!(
        compared(&scored(0.25), &scored(next)),
        Some(Compared::Differ { at: 1 })
    );
    let vectors = |last: f32| {
        let ask = Ask::Embeddings(vec![vec![1], vec![2]]);
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, last];
        Job::new(ask, Finish::Stop, |w| w.vectors(&numbers, 3, Finish::Stop))
    };
    assert_eq!(
        compared(&vectors(0.25), &vectors(0.25)),
        Some(Compared::Same { count: 2 })
    );
    assert_eq!(
        compared(&vectors(0.25), &vectors(next)),
        Some(Compared::Differ { at: 1 })
    );
}
