//! The thread that runs a scheduler: it owns the model, takes jobs, and sleeps while there are none.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::{Event, Job, JobId, Limits, Refused, Scheduler, Tokens};
use crate::forward::Forward;

/// Hears of a job, on the driver's thread: it must not block. `Break` says that nobody wants the rest: the job is cancelled.
pub type Listener = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// A running scheduler. Dropped, it lets the current step end and forgets its jobs.
pub struct Driver {
    inbox: Option<SyncSender<Submission>>,
    thread: Option<JoinHandle<()>>,
    waiting_max: usize,
}

/// A submitted job. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Submitted(Arc<AtomicBool>);

struct Submission {
    job: Job,
    deadline: Option<Instant>,
    listener: Listener,
    cancelled: Arc<AtomicBool>,
}

struct Listening {
    listener: Listener,
    cancelled: Arc<AtomicBool>,
}

impl Submitted {
    /// The job takes no part in the next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Driver {
    /// Starts the thread. The error is the system's, which gave none.
    pub fn start(
        forward: Box<dyn Forward>,
        tokens: Tokens,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let scheduler = Scheduler::new(*forward.shape(), tokens, limits);
        let (inbox, received) = sync_channel(limits.waiting_max.max(1));
        let thread = Builder::new().name("scheduler".into());
        let thread = thread.spawn(move || run(forward, scheduler, &received))?;
        Ok(Driver {
            inbox: Some(inbox),
            thread: Some(thread),
            waiting_max: limits.waiting_max,
        })
    }

    /// Hands over a job that must have ended at `deadline`, which replaces `job.deadline_ms`. What is refused later is told to
    /// `listener`.
    pub fn submit(
        &self,
        job: Job,
        deadline: Option<Instant>,
        listener: Listener,
    ) -> Result<Submitted, Refused> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let submission = Submission {
            job,
            deadline,
            listener,
            cancelled: cancelled.clone(),
        };
        let inbox = self.inbox.as_ref().ok_or(Refused::Stopped)?;
        match inbox.try_send(submission) {
            Ok(()) => Ok(Submitted(cancelled)),
            Err(TrySendError::Full(_)) => Err(Refused::Busy {
                waiting_max: self.waiting_max,
            }),
            Err(TrySendError::Disconnected(_)) => Err(Refused::Stopped),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has shown itself already.
            let _ = thread.join();
        }
    }
}

fn run(mut forward: Box<dyn Forward>, mut scheduler: Scheduler, inbox: &Receiver<Submission>) {
    let started = Instant::now();
    let mut jobs = HashMap::new();
    loop {
        if scheduler.is_idle() {
            let Ok(submission) = inbox.recv() else { return };
            take(submission, &mut scheduler, &mut jobs, started);
        }
        loop {
            match inbox.try_recv() {
                Ok(submission) => take(submission, &mut scheduler, &mut jobs, started),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        for (id, listening) in &jobs {
            if listening.cancelled.load(Ordering::Relaxed) {
                scheduler.cancel(*id);
            }
        }
        let now_ms = started.elapsed().as_millis() as u64;
        scheduler.step(&mut *forward, now_ms, &mut |id, event| {
            let last = !matches!(event, Event::Started { .. } | Event::Token { .. });
            if let Some(listening) = jobs.get_mut(&id)
                && (listening.listener)(event).is_break()
            {
                listening.cancelled.store(true, Ordering::Relaxed);
            }
            if last {
                jobs.remove(&id);
            }
        });
    }
}

fn take(
    submission: Submission,
    scheduler: &mut Scheduler,
    jobs: &mut HashMap<JobId, Listening>,
    started: Instant,
) {
    let Submission {
        mut job,
        deadline,
        mut listener,
        cancelled,
    } = submission;
    let left = |deadline: Instant| deadline.saturating_duration_since(started).as_millis() as u64;
    job.deadline_ms = deadline.map(left);
    match scheduler.submit(job) {
        Ok(id) => {
            jobs.insert(
                id,
                Listening {
                    listener,
                    cancelled,
                },
            );
        }
        // Nobody needs to hear more of it.
        Err(refused) => drop(listener(Event::Refused(refused))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fake, Plain, alone, job, tokens};
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    fn told(events: &Sender<Event>) -> Listener {
        let events = events.clone();
        Box::new(move |event| match events.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    }

    /// Computes a step when it is allowed to.
    struct Gated(Fake, Receiver<()>);

    impl Forward for Gated {
        fn shape(&self) -> &crate::ForwardShape {
            self.0.shape()
        }

        fn forward(
            &mut self,
            rows: &[crate::Row],
            tables: &[crate::BlockTable],
            scores: &mut Vec<f32>,
        ) -> Result<(), crate::EngineError> {
            // Without a gate keeper it is open.
            let _ = self.1.recv();
            self.0.forward(rows, tables, scores)
        }
    }

    #[test]
    fn jobs_of_several_threads_are_answered_as_alone() {
        let fake = Fake::new(16, 8, 40);
        let driver = Driver::start(Box::new(fake), tokens(), Limits::default()).unwrap();
        std::thread::scope(|scope| {
            for seed in 0..6 {
                let driver = &driver;
                scope.spawn(move || {
                    let (events, received) = channel();
                    let job = job(seed, 3 + seed as usize, 9);
                    driver.submit(job.job(), None, told(&events)).unwrap();
                    drop(events);
                    let made = received.iter().filter_map(|event| match event {
                        Event::Token { token, .. } => Some(token),
                        _ => None,
                    });
                    assert_eq!(made.collect::<Vec<u32>>(), alone(&job).0);
                });
            }
        });
    }

    #[test]
    fn a_cancelled_job_takes_no_part_in_the_next_step() {
        let (gate, keeper) = channel();
        let gated = Gated(Fake::new(16, 8, 40), keeper);
        let driver = Driver::start(Box::new(gated), tokens(), Limits::default()).unwrap();
        let (events, received) = channel();
        let endless = Plain {
            stops: Vec::new(),
            ..job(1, 3, 30)
        };
        let submitted = driver.submit(endless.job(), None, told(&events)).unwrap();
        gate.send(()).unwrap();
        assert_eq!(received.recv(), Ok(Event::Started { cached: 0 }));
        assert!(matches!(received.recv(), Ok(Event::Token { .. })));
        // The second step is at the gate or on its way to it.
        submitted.cancel();
        drop(gate);
        let rest: Vec<Event> = { received.iter() }
            .take_while(|event| !matches!(event, Event::Ended(_)))
            .collect();
        assert!(rest.len() <= 1, "{rest:?}");
    }

    #[test]
    fn a_job_that_nobody_listens_to_ends_and_a_stopped_driver_says_so() {
        let fake = Fake::new(16, 8, 40);
        let driver = Driver::start(Box::new(fake), tokens(), Limits::default()).unwrap();
        let (events, received) = channel();
        let mut left = 2;
        let listener = Box::new(move |event| {
            events.send(event).unwrap();
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        driver.submit(job(1, 3, 30).job(), None, listener).unwrap();
        let all: Vec<Event> = received.iter().collect();
        assert!(all.len() <= 3, "{all:?}");
        let mut stopped = driver;
        stopped.inbox = None;
        let (events, _) = channel();
        let refused = stopped
            .submit(job(1, 3, 3).job(), None, told(&events))
            .err();
        assert_eq!(refused, Some(Refused::Stopped));
    }

    #[test]
    fn a_late_job_is_refused_before_it_runs() {
        let fake = Fake::new(16, 8, 40);
        let driver = Driver::start(Box::new(fake), tokens(), Limits::default()).unwrap();
        let (events, received) = channel();
        let now = Some(Instant::now());
        driver
            .submit(job(1, 3, 30).job(), now, told(&events))
            .unwrap();
        assert_eq!(received.recv(), Ok(Event::Refused(Refused::Late)));
    }
}
