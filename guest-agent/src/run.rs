//! Runs an admitted job and writes the sealed answer: records of token ids or numbers, then the receipt, then, in the clear,
//! the charge. A record leaves in each interval, whether or not it holds something, so that a proxy sees neither when a token
//! came nor how long the prompt took.
//!
//! Whatever becomes of the stream, a job that has started ends in a receipt and a charge for what was made (SECURITY.md 18a).

use crate::bill::{Bill, Ended};
use crate::job::{Admission, Admitted, Work};
use crate::jobs::Open;
use crate::out::Out;
use crate::serve::Turn;
use engine::{Chat, Embedder, Sampling};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use wire::limits::RECORD_SLOTS;
use wire::{
    AnswerWriter, Finish, Frame, FrameKind, JobFailure, Receipt, ReceiptKey, RecordBytes,
    ResponseSealer, Timings,
};

/// An answer that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    #[error("the engine failed")]
    Engine,
}

/// The answer as it is written: makes each record and seals it, and keeps the bill.
struct Answer<'a, W> {
    out: &'a mut Out<W>,
    sealer: ResponseSealer,
    writer: AnswerWriter,
    bill: Bill,
    first_token: Option<Duration>,
}

impl<W: AsyncWrite + Unpin> Answer<'_, W> {
    /// Writes what `make` makes, at once.
    async fn write(
        &mut self,
        make: impl FnOnce(&mut AnswerWriter) -> Vec<RecordBytes>,
    ) -> std::io::Result<()> {
        for record in make(&mut self.writer) {
            let sealed = self.sealer.seal(&record);
            self.out.send(&Frame::data(&sealed)).await?;
        }
        Ok(())
    }

    /// Tells the client, inside the seal, that the engine failed. No receipt, so no charge.
    async fn fail(mut self) -> Result<(), RunError> {
        let told = self.write(|writer| writer.failure(JobFailure::Engine));
        let told = told.await;
        self.bill.forgive();
        told?;
        let end = [
            Frame::data(&self.sealer.finish()),
            Frame::encode(FrameKind::End, b""),
        ];
        self.out.send(&end.concat()).await?;
        Err(RunError::Engine)
    }

    /// The receipt inside the answer's seal; then as it is kept, sealed apart; the charge in the clear.
    async fn conclude(
        out: &mut Out<W>,
        mut sealer: ResponseSealer,
        records: Vec<RecordBytes>,
        last: &[u8],
    ) -> std::io::Result<()> {
        for record in records {
            out.send(&Frame::data(&sealer.seal(&record))).await?;
        }
        out.send(&Frame::data(&sealer.finish())).await?;
        out.send(last).await
    }
}

impl Admitted {
    /// Computes, streams, signs. `arrived` is when the first byte of the job was read.
    pub(crate) async fn run<W>(
        self,
        admission: &Admission,
        turn: Turn,
        open: &Open,
        out: &mut Out<W>,
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
        let pace = Pace {
            interval: Duration::from_millis(admission.keyset.padding.interval_ms.max(1).into()),
            deadline: facts.deadline(arrived),
            started: Instant::now(),
            open,
        };
        let seed = work.seed();
        let mut answer = Answer {
            out,
            sealer,
            writer: AnswerWriter::new(facts.envelope.endpoint, facts.envelope_digest),
            bill: Bill::start(admission, &facts, reservation, work.prefill()),
            first_token: None,
        };
        let computed = match work {
            Work::Embeddings { model, inputs } => {
                embeddings(&mut answer, turn, model, inputs, &pace).await
            }
            Work::Chat {
                model,
                prompt,
                stops,
                sampling,
            } => {
                let generate = move |steps: &mpsc::UnboundedSender<u32>| {
                    generate(&model, &prompt, &stops, &sampling, steps)
                };
                chat(&mut answer, turn, generate, &pace).await
            }
        };
        let (finish, broken) = match computed {
            Ok(finish) => (finish, None),
            Err(RunError::Engine) => return answer.fail().await,
            Err(broken) => (Finish::Stalled, Some(broken)),
        };
        let total = pace.started.elapsed();
        let ended = Ended {
            frames: answer.writer.chain(),
            events: answer.writer.chained(),
            finish,
            timings: Timings {
                queue_ms: millis(pace.started - arrived),
                first_token_ms: millis(answer.first_token.unwrap_or(total)),
                total_ms: millis(total),
            },
            seed,
        };
        let Answer {
            out,
            sealer,
            mut writer,
            bill,
            ..
        } = answer;
        let receipt = bill.sign(admission, &facts, ended);
        let last = last_frames(&receipt, facts.receipt_key);
        // Kept before it is written: from here on the client can have it, whatever becomes of the stream.
        admission.jobs.keep(facts.envelope_digest, &last);
        if let Some(broken) = broken {
            return Err(broken);
        }
        let records = writer.receipt(receipt.encode());
        Ok(Answer::conclude(out, sealer, records, &last).await?)
    }
}

/// The frames with which a job ends, and which can be fetched later.
fn last_frames(receipt: &Receipt, key: ReceiptKey) -> Vec<u8> {
    let sealed = key.seal(receipt.encode());
    [
        Frame::encode(
            FrameKind::Receipt,
            &sealed.expect("a receipt's fields are bounded"),
        ),
        Frame::encode(FrameKind::Charge, &receipt.charge().encode()),
        Frame::encode(FrameKind::End, b""),
    ]
    .concat()
}

/// When records leave and when they must end.
struct Pace<'a> {
    interval: Duration,
    deadline: Instant,
    started: Instant,
    open: &'a Open,
}

impl Pace<'_> {
    fn ticks(&self) -> Interval {
        let mut ticks = interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Why the answer must end now, if it must.
    fn over(&self) -> Option<Finish> {
        match (self.open.is_cancelled(), Instant::now() >= self.deadline) {
            (true, _) => Some(Finish::Cancelled),
            (false, true) => Some(Finish::Deadline),
            (false, false) => None,
        }
    }
}

/// What a computation of embeddings says while it runs, and is told.
#[derive(Default)]
struct Progress {
    tokens: AtomicU32,
    over: AtomicBool,
}

/// Ends the computation when nobody waits for it any more.
struct Ending(Arc<Progress>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

async fn embeddings<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    turn: Turn,
    model: Arc<Embedder>,
    inputs: Vec<Vec<u32>>,
    pace: &Pace<'_>,
) -> Result<Finish, RunError> {
    let all = inputs.len();
    let progress = Arc::new(Progress::default());
    let ending = Ending(progress.clone());
    let told = progress.clone();
    let computing = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (mut numbers, mut made) = (Vec::new(), 0);
        for input in &inputs {
            if told.over.load(Ordering::Relaxed) {
                break;
            }
            numbers.extend(model.embed(input).map_err(|_| RunError::Engine)?);
            told.tokens.fetch_add(input.len() as u32, Ordering::Relaxed);
            made += 1;
        }
        Ok::<_, RunError>((numbers, made))
    });
    tokio::pin!(computing);
    let mut ticks = pace.ticks();
    let mut over = None;
    let computed = loop {
        answer.bill.used(progress.tokens.load(Ordering::Relaxed), 0);
        answer.write(|writer| vec![writer.empty()]).await?;
        tokio::select! {
            computed = &mut computing => break computed,
            _ = ticks.tick() => {}
        }
        over = over.or(pace.over());
        if over.is_some() {
            ending.0.over.store(true, Ordering::Relaxed);
        }
    };
    let (numbers, made) = computed.map_err(|_| RunError::Engine)??;
    answer.bill.used(progress.tokens.load(Ordering::Relaxed), 0);
    answer.first_token = Some(pace.started.elapsed());
    let width = numbers.len().checked_div(made).unwrap_or(0) as u32;
    let finish = match made == all {
        true => Finish::Stop,
        false => over.unwrap_or(Finish::Deadline),
    };
    answer
        .write(|writer| writer.vectors(&numbers, width, finish))
        .await?;
    Ok(finish)
}

async fn chat<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    turn: Turn,
    generate: impl FnOnce(&mpsc::UnboundedSender<u32>) -> Result<Finish, RunError> + Send + 'static,
    pace: &Pace<'_>,
) -> Result<Finish, RunError> {
    // Generation never waits for a reader. What it makes is bounded by the limit of tokens.
    let (steps, mut received) = mpsc::unbounded_channel::<u32>();
    let generation = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        generate(&steps)
    });

    answer.write(|writer| vec![writer.empty()]).await?;
    let mut ticks = pace.ticks();
    let mut ids = Vec::with_capacity(RECORD_SLOTS);
    // What is generated beyond the end is not delivered, so it is neither counted nor charged.
    let over = loop {
        ticks.tick().await;
        let ended = take(&mut received, &mut ids);
        answer.bill.completed(ids.len() as u32);
        if !ids.is_empty() {
            answer
                .first_token
                .get_or_insert_with(|| pace.started.elapsed());
        }
        let over = pace.over();
        if ended || over.is_some() {
            break over.filter(|_| !ended);
        }
        answer.write(|writer| vec![writer.ids(&ids, None)]).await?;
        ids.clear();
    };
    drop(received);
    let made = generation.await.map_err(|_| RunError::Engine)??;
    let finish = over.unwrap_or(made);
    answer
        .write(|writer| vec![writer.ids(&ids, Some(finish))])
        .await?;
    Ok(finish)
}

/// Fills a record with what came. `true` if nothing more will.
fn take(received: &mut mpsc::UnboundedReceiver<u32>, ids: &mut Vec<u32>) -> bool {
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
    steps: &mpsc::UnboundedSender<u32>,
) -> Result<Finish, RunError> {
    let mut made = Vec::new();
    let mut stopped = false;
    let generated = chat.generate(prompt, sampling, &mut |step| {
        made.push(step.token);
        stopped = ends_with(&made, stops);
        match steps.send(step.token) {
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
