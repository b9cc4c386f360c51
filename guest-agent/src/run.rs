//! Runs an admitted job and writes the sealed answer: records of token ids or numbers, then the receipt, then, in the clear,
//! the charge. Of a completion a record leaves in each interval, whether or not it holds something, so that a proxy sees neither when
//! a token came nor how long the prompt took.
//!
//! Whatever becomes of the stream, a job that has started ends in a receipt and a charge for what was made (SECURITY.md 18a).

use crate::bill::{Bill, Ended};
use crate::job::Admission;
use crate::jobs::Open;
use crate::models::Encoder;
use crate::out::Out;
use crate::turn::{Computing, Running, Started, Turn};
use engine::sampling::Logprobs;
use engine::scheduler::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep_until};
use wire::{
    AnswerWriter, Finish, Frame, FrameKind, JobFailure, Pair, Receipt, ReceiptKey, RecordBytes,
    ResponseSealer, Scored, Timings,
};

/// An answer that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    #[error("the engine failed")]
    Engine,
}

/// Between two records that hold nothing, while texts are encoded: whoever has left is noticed by them, and there is nothing to hide, since
/// the numbers come together at the end.
const SIGN_OF_LIFE: Duration = Duration::from_millis(250);

/// Frames that are there together are written together, up to so many bytes: each write wakes the proxy, and that the client.
const TOGETHER_BYTES: usize = 16 * 1024;

/// The answer as it is written: makes each record and seals it, and keeps the bill.
struct Answer<'a, W> {
    out: &'a mut Out<W>,
    sealer: ResponseSealer,
    writer: AnswerWriter,
    /// Whether tokens come with log probabilities.
    logprobs: bool,
    bill: Bill,
    first_token: Option<Duration>,
}

impl<W: AsyncWrite + Unpin> Answer<'_, W> {
    /// Writes what `make` makes, at once.
    async fn write(
        &mut self,
        make: impl FnOnce(&mut AnswerWriter) -> Vec<RecordBytes>,
    ) -> std::io::Result<()> {
        let records = make(&mut self.writer);
        let rest = Self::seal(self.out, &mut self.sealer, records).await?;
        self.out.send(&rest).await
    }

    /// Seals records and gives their frames; of many, it writes those that would be more than [`TOGETHER_BYTES`].
    async fn seal(
        out: &mut Out<W>,
        sealer: &mut ResponseSealer,
        records: Vec<RecordBytes>,
    ) -> std::io::Result<Vec<u8>> {
        let mut frames = Vec::new();
        for record in records {
            if frames.len() >= TOGETHER_BYTES {
                out.send(&std::mem::take(&mut frames)).await?;
            }
            frames.extend(Frame::data(&sealer.seal(&record)));
        }
        Ok(frames)
    }

    /// Writes the next tokens, as many as fit a record.
    async fn tokens(&mut self, tokens: &[Scored], finish: Option<Finish>) -> std::io::Result<()> {
        let logprobs = self.logprobs;
        let make = |writer: &mut AnswerWriter| match logprobs {
            true => writer.scored(tokens, finish),
            false => {
                let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
                writer.ids(&ids, finish)
            }
        };
        self.write(|writer| vec![make(writer)]).await
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
        let mut frames = Self::seal(out, &mut sealer, records).await?;
        frames.extend(Frame::data(&sealer.finish()));
        frames.extend_from_slice(last);
        out.send(&frames).await
    }
}

impl Started {
    /// Computes, streams, signs. `arrived` is when the first byte of the job was read.
    pub(crate) async fn run<W>(
        self,
        admission: &Admission,
        open: &Open,
        out: &mut Out<W>,
        arrived: Instant,
    ) -> Result<(), RunError>
    where
        W: AsyncWrite + Unpin,
    {
        let Started {
            facts,
            sealer,
            reservation,
            prefill,
            seed,
            logprobs,
            computing,
        } = self;
        let pace = Pace {
            interval: Duration::from_millis(facts.interval_ms().into()),
            deadline: facts.deadline(arrived),
            started: Instant::now(),
            open,
        };
        let mut answer = Answer {
            out,
            sealer,
            writer: match logprobs {
                Some(count) => AnswerWriter::with_logprobs(facts.envelope_digest, count.into()),
                None => AnswerWriter::new(facts.envelope.endpoint, facts.envelope_digest),
            },
            logprobs: logprobs.is_some(),
            bill: Bill::start(&facts, reservation, prefill),
            first_token: None,
        };
        let computed = match computing {
            Computing::Vectors {
                model,
                inputs,
                turn,
            } => vectors(&mut answer, turn, model, inputs, &pace).await,
            Computing::Chat(running) => chat(&mut answer, running, &pace).await,
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
        let receipt = bill.sign(&facts, ended);
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
    fn schedule(&self) -> Schedule {
        let began = Instant::now();
        let mut schedule = Schedule {
            began,
            interval: self.interval,
            next: began,
        };
        schedule.turn(began);
        schedule
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

/// When the next record leaves. The same for all jobs, whatever they ask: at the beginning, when a first token waits for its record,
/// intervals are divided.
struct Schedule {
    began: Instant,
    interval: Duration,
    next: Instant,
}

/// So many intervals are divided by so much.
const DIVIDED_INTERVALS: u32 = 20;
const DIVIDED_BY: u32 = 4;

impl Schedule {
    /// Waits for the next record's time.
    async fn tick(&mut self) {
        sleep_until(self.next).await;
        self.turn(Instant::now());
    }

    /// A record that leaves late shifts those after it.
    fn turn(&mut self, now: Instant) {
        let step = match now - self.began < self.interval * DIVIDED_INTERVALS {
            true => self.interval / DIVIDED_BY,
            false => self.interval,
        };
        let due = self.next + step;
        self.next = if due > now { due } else { now + step };
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

async fn vectors<W: AsyncWrite + Unpin>(
    answer: &mut Answer<'_, W>,
    turn: Turn,
    model: Encoder,
    inputs: Vec<Pair>,
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
            numbers.extend(model.numbers(input).map_err(|_| RunError::Engine)?);
            told.tokens
                .fetch_add(input.tokens.len() as u32, Ordering::Relaxed);
            made += 1;
        }
        Ok::<_, RunError>((numbers, made))
    });
    tokio::pin!(computing);
    answer.write(|writer| vec![writer.empty()]).await?;
    let mut schedule = pace.schedule();
    let (mut over, mut written) = (None, Instant::now());
    let computed = loop {
        tokio::select! {
            biased;
            computed = &mut computing => break computed,
            () = schedule.tick() => {}
        }
        answer.bill.used(progress.tokens.load(Ordering::Relaxed), 0);
        if written.elapsed() >= SIGN_OF_LIFE {
            answer.write(|writer| vec![writer.empty()]).await?;
            written = Instant::now();
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
    mut running: Running,
    pace: &Pace<'_>,
) -> Result<Finish, RunError> {
    answer.write(|writer| vec![writer.empty()]).await?;
    let mut schedule = pace.schedule();
    let mut tokens = Vec::with_capacity(answer.writer.tokens_max());
    // What is generated beyond the end is not delivered, so it is neither counted nor charged.
    let finish = loop {
        tokio::select! {
            biased;
            () = schedule.tick() => {}
            () = pace.open.cancelled() => {
                // The computation ends with its step, the answer with its interval.
                running.cancel();
                schedule.tick().await;
            }
        }
        let ended = running.take(answer.writer.tokens_max(), &mut tokens)?;
        answer.bill.completed(tokens.len() as u32);
        if !tokens.is_empty() {
            answer
                .first_token
                .get_or_insert_with(|| pace.started.elapsed());
        }
        if let Some(finish) = ended.or(pace.over()) {
            break finish;
        }
        answer.tokens(&tokens, None).await?;
        tokens.clear();
    };
    drop(running);
    answer.tokens(&tokens, Some(finish)).await?;
    Ok(finish)
}

impl Running {
    /// Fills a record of `most` with what came, and says how the completion ended once nothing follows.
    fn take(&mut self, most: usize, tokens: &mut Vec<Scored>) -> Result<Option<Finish>, RunError> {
        while tokens.len() < most {
            match self.next() {
                Some(Event::Token { token, logprobs }) => tokens.push(scored(token, logprobs)),
                Some(Event::Ended(finish)) => return Ok(Some(ended(finish))),
                Some(Event::Failed | Event::Refused(_)) => return Err(RunError::Engine),
                Some(Event::Started { .. }) => {}
                None if self.is_lost() => return Err(RunError::Engine),
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn scored(id: u32, logprobs: Option<Logprobs>) -> Scored {
    let (logprob, top) = logprobs.map_or((0.0, Vec::new()), |of| (of.chosen, of.top));
    Scored { id, logprob, top }
}

fn ended(finish: engine::scheduler::Finish) -> Finish {
    match finish {
        engine::scheduler::Finish::Stop => Finish::Stop,
        engine::scheduler::Finish::Length => Finish::Length,
        engine::scheduler::Finish::Deadline => Finish::Deadline,
        engine::scheduler::Finish::Cancelled => Finish::Cancelled,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
