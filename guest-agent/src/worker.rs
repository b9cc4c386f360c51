//! What computes chat on a GPU: `gpu-worker --serve`, a process of its own for each model, so that libcuda shares no memory with keys.
//!
//! ```text
//!  submit, cancel ─► sending thread ══ packets ══► worker
//!  listeners      ◄─ receiving thread ◄═ packets ══╝    its end, its silence, or a word that it may not say here:
//!                         └─► jobs fail, the GPU is lost, and nothing is served any more
//! ```
//! To whoever submits jobs it is what `engine::scheduler::Driver` is. The receiving thread never waits for a listener, and what a worker
//! says of a job is bounded by the job's tokens. Its word on tokens is taken: it is part of the measured root, and so is its driver. Its
//! word on anything else decides nothing.

use crate::gpu::{Gpu, Lost, spawn};
use crate::models::Cancelling;
use engine::scheduler::{Event, Listener, Refused};
use gpu_jobs::{PacketError, Packets};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Builder;
use std::time::{Duration, Instant};
use wire::{Digest, LoadPlan, Malformed, WorkerAnswer, WorkerModel, WorkerRequest};
use zeroize::Zeroizing;

/// A worker that has loaded its model. It ends with the last of these.
#[derive(Clone)]
pub(crate) struct Worker {
    jobs: Arc<Jobs>,
    send: Sender<Said>,
}

/// Why there is no worker, or none any more. The machine is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("the GPU worker {program}: {doing}: {error}")]
    Io {
        program: PathBuf,
        doing: &'static str,
        error: io::Error,
    },
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the GPU worker refuses: {0}")]
    Refused(String),
    #[error("the GPU worker read a model with the root {got}; {expected} is configured")]
    Root { got: Digest, expected: Digest },
    #[error("the GPU worker ended")]
    Ended,
    #[error("the GPU worker sent {0} out of order")]
    OutOfOrder(&'static str),
    #[error("the GPU worker has not ended a job {LATE_MAX:?} after its deadline")]
    Silent,
}

/// What the sending thread is told.
enum Said {
    Job {
        number: u64,
        body: Zeroizing<Vec<u8>>,
        until: Instant,
    },
    Cancel(u64),
}

/// Jobs that are not over; none once the worker is lost.
struct Jobs {
    open: Mutex<Option<Open>>,
    lost: Lost,
}

#[derive(Default)]
struct Open {
    submitted: u64,
    listening: HashMap<u64, Listening>,
}

struct Listening {
    listener: Listener,
    started: bool,
    /// Tokens that it may still have.
    left: u32,
    until: Instant,
}

impl Worker {
    /// Starts the worker of this GPU and waits until it has loaded a model.
    pub(crate) fn start(gpu: &Gpu, plan: LoadPlan) -> Result<(Self, WorkerModel), WorkerError> {
        let program = &gpu.gate.program;
        let failed = |doing| {
            move |error| WorkerError::Io {
                program: program.clone(),
                doing,
                error,
            }
        };
        let (packets, theirs) = Packets::pair().map_err(failed("making a pair of sockets"))?;
        let child = spawn(program, "--serve", theirs, gpu.worker_user());
        let process = Arc::new(Process {
            child: Mutex::new(child.map_err(failed("starting it"))?),
            packets,
        });
        let loaded = process.load(plan)?;
        // So often somebody looks whether it still ends jobs.
        let waits = process.packets.wait_seconds(1);
        waits.map_err(failed("setting a time"))?;
        let jobs = Arc::new(Jobs {
            open: Mutex::new(Some(Open::default())),
            lost: gpu.lost.clone(),
        });
        let (send, said) = channel();
        let (sending, hearing) = (process.clone(), jobs.clone());
        let thread = |name: &str| Builder::new().name(name.into());
        let begun = thread("to the GPU").spawn(move || send_all(&sending.packets, &said));
        begun.map_err(failed("starting a thread"))?;
        let begun = thread("from the GPU").spawn(move || hearing.hear(&process));
        begun.map_err(failed("starting a thread"))?;
        Ok((Worker { jobs, send }, loaded))
    }

    /// As `Driver::submit`: a request's encoding, the most tokens it may have, and who hears of it.
    pub(crate) fn submit(
        &self,
        body: Zeroizing<Vec<u8>>,
        tokens_max: u32,
        until: Instant,
        listener: Listener,
    ) -> Result<Cancelling, Refused> {
        let mut open = self.jobs.lock();
        let open = open.as_mut().ok_or(Refused::Stopped)?;
        let number = open.submitted;
        open.submitted += 1;
        let listening = Listening {
            listener,
            started: false,
            left: tokens_max,
            until,
        };
        open.listening.insert(number, listening);
        let said = Said::Job {
            number,
            body,
            until,
        };
        // Under the lock, so that numbers arrive in their order.
        self.send.send(said).map_err(|_| Refused::Stopped)?;
        let send = self.send.clone();
        Ok(Box::new(move || drop(send.send(Said::Cancel(number)))))
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().expect("a listener does not panic")
    }

    /// Tells listeners what the worker says, until there is no more or it may not be said.
    fn hear(&self, process: &Process) {
        let error = loop {
            if let Err(error) = self.next(&process.packets) {
                break error;
            }
        };
        // Before anybody hears of it: what is submitted next is refused.
        self.lost.because(&error);
        process.end();
        let open = self.lock().take();
        for mut job in open
            .into_iter()
            .flat_map(|open| open.listening.into_values())
        {
            let _ = (job.listener)(Event::Failed);
        }
    }

    fn next(&self, packets: &Packets) -> Result<(), WorkerError> {
        let answer = match packets.receive() {
            Err(PacketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            received => Some(WorkerAnswer::decode(&received?.ok_or(WorkerError::Ended)?)?),
        };
        let mut open = self.lock();
        let jobs = &mut open.as_mut().ok_or(WorkerError::Ended)?.listening;
        if let Some(answer) = answer {
            take(jobs, answer)?;
        }
        let now = Instant::now();
        match jobs.values().any(|job| job.until + LATE_MAX < now) {
            true => Err(WorkerError::Silent),
            false => Ok(()),
        }
    }
}

/// Whoever wants no more of a job cancels it, so nobody asks a listener.
fn take(jobs: &mut HashMap<u64, Listening>, answer: WorkerAnswer) -> Result<(), WorkerError> {
    match answer {
        WorkerAnswer::Started { job, cached } => {
            let job = jobs.get_mut(&job).filter(|job| !job.started);
            let job = job.ok_or(WorkerError::OutOfOrder("a start"))?;
            job.started = true;
            let _ = (job.listener)(Event::Started { cached });
        }
        WorkerAnswer::Tokens(tokens) => {
            for token in &tokens {
                let job = jobs.get_mut(&token.job);
                let job = job.filter(|job| job.started && job.left > 0);
                let job = job.ok_or(WorkerError::OutOfOrder("a token"))?;
                job.left -= 1;
                let _ = (job.listener)(gpu_jobs::token(token));
            }
        }
        WorkerAnswer::Ended { job, end } => {
            let job = jobs.remove(&job);
            let event = { job.as_ref() }.and_then(|job| gpu_jobs::event(end, job.started));
            let (mut job, event) = job.zip(event).ok_or(WorkerError::OutOfOrder("an end"))?;
            let _ = (job.listener)(event);
        }
        // Its words stay here: it has seen prompts.
        WorkerAnswer::Fault(_) => return Err(WorkerError::OutOfOrder("a complaint")),
        WorkerAnswer::Loaded(_) | WorkerAnswer::Refused(_) => {
            return Err(WorkerError::OutOfOrder("an answer to `Load`"));
        }
    }
    Ok(())
}

/// Until the last [`Worker`] is gone, or the other end.
fn send_all(packets: &Packets, said: &Receiver<Said>) {
    while let Ok(said) = said.recv() {
        let sent = match said {
            Said::Job {
                number,
                body,
                until,
            } => {
                let left = until.saturating_duration_since(Instant::now()).as_millis();
                let within_ms = u32::try_from(left).unwrap_or(u32::MAX);
                WorkerRequest::job(number, &body, within_ms)
                    .try_for_each(|request| packets.send(&request.encode()))
            }
            Said::Cancel(number) => packets.send(&WorkerRequest::Cancel(number).encode()),
        };
        if sent.is_err() {
            break;
        }
    }
    packets.close();
}

/// The process and this end of its socket.
struct Process {
    child: Mutex<Child>,
    packets: Packets,
}

impl Process {
    /// However long that takes: it ends with the model or with the process.
    fn load(&self, plan: LoadPlan) -> Result<WorkerModel, WorkerError> {
        // Where nobody is, that shows when nothing comes.
        let _ = self.packets.send(&WorkerRequest::Load(plan).encode());
        let answer = self.packets.receive()?.ok_or(WorkerError::Ended)?;
        match WorkerAnswer::decode(&answer)? {
            WorkerAnswer::Loaded(model) => Ok(model),
            WorkerAnswer::Refused(why) => Err(WorkerError::Refused(why)),
            _ => Err(WorkerError::OutOfOrder("something else than its model")),
        }
    }

    fn end(&self) {
        let mut child = self.child.lock().expect("its holders do not panic");
        // It may have ended by itself. Waiting leaves no zombie, also below PID 1.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// How long after its deadline a job may still run: many steps, of which it takes part in none.
const LATE_MAX: Duration = Duration::from_secs(10);
