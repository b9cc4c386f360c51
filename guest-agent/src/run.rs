//! Runs an admitted job and writes the sealed answer: records of token ids or numbers, then the receipt, then, in the clear,
//! the charge. A record leaves in each interval, whether or not it holds something, so that a proxy sees neither when a token
//! came nor how long the prompt took.

use crate::exposure::Reservation;
use crate::job::{Admission, Admitted, Facts, Work};
use engine::{Chat, Embedder, Sampling};
use settlement::{Charge, Nano, SignedCap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use wire::limits::RECORD_SLOTS;
use wire::{
    AnswerWriter, CoreDigest, Finish, Frame, FrameKind, JobFailure, Receipt, ReceiptCore,
    RecordBytes, ResponseSealer, Timings, Usage, core_digest,
};

/// Steps that generation may run ahead of the stream: a record's. A slow reader slows the model and nothing else.
const STEPS_AHEAD: usize = RECORD_SLOTS;
const ENGINE: &str = concat!("chrysalis-engine/", env!("CARGO_PKG_VERSION"));

/// An answer that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    #[error("the engine failed")]
    Engine,
}

/// The answer as it is written: makes each record and seals it.
struct Answer<'a, W> {
    out: &'a mut W,
    sealer: ResponseSealer,
    writer: AnswerWriter,
}

/// What the computation came to.
struct Outcome {
    usage: Usage,
    finish: Finish,
    first_token: Duration,
    seed: Option<u64>,
}

impl<W: AsyncWrite + Unpin> Answer<'_, W> {
    /// Writes what `make` makes, at once.
    async fn write(
        &mut self,
        make: impl FnOnce(&mut AnswerWriter) -> Vec<RecordBytes>,
    ) -> std::io::Result<()> {
        for record in make(&mut self.writer) {
            let sealed = self.sealer.seal(&record);
            self.out.write_all(&Frame::data(&sealed)).await?;
        }
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
        let writer = AnswerWriter::new(facts.envelope.endpoint, facts.envelope_digest);
        let mut answer = Answer {
            out,
            sealer,
            writer,
        };
        let pace = Pace {
            interval: Duration::from_millis(admission.keyset.padding.interval_ms.max(1).into()),
            deadline: arrived + Duration::from_millis(facts.envelope.deadline_ms.into()),
            started,
        };
        let computed = match work {
            Work::Embeddings { model, inputs } => {
                embeddings(&mut answer, model, inputs, &pace).await
            }
            Work::Chat {
                model,
                prompt,
                stops,
                sampling,
            } => chat(&mut answer, model, prompt, stops, sampling, &pace).await,
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
        self.write(|writer| writer.receipt(receipt.encode()))
            .await?;
        let mut end = Frame::data(&self.sealer.finish());
        end.extend(Frame::encode(FrameKind::Charge, &receipt.charge().encode()));
        end.extend(Frame::encode(FrameKind::End, b""));
        self.out.write_all(&end).await?;
        self.out.flush().await?;
        Ok(())
    }

    /// Tells the client, inside the seal, that the engine failed. No receipt, so no charge.
    async fn fail(mut self) -> Result<(), RunError> {
        self.write(|writer| writer.failure(JobFailure::Engine))
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
            response: self.commitments.response(answer.writer.chain()),
            events: answer.writer.chained(),
            frames: answer.writer.chain(),
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

/// When records leave and when they must end.
struct Pace {
    interval: Duration,
    deadline: Instant,
    started: Instant,
}

impl Pace {
    fn ticks(&self) -> Interval {
        let mut ticks = interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn expired(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

async fn embeddings<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    model: Arc<Embedder>,
    inputs: Vec<Vec<u32>>,
    pace: &Pace,
) -> Result<Outcome, RunError> {
    let (all, deadline) = (inputs.len(), pace.deadline);
    // Dropped with this future: nobody waits for the vectors any more.
    let wanted = Arc::new(());
    let watched = Arc::downgrade(&wanted);
    let computing = tokio::task::spawn_blocking(move || {
        let (mut numbers, mut tokens, mut made) = (Vec::new(), 0, 0);
        for input in &inputs {
            if Instant::now() >= deadline || watched.strong_count() == 0 {
                break;
            }
            numbers.extend(model.embed(input).map_err(|_| RunError::Engine)?);
            tokens += input.len() as u32;
            made += 1;
        }
        Ok::<_, RunError>((numbers, tokens, made))
    });
    tokio::pin!(computing);
    let mut ticks = pace.ticks();
    let computed = loop {
        answer.write(|writer| vec![writer.empty()]).await?;
        tokio::select! {
            computed = &mut computing => break computed,
            _ = ticks.tick() => {}
        }
    };
    let (numbers, tokens, made) = computed.map_err(|_| RunError::Engine)??;
    let width = numbers.len().checked_div(made).unwrap_or(0) as u32;
    let finish = match made == all {
        true => Finish::Stop,
        false => Finish::Deadline,
    };
    answer
        .write(|writer| writer.vectors(&numbers, width, finish))
        .await?;
    Ok(Outcome {
        usage: Usage {
            prompt: tokens,
            cached: 0,
            completion: 0,
        },
        finish,
        first_token: pace.started.elapsed(),
        seed: None,
    })
}

async fn chat<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    model: Arc<Chat>,
    prompt: Vec<u32>,
    stops: Vec<Vec<u32>>,
    sampling: Sampling,
    pace: &Pace,
) -> Result<Outcome, RunError> {
    let (prompt_tokens, seed) = (prompt.len() as u32, sampling.seed);
    let (steps, mut received) = mpsc::channel::<u32>(STEPS_AHEAD);
    let generation =
        tokio::task::spawn_blocking(move || generate(&model, &prompt, &stops, &sampling, &steps));

    answer.write(|writer| vec![writer.empty()]).await?;
    let mut ticks = pace.ticks();
    let (mut first_token, mut completion) = (None, 0);
    let mut ids = Vec::with_capacity(RECORD_SLOTS);
    // What is generated beyond the deadline is not delivered, so it is neither counted nor charged.
    let expired = loop {
        ticks.tick().await;
        let ended = take(&mut received, &mut ids);
        completion += ids.len() as u32;
        if !ids.is_empty() {
            first_token.get_or_insert_with(|| pace.started.elapsed());
        }
        if ended || pace.expired() {
            break !ended;
        }
        answer.write(|writer| vec![writer.ids(&ids, None)]).await?;
        ids.clear();
    };
    drop(received);
    let made = generation.await.map_err(|_| RunError::Engine)??;
    let finish = match expired {
        true => Finish::Deadline,
        false => made,
    };
    answer
        .write(|writer| vec![writer.ids(&ids, Some(finish))])
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

/// Fills a record with what came. `true` if nothing more will.
fn take(received: &mut mpsc::Receiver<u32>, ids: &mut Vec<u32>) -> bool {
    while ids.len() < RECORD_SLOTS {
        match received.try_recv() {
            Ok(token) => ids.push(token),
            Err(mpsc::error::TryRecvError::Empty) => return false,
            Err(mpsc::error::TryRecvError::Disconnected) => return true,
        }
    }
    false
}

/// Runs on a blocking thread; stops when nobody receives any more.
fn generate(
    chat: &Chat,
    prompt: &[u32],
    stops: &[Vec<u32>],
    sampling: &Sampling,
    steps: &mpsc::Sender<u32>,
) -> Result<Finish, RunError> {
    let mut made = Vec::new();
    let mut stopped = false;
    let generated = chat.generate(prompt, sampling, &mut |step| {
        made.push(step.token);
        stopped = ends_with(&made, stops);
        match steps.blocking_send(step.token) {
            Ok(()) if !stopped => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    let finish = generated.map_err(|_| RunError::Engine)?.finish;
    Ok(match finish {
        _ if stopped => Finish::Stop,
        engine::Finish::Stop => Finish::Stop,
        engine::Finish::Length | engine::Finish::Cancelled => Finish::Length,
    })
}

/// Whether the tokens end with one of the sequences. All of each are compared: only whether they end shows.
fn ends_with(made: &[u32], stops: &[Vec<u32>]) -> bool {
    stops.iter().fold(false, |any, stop| {
        let tail = made.len().checked_sub(stop.len()).map(|at| &made[at..]);
        let differs = |tail: &[u32]| tail.iter().zip(stop).fold(0, |all, (a, b)| all | (a ^ b));
        any | tail.is_some_and(|tail| differs(tail) == 0)
    })
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
