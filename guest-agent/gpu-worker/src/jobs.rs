//! The worker's side of the words in `wire::worker`: `engine`'s scheduler over whatever computes.
//!
//! ```text
//!  agent ═══ packets ═══► this thread: requests become jobs ──► the driver's thread: steps
//!    ▲                                                               │ events
//!    └══════ packets ════ a thread that gathers what is there  ◄─────┘
//! ```
//! The driver never waits for the agent: what it made and the agent has not read is bounded by the tokens of the open jobs.

use crate::confine::confine;
use engine::Forward;
use engine::scheduler::{Driver, Event, Limits, Listener, Refused, Submitted, Tokens};
use gpu_jobs::{PacketError, Packets};
use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use wire::limits::{WORKER_CHUNK_BYTES_MAX, WORKER_TOKENS_MAX};
use wire::{Ask, Endpoint, LoadPlan, Malformed, Request};
use wire::{WorkerAnswer, WorkerModel, WorkerRequest};
use zeroize::Zeroizing;

/// A model that is loaded, and what the agent is told of it.
pub struct Computing {
    /// What computes it.
    pub forward: Box<dyn Forward>,
    /// What its tokens mean.
    pub tokens: Tokens,
    /// How much is done at once.
    pub limits: Limits,
    /// The root of its files as they were read.
    pub root: [u8; 32],
    /// How most weights are kept, as a keyset writes it.
    pub quantisation: String,
    /// The class of machines and programs on which a job gives the same bits.
    pub determinism: String,
}

/// Why a worker ended before its agent did.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum JobsError {
    #[error("confining the process: {0}")]
    Confine(io::Error),
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the agent: {0}")]
    Malformed(#[from] Malformed),
    #[error("the agent sent {0} out of order")]
    OutOfOrder(String),
}

/// Confines this thread and all that it will start, loads one model, and runs jobs for the agent at the other end until that goes.
/// `load` says in words why it cannot. To be called before there is another thread.
pub fn serve_jobs(
    agent: OwnedFd,
    load: impl FnOnce(&LoadPlan) -> Result<Computing, String>,
) -> Result<(), JobsError> {
    confine().map_err(JobsError::Confine)?;
    let agent = Arc::new(Packets::inherited(agent)?);
    let served = serve(&agent, load);
    if let Err(error) = &served {
        let fault = WorkerAnswer::Fault(WorkerAnswer::cut(&error.to_string()));
        // It may be the agent that is gone.
        let _ = agent.send(&fault.encode());
    }
    served
}

fn serve(
    agent: &Arc<Packets>,
    load: impl FnOnce(&LoadPlan) -> Result<Computing, String>,
) -> Result<(), JobsError> {
    let plan = match receive(agent)? {
        None => return Ok(()),
        Some(WorkerRequest::Load(ref plan)) => plan.clone(),
        Some(other) => return Err(JobsError::OutOfOrder(format!("{other:?}"))),
    };
    let computing = match load(&plan) {
        Ok(computing) => computing,
        Err(why) => {
            let refused = WorkerAnswer::Refused(WorkerAnswer::cut(&why));
            return Ok(agent.send(&refused.encode())?);
        }
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let model = WorkerModel {
        root: wire::Digest(computing.root),
        weights: computing.quantisation,
        determinism: computing.determinism,
        context: number(computing.forward.shape().context),
        vocabulary: number(computing.tokens.size),
    };
    let tokens = computing.tokens.clone();
    let driver = Driver::start(computing.forward, computing.tokens, computing.limits)?;
    agent.send(&WorkerAnswer::Loaded(model).encode())?;
    let (tell, told) = channel();
    let to = agent.clone();
    let telling = std::thread::Builder::new().name("telling".into());
    let telling = telling.spawn(move || tell_all(&to, &told))?;
    let jobs = Jobs {
        tokens,
        driver,
        tell,
        open: HashMap::new(),
        newest: None,
    };
    let ran = jobs.run(agent);
    // So that a fault is the last word.
    let _ = telling.join();
    ran
}

/// Jobs that are not over.
struct Jobs {
    tokens: Tokens,
    driver: Driver,
    tell: Sender<(u64, Event)>,
    /// What cancels each, and whether its listener still lives.
    open: HashMap<u64, (Submitted, Weak<()>)>,
    newest: Option<u64>,
}

impl Jobs {
    fn run(mut self, agent: &Packets) -> Result<(), JobsError> {
        while let Some(request) = receive(agent)? {
            match request {
                WorkerRequest::Job {
                    job,
                    bytes,
                    within_ms,
                } if self.newest.is_none_or(|newest| newest < job) => {
                    let until = Instant::now() + Duration::from_millis(within_ms.into());
                    self.newest = Some(job);
                    let Some(body) = body(agent, bytes as usize)? else {
                        return Ok(());
                    };
                    let request = Request::decode(Endpoint::Chat, &body)?;
                    if let Err(refused) = self.submit(job, request, until) {
                        let _ = self.tell.send((job, Event::Refused(refused)));
                    }
                }
                WorkerRequest::Cancel(job) => {
                    if let Some((submitted, _)) = self.open.get(&job) {
                        submitted.cancel();
                    }
                }
                other => return Err(JobsError::OutOfOrder(format!("{other:?}"))),
            }
        }
        Ok(())
    }

    fn submit(&mut self, number: u64, request: Request, until: Instant) -> Result<(), Refused> {
        let Ask::Chat(chat) = request.ask else {
            return Err(Refused::Unfit);
        };
        // What this version does not compute is refused, never left out; so is a job that nobody could repeat.
        if chat.unsupported().is_some() || chat.seed.is_none() {
            return Err(Refused::Unfit);
        }
        let job = gpu_jobs::job(&self.tokens, chat)?;
        let (alive, tell) = (Arc::new(()), self.tell.clone());
        let lives = Arc::downgrade(&alive);
        let listener: Listener = Box::new(move |event| {
            let _ = &alive;
            match tell.send((number, event)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let submitted = self.driver.submit(job, Some(until), listener)?;
        self.open.retain(|_, (_, lives)| lives.strong_count() > 0);
        self.open.insert(number, (submitted, lives));
        Ok(())
    }
}

/// The next request; none is the agent's end.
fn receive(agent: &Packets) -> Result<Option<WorkerRequest>, JobsError> {
    let packet = agent.receive()?;
    let request = packet.map(|packet| WorkerRequest::decode(&packet));
    Ok(request.transpose()?)
}

/// A request's bytes, which follow its head. `bytes` is bounded by the message that said so.
fn body(agent: &Packets, bytes: usize) -> Result<Option<Zeroizing<Vec<u8>>>, JobsError> {
    let mut body = Zeroizing::new(Vec::with_capacity(bytes));
    while body.len() < bytes {
        let left = (bytes - body.len()).min(WORKER_CHUNK_BYTES_MAX);
        match receive(agent)? {
            None => return Ok(None),
            Some(WorkerRequest::Chunk(ref chunk)) if chunk.len() == left => body.extend(&chunk[..]),
            Some(other) => return Err(JobsError::OutOfOrder(format!("{other:?}"))),
        }
    }
    Ok(Some(body))
}

/// Sends what jobs are told, tokens that came meanwhile in one packet: a step's, as a rule. Ends with the agent or the last job.
fn tell_all(agent: &Packets, told: &Receiver<(u64, Event)>) {
    while let Ok(first) = told.recv() {
        let mut gathered = Vec::new();
        let there = std::iter::once(first).chain(told.try_iter());
        for (job, event) in there.take(2 * WORKER_TOKENS_MAX) {
            let sent = match gpu_jobs::message(job, event) {
                WorkerAnswer::Tokens(tokens) => {
                    gathered.extend(tokens);
                    match gathered.len() {
                        WORKER_TOKENS_MAX.. => flush(agent, &mut gathered),
                        _ => Ok(()),
                    }
                }
                other => flush(agent, &mut gathered).and_then(|()| agent.send(&other.encode())),
            };
            if sent.is_err() {
                return;
            }
        }
        if flush(agent, &mut gathered).is_err() {
            return;
        }
    }
}

fn flush(agent: &Packets, gathered: &mut Vec<wire::WorkerToken>) -> io::Result<()> {
    match std::mem::take(gathered) {
        none if none.is_empty() => Ok(()),
        tokens => agent.send(&WorkerAnswer::Tokens(tokens).encode()),
    }
}
