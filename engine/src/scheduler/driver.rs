//! The thread that runs a scheduler: it owns the model, takes jobs, and sleeps while there are none. A test with a clock of its own
//! takes its steps itself ([`Driver::by_hand`]).

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
    /// Told of each job, where no thread waits for it.
    wake: Option<Wake>,
    waiting_max: usize,
}

/// What is called when there is something to do.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// The steps of a scheduler, for its thread or for whoever takes them by hand.
pub struct Steps {
    forward: Box<dyn Forward>,
    scheduler: Scheduler,
    inbox: Receiver<Submission>,
    jobs: HashMap<JobId, Listening>,
    started: Instant,
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
        let (inbox, steps) = Steps::new(forward, tokens, limits, Instant::now());
        let thread = Builder::new().name("scheduler".into());
        let thread = thread.spawn(move || steps.run())?;
        Ok(Driver {
            inbox: Some(inbox),
            thread: Some(thread),
            wake: None,
            waiting_max: limits.waiting_max,
        })
    }

    /// Without a thread: `wake` is called after each job that was submitted, and then somebody takes the steps. `now` is when its time
    /// begins.
    pub fn by_hand(
        forward: Box<dyn Forward>,
        tokens: Tokens,
        limits: Limits,
        now: Instant,
        wake: Wake,
    ) -> (Self, Steps) {
        let (inbox, steps) = Steps::new(forward, tokens, limits, now);
        let driver = Driver {
            inbox: Some(inbox),
            thread: None,
            wake: Some(wake),
            waiting_max: limits.waiting_max,
        };
        (driver, steps)
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
            Ok(()) => {
                self.wake.iter().for_each(|wake| wake());
                Ok(Submitted(cancelled))
            }
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

impl Steps {
    fn new(
        forward: Box<dyn Forward>,
        tokens: Tokens,
        limits: Limits,
        started: Instant,
    ) -> (SyncSender<Submission>, Self) {
        let scheduler = Scheduler::new(*forward.shape(), tokens, limits);
        let (sender, inbox) = sync_channel(limits.waiting_max.max(1));
        let steps = Steps {
            forward,
            scheduler,
            inbox,
            jobs: HashMap::new(),
            started,
        };
        (sender, steps)
    }

    fn run(mut self) {
        loop {
            if self.scheduler.is_idle() {
                let Ok(submission) = self.inbox.recv() else {
                    return;
                };
                self.take(submission);
            }
            if self.step(Instant::now()).is_break() {
                return;
            }
        }
    }

    /// Whether there is nothing to do until a job comes.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// Takes the jobs that were submitted and computes one step. `Break`: the driver was dropped.
    pub fn step(&mut self, now: Instant) -> ControlFlow<()> {
        loop {
            match self.inbox.try_recv() {
                Ok(submission) => self.take(submission),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
        for (id, listening) in &self.jobs {
            if listening.cancelled.load(Ordering::Relaxed) {
                self.scheduler.cancel(*id);
            }
        }
        let now_ms = now.saturating_duration_since(self.started).as_millis() as u64;
        let jobs = &mut self.jobs;
        self.scheduler
            .step(&mut *self.forward, now_ms, &mut |id, event| {
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
        ControlFlow::Continue(())
    }

    fn take(&mut self, submission: Submission) {
        let Submission {
            mut job,
            deadline,
            mut listener,
            cancelled,
        } = submission;
        let started = self.started;
        let left =
            |deadline: Instant| deadline.saturating_duration_since(started).as_millis() as u64;
        job.deadline_ms = deadline.map(left);
        match self.scheduler.submit(job) {
            Ok(id) => {
                let listening = Listening {
                    listener,
                    cancelled,
                };
                self.jobs.insert(id, listening);
            }
            // Nobody needs to hear more of it.
            Err(refused) => drop(listener(Event::Refused(refused))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fake, Plain, alone, job, tokens};
    use super::*;
    use crate::{Before, Row};
    use std::sync::mpsc::{Sender, channel};

    fn told(events: &Sender<Event>) -> Listener {
        let events = events.clone();
        Box::new(move |event| match events.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
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
        // A step is computed when it is allowed to be; without a gate keeper the gate is open.
        let gated = Before(Box::new(Fake::new(16, 8, 40)), move |_: &[Row]| {
            let _ = keeper.recv();
        });
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
    fn steps_taken_by_hand_are_those_of_the_thread() {
        let fake = Box::new(Fake::new(16, 8, 40));
        let (woken, wakes) = channel();
        let wake = Box::new(move || woken.send(()).unwrap());
        let (now, limits) = (Instant::now(), Limits::default());
        let (driver, mut steps) = Driver::by_hand(fake, tokens(), limits, now, wake);
        let (events, received) = channel();
        let job = job(1, 3, 9);
        driver.submit(job.job(), None, told(&events)).unwrap();
        assert_eq!(wakes.try_iter().count(), 1);
        assert!(received.try_recv().is_err(), "no thread computes");
        assert!(steps.step(now).is_continue());
        while !steps.is_idle() {
            assert!(steps.step(now).is_continue());
        }
        let made = received.try_iter().filter_map(|event| match event {
            Event::Token { token, .. } => Some(token),
            _ => None,
        });
        assert_eq!(made.collect::<Vec<u32>>(), alone(&job).0);
        drop(driver);
        assert!(steps.step(now).is_break());
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
