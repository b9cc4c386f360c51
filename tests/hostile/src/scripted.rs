//! The engine's stand-in: what it says follows from the prompt by a rule that the test knows, too. Scheduler and sampler are the shipped
//! ones, over the tokens of the random model; their steps take simulated time.
//!
//! It keeps, in place of keys and values, a number for each position that depends on all tokens up to there.

use crate::links::Gate;
use engine::scheduler::{Driver, Limits, Tokens};
use engine::{BLOCK_TOKENS, BlockTable, EngineError, Forward, ForwardShape, Row};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How long a step takes.
const STEP: Duration = Duration::from_micros(2_900);
/// The token of the byte `a` (`random_model`: three special tokens, then the bytes).
const LETTER_A: u32 = 3 + 97;

/// Says letters, and now and then the end.
struct Scripted {
    shape: ForwardShape,
    past: Vec<u64>,
}

/// The number of a prompt with one more token.
fn after(before: u64, token: u32) -> u64 {
    let mixed = (before ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// What is said next.
fn next(past: u64) -> u32 {
    let past = past >> 16;
    match past % 61 {
        0 => random_model::END,
        _ => LETTER_A + (past % 26) as u32,
    }
}

/// The text that answers a prompt within so many tokens, how many tokens it has, and whether it comes to its end.
pub fn answer(prompt: &[u32], tokens_max: usize) -> (String, usize, bool) {
    let mut past = prompt.iter().fold(0, |past, token| after(past, *token));
    let mut text = String::new();
    for count in 1..=tokens_max {
        let token = next(past);
        if token == random_model::END {
            return (text, count, true);
        }
        text.push(char::from(b'a' + (token - LETTER_A) as u8));
        past = after(past, token);
    }
    (text, tokens_max, false)
}

impl Forward for Scripted {
    fn shape(&self) -> &ForwardShape {
        &self.shape
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        scores.clear();
        for row in rows {
            let slot = |position: usize| {
                let block = tables[row.sequence].0[position / BLOCK_TOKENS];
                block as usize * BLOCK_TOKENS + position % BLOCK_TOKENS
            };
            let position = row.position as usize;
            let before = position.checked_sub(1).map_or(0, |of| self.past[slot(of)]);
            let past = after(before, row.token);
            self.past[slot(position)] = past;
            if row.scored {
                let from = scores.len();
                scores.resize(from + self.shape.vocabulary, 0.0);
                scores[from + next(past) as usize] = 20.0;
            }
        }
        Ok(())
    }
}

/// Wakes who waits for jobs; the last time when the driver is gone.
struct Waker(Arc<Notify>);

impl Drop for Waker {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Drives the stand-in with a task, whose steps wait at a gate.
pub fn drive(forward: &dyn Forward, tokens: Tokens, gate: Arc<Gate>) -> Driver {
    let shape = *forward.shape();
    let past = vec![0; shape.blocks * BLOCK_TOKENS];
    let scripted = Box::new(Scripted { shape, past });
    let jobs = Arc::new(Notify::new());
    let waker = Waker(jobs.clone());
    let wake = Box::new(move || waker.0.notify_one());
    let now = Instant::now().into_std();
    let (driver, mut steps) = Driver::by_hand(scripted, tokens, Limits::default(), now, wake);
    tokio::spawn(async move {
        loop {
            if steps.is_idle() {
                jobs.notified().await;
            }
            sleep(STEP).await;
            gate.pass().await;
            if steps.step(Instant::now().into_std()).is_break() {
                return;
            }
        }
    });
    driver
}
