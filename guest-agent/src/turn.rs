//! An admitted job waits for its turn: a chat job for its model's scheduler to start it, texts to encode for one of a few turns.
//!
//! Who waits has not started: it is refused without a charge if it is cancelled, if its time is over or if the scheduler does not take
//! it. What the scheduler has started is paid for, so its word counts and not what is found out here.

use crate::exposure::Reservation;
use crate::job::{Admitted, Facts, Work};
use crate::jobs::Open;
use crate::models::{Cancelling, Completion, Encoder};
use engine::scheduler::{Event, Refused};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wire::{Pair, RefusalCode, ResponseSealer};

/// A job that computes.
pub(crate) struct Started {
    pub(crate) facts: Facts,
    pub(crate) sealer: ResponseSealer,
    pub(crate) reservation: Reservation,
    pub(crate) prefill: u32,
    pub(crate) seed: Option<u64>,
    /// Alternatives that come with log probabilities, if these are asked for.
    pub(crate) logprobs: Option<u8>,
    pub(crate) computing: Computing,
}

/// What computes it.
pub(crate) enum Computing {
    /// A thread of its own.
    Vectors {
        model: Encoder,
        inputs: Vec<Pair>,
        turn: Turn,
    },
    /// The scheduler.
    Chat(Running),
}

/// A turn to compute. It belongs to the computation and not to the stream: a reader that takes its time holds nobody up.
pub(crate) struct Turn {
    _running: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
}

/// A completion that the scheduler makes. Dropped, it is cancelled.
pub(crate) struct Running {
    events: UnboundedReceiver<Event>,
    cancel: Cancelling,
    lost: bool,
}

impl Admitted {
    /// Waits for the job's turn, or for the reason why it has none.
    pub(crate) async fn start(
        self,
        slot: OwnedSemaphorePermit,
        turns: &Arc<Semaphore>,
        open: &Open,
        arrived: Instant,
    ) -> Result<Started, RefusalCode> {
        let (prefill, seed) = (self.work.prefill(), self.work.seed());
        let logprobs = self.work.logprobs();
        let deadline = self.facts.deadline(arrived);
        let computing = match self.work {
            Work::Chat { completion, .. } => {
                Computing::Chat(Running::start(completion, slot, open, deadline).await?)
            }
            Work::Vectors { model, inputs } => {
                let running = tokio::select! {
                    biased;
                    running = turns.clone().acquire_owned() => running.map_err(|_| RefusalCode::Busy)?,
                    () = tokio::time::sleep_until(deadline) => return Err(RefusalCode::Busy),
                    () = open.cancelled() => return Err(RefusalCode::Cancelled),
                };
                let turn = Turn {
                    _running: running,
                    _slot: slot,
                };
                Computing::Vectors {
                    model,
                    inputs,
                    turn,
                }
            }
        };
        Ok(Started {
            facts: self.facts,
            sealer: self.sealer,
            reservation: self.reservation,
            prefill,
            seed,
            logprobs,
            computing,
        })
    }
}

impl Running {
    /// The job's slot is free when the scheduler has done with it.
    async fn start(
        completion: Completion,
        slot: OwnedSemaphorePermit,
        open: &Open,
        deadline: Instant,
    ) -> Result<Self, RefusalCode> {
        // The scheduler never waits for a reader. What it makes is bounded by the job's limit of tokens.
        let (tell, events) = unbounded_channel();
        let listener = Box::new(move |event| {
            let _held = &slot;
            match tell.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let submitted = completion(deadline.into_std(), listener);
        let mut running = Running {
            events,
            cancel: submitted.map_err(code)?,
            lost: false,
        };
        let mut cancelled = false;
        loop {
            tokio::select! {
                biased;
                event = running.events.recv() => return match event {
                    Some(Event::Started { .. }) => Ok(running),
                    Some(Event::Refused(refused)) => Err(code(refused)),
                    _ => Err(RefusalCode::Busy),
                },
                () = open.cancelled(), if !cancelled => {
                    cancelled = true;
                    running.cancel();
                }
            }
        }
    }

    /// It takes no part in the next step.
    pub(crate) fn cancel(&self) {
        (self.cancel)();
    }

    /// What has come and was not taken.
    pub(crate) fn next(&mut self) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(error) => {
                self.lost = error == TryRecvError::Disconnected;
                None
            }
        }
    }

    /// Whether nothing will come any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// How a client is told why its job did not start.
fn code(refused: Refused) -> RefusalCode {
    match refused {
        Refused::Cancelled => RefusalCode::Cancelled,
        Refused::Busy { .. } | Refused::Late | Refused::Stopped => RefusalCode::Busy,
        Refused::Request(_)
        | Refused::TooLarge { .. }
        | Refused::PrefixDiffers
        | Refused::Unfit => RefusalCode::Request,
    }
}
