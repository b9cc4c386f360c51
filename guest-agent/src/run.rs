//! Runs an admitted job and writes the sealed answer: events, then the receipt, then, in the clear, the charge.

use crate::exposure::Reservation;
use crate::job::{Admission, Admitted, Facts, Work};
use engine::{Chat, Embedder, Generated, Sampling};
use model::text::Text;
use settlement::{Charge, Nano, SignedCap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use wire::{
    AnswerEvent, CoreDigest, Digest, Finish, Frame, FrameKind, JobFailure, Receipt, ReceiptCore,
    RecordKind, ResponseSealer, Timings, Usage, Vectors, core_digest, frame_chain,
    frame_chain_start,
};

/// Steps that generation may run ahead of the stream. A slow reader slows the model and nothing else.
const STEPS_AHEAD: usize = 32;
const ENGINE: &str = concat!("chrysalis-engine/", env!("CARGO_PKG_VERSION"));

/// An answer that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    #[error("the engine failed")]
    Engine,
}

/// The answer as it is written: seals each event and keeps the chain over them.
struct Answer<'a, W> {
    out: &'a mut W,
    sealer: ResponseSealer,
    chain: Digest,
    events: u32,
}

/// What the computation came to.
struct Outcome {
    usage: Usage,
    finish: Finish,
    first_token: Duration,
    seed: Option<u64>,
}

impl<W: AsyncWrite + Unpin> Answer<'_, W> {
    async fn event(&mut self, event: &AnswerEvent) -> std::io::Result<()> {
        let payload = event.encode();
        self.chain = frame_chain(self.chain, &payload);
        self.events += 1;
        self.record(RecordKind::Event, &payload).await
    }

    async fn record(&mut self, kind: RecordKind, payload: &[u8]) -> std::io::Result<()> {
        let sealed = self.sealer.seal(kind, payload);
        self.out.write_all(&Frame::data(&sealed)).await?;
        self.out.flush().await
    }
}

impl Admitted {
    /// Computes, streams, signs. `arrived` is when the first byte of the job was read.
    pub(crate) async fn run<W>(
        self,
        admission: &Admission,
        out: &mut W,
        arrived: Instant,
    ) -> Result<(), RunError>
    where
        W: AsyncWrite + Unpin,
    {
        let Admitted {
            facts,
            sealer,
            reservation,
            work,
        } = self;
        let started = Instant::now();
        let chain = frame_chain_start(facts.envelope_digest);
        let mut answer = Answer {
            out,
            sealer,
            chain,
            events: 0,
        };
        let computed = match work {
            Work::Embeddings { model, inputs } => {
                embeddings(&mut answer, model, inputs, started).await
            }
            Work::Chat {
                model,
                prompt,
                sampling,
            } => {
                let pace = Pace {
                    interval: Duration::from_millis(admission.keyset.padding.interval_ms.into()),
                    deadline: arrived + Duration::from_millis(facts.envelope.deadline_ms.into()),
                    started,
                };
                chat(&mut answer, model, prompt, sampling, &pace).await
            }
        };
        let outcome = match computed {
            Ok(outcome) => outcome,
            Err(RunError::Engine) => return answer.fail().await,
            Err(broken) => return Err(broken),
        };
        let timings = Timings {
            queue_ms: millis(started - arrived),
            first_token_ms: millis(outcome.first_token),
            total_ms: millis(started.elapsed()),
        };
        let core = facts.core(admission, &answer, &outcome, timings);
        let receipt = sign(admission, reservation, core, facts.envelope.cap());
        answer.conclude(&receipt).await
    }
}

impl<W: AsyncWrite + Unpin> Answer<'_, W> {
    /// The receipt inside the seal, then the charge in the clear.
    async fn conclude(mut self, receipt: &Receipt) -> Result<(), RunError> {
        self.record(RecordKind::Receipt, receipt.encode()).await?;
        let mut end = Frame::data(&self.sealer.finish());
        end.extend(Frame::encode(FrameKind::Charge, &receipt.charge().encode()));
        end.extend(Frame::encode(FrameKind::End, b""));
        self.out.write_all(&end).await?;
        self.out.flush().await?;
        Ok(())
    }

    /// Tells the client, inside the seal, that the engine failed. No receipt, so no charge.
    async fn fail(mut self) -> Result<(), RunError> {
        self.record(RecordKind::Failure, &JobFailure::Engine.encode())
            .await?;
        let end = [
            Frame::data(&self.sealer.finish()),
            Frame::encode(FrameKind::End, b""),
        ]
        .concat();
        self.out.write_all(&end).await?;
        self.out.flush().await?;
        Err(RunError::Engine)
    }
}

impl Facts {
    /// What the receipt says, without its place in the chain.
    fn core<W>(
        &self,
        admission: &Admission,
        answer: &Answer<'_, W>,
        outcome: &Outcome,
        timings: Timings,
    ) -> ReceiptCore {
        let cost = self
            .offer
            .prices
            .cost(&outcome.usage, admission.keyset.price_step);
        ReceiptCore {
            version: 1,
            sequence: 0,
            previous: CoreDigest::default(),
            keyset: admission.keyset_digest,
            registers: admission.keyset.registers,
            gpus: admission.keyset.gpus.clone(),
            engine: ENGINE.into(),
            job: self.envelope.job,
            parent: self.parent,
            envelope: self.envelope_digest,
            endpoint: self.envelope.endpoint,
            model: self.offer.id.clone(),
            model_root: self.offer.root,
            tokenizer: self.offer.tokenizer,
            quantisation: self.offer.quantisation.clone(),
            request: self.request,
            response: self.commitments.response(answer.chain),
            events: answer.events,
            frames: answer.chain,
            finish: outcome.finish,
            usage: outcome.usage,
            prices: self.offer.prices,
            // Admission bounded the cost of the most that could be used, and this used no more.
            cost: cost.unwrap_or(Nano(u64::MAX)).min(self.envelope.cost_max),
            cost_max: self.envelope.cost_max,
            chain: admission.keyset.chain,
            channel: self.channel,
            voucher_high: Nano(0),
            timings,
            claimed_at_unix_s: unix_s(),
            class: self.envelope.class.clone(),
            seed: outcome.seed,
            determinism: "machine".into(),
        }
    }
}

/// Gives the core its place in the chain of receipts and signs it with its charge.
fn sign(
    admission: &Admission,
    reservation: Reservation,
    core: ReceiptCore,
    cap: SignedCap,
) -> Receipt {
    reservation.charge(core.cost, |position| {
        let core = ReceiptCore {
            sequence: position.sequence,
            previous: position.previous,
            voucher_high: position.voucher_high,
            ..core
        };
        let charge = Charge {
            cap,
            stake: admission.keyset.stake,
            // Filled in with the core's digest.
            receipt_hash: [0; 32],
            seq: core.sequence,
            cost: core.cost,
            cumulative: position.cumulative,
        };
        (
            core_digest(&core),
            Receipt::sign(core, charge, &admission.keys.receipt),
        )
    })
}

async fn embeddings<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    model: Arc<(Embedder, Text)>,
    inputs: Vec<String>,
    started: Instant,
) -> Result<Outcome, RunError> {
    let computed = tokio::task::spawn_blocking(move || {
        let (embedder, text) = &*model;
        let embed = |input: String| {
            let tokens = text.to_embed(&input).map_err(|_| RunError::Engine)?;
            let vector = embedder.embed(&tokens).map_err(|_| RunError::Engine)?;
            Ok((tokens.len() as u32, vector))
        };
        inputs
            .into_iter()
            .map(embed)
            .collect::<Result<_, RunError>>()
    });
    let computed: Vec<(u32, Vec<f32>)> = computed.await.map_err(|_| RunError::Engine)??;
    let tokens = computed.iter().map(|(tokens, _)| tokens).sum();
    let vectors: Vec<Vec<f32>> = computed.into_iter().map(|(_, vector)| vector).collect();
    answer
        .event(&AnswerEvent::Embeddings(Vectors::new(&vectors)))
        .await?;
    let usage = Usage {
        prompt: tokens,
        cached: 0,
        completion: 0,
    };
    Ok(Outcome {
        usage,
        finish: Finish::Stop,
        first_token: started.elapsed(),
        seed: None,
    })
}

/// When records may leave and when they must end.
struct Pace {
    interval: Duration,
    deadline: Instant,
    started: Instant,
}

async fn chat<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    model: Arc<(Chat, Text)>,
    prompt: Vec<u32>,
    sampling: Sampling,
    pace: &Pace,
) -> Result<Outcome, RunError> {
    let prompt_tokens = prompt.len() as u32;
    let seed = sampling.seed;
    answer.event(&AnswerEvent::Start).await?;
    let (steps, mut received) = mpsc::channel::<(u32, String)>(STEPS_AHEAD);
    let generation =
        tokio::task::spawn_blocking(move || generate(&model, &prompt, &sampling, &steps));

    let mut streamed = 0;
    let mut first_token = None;
    let mut expired = false;
    while let Some((token, text)) = received.recv().await {
        first_token.get_or_insert_with(|| pace.started.elapsed());
        // Wait out the interval and take what came meanwhile: the proxy sees a steady rhythm, not tokens.
        tokio::time::sleep(pace.interval).await;
        let (mut token_ids, mut content) = (vec![token], text);
        while let Ok((token, text)) = received.try_recv() {
            token_ids.push(token);
            content.push_str(&text);
        }
        streamed += token_ids.len();
        answer
            .event(&AnswerEvent::Text { content, token_ids })
            .await?;
        if Instant::now() >= pace.deadline {
            expired = true;
            break;
        }
    }
    drop(received);
    let generated = generation.await.map_err(|_| RunError::Engine)??;
    // What was generated beyond the deadline was not delivered, so it is neither counted nor charged.
    let rest = match expired {
        true => &[],
        false => generated.tokens.get(streamed..).unwrap_or_default(),
    };
    let completion = (streamed + rest.len()) as u32;
    let finish = match generated.finish {
        _ if expired => Finish::Deadline,
        engine::Finish::Stop => Finish::Stop,
        engine::Finish::Length | engine::Finish::Cancelled => Finish::Length,
    };
    let token_ids = rest.to_vec();
    answer
        .event(&AnswerEvent::End { token_ids, finish })
        .await?;
    Ok(Outcome {
        usage: Usage {
            prompt: prompt_tokens,
            cached: 0,
            completion,
        },
        finish,
        first_token: first_token.unwrap_or_else(|| pace.started.elapsed()),
        seed: Some(seed),
    })
}

/// Runs on a blocking thread; stops when nobody receives any more.
fn generate(
    (chat, text): &(Chat, Text),
    prompt: &[u32],
    sampling: &Sampling,
    steps: &mpsc::Sender<(u32, String)>,
) -> Result<Generated, RunError> {
    let mut detokeniser = text.detokeniser().map_err(|_| RunError::Engine)?;
    let generated = chat.generate(prompt, sampling, &mut |step| {
        let text = detokeniser.push(step.token, step.last);
        match steps.blocking_send((step.token, text)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    generated.map_err(|_| RunError::Engine)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The guest's wall clock belongs to its host: this is a claim, and labelled so.
fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
