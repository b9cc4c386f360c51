//! Jobs over the socket as an agent would send them, of a model that computes on the processor when the test lets it.

use crate::world::{MODEL, asking, greeting, models};
use engine::scheduler::Limits;
use engine::{Before, Memory, Room, Row, Served, kernels_of};
use gpu_jobs::Packets;
use gpu_worker::{Computing, JobsError, serve_jobs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use wire::limits::{WORKER_BYTES_MAX, WORKER_CHUNK_BYTES_MAX};
use wire::*;

struct Worker {
    packets: Packets,
    steps: Option<Sender<()>>,
    begun: Receiver<()>,
    thread: JoinHandle<Result<(), JobsError>>,
}

impl Worker {
    fn start() -> Worker {
        let (packets, theirs) = Packets::pair().unwrap();
        let (steps, held) = channel();
        let (tell, begun) = channel();
        let load = |plan: &LoadPlan| {
            let files = engine::weights::read(plan.directory.as_ref()).unwrap();
            let kernels = Arc::new(kernels_of(Some(1)).unwrap());
            let room = Room {
                kv_bytes: None,
                context_max: plan.context_max as usize,
                weights: None,
            };
            let served = Served::load(&files, kernels, &room, &Memory::unlimited()).unwrap();
            // A step whenever the test says so, and always once it has let go. It tells of each step before it waits.
            let wait = move |_: &[Row]| {
                let _ = tell.send(());
                let _ = held.recv();
            };
            Ok(Computing {
                forward: Box::new(Before(served.forward, wait)),
                tokens: served.tokens,
                limits: Limits::default(),
                root: files.root().unwrap().0,
                quantisation: served.quantisation.into(),
                determinism: "held".into(),
            })
        };
        Worker {
            packets,
            steps: Some(steps),
            begun,
            thread: std::thread::spawn(move || serve_jobs(theirs, load)),
        }
    }

    fn loaded() -> Worker {
        let mut worker = Worker::start();
        worker.ask(WorkerRequest::Load(LoadPlan {
            directory: models().join(MODEL).to_str().unwrap().into(),
            weights: None,
            kv_mib: None,
            context_max: 256,
        }));
        let WorkerAnswer::Loaded(model) = worker.hear() else {
            panic!("it is not loaded");
        };
        let root = asking(Ask::Chat(greeting())).model_root;
        assert_eq!((model.root, model.context), (root, 256));
        assert_eq!(model.vocabulary, random_model::VOCABULARY);
        worker
    }

    fn ask(&mut self, request: WorkerRequest) {
        self.packets.send(&request.encode()).unwrap();
    }

    fn submit(&mut self, number: u64, request: &Request, within_ms: u32) {
        let body = request.encode().unwrap();
        WorkerRequest::job(number, &body, within_ms).for_each(|request| self.ask(request));
    }

    /// Waits until the worker has read all that was said, while a step is held: it has to refuse one more job.
    fn has_read(&mut self, job: u64) {
        self.submit(job, &asked(|chat| chat.seed = None), 60_000);
        let end = WorkerEnd::Request;
        assert_eq!(self.hear(), WorkerAnswer::Ended { job, end });
    }

    fn hear(&self) -> WorkerAnswer {
        WorkerAnswer::decode(&self.packets.receive().unwrap().unwrap()).unwrap()
    }

    /// Waits until a step has begun: nothing joins it any more.
    fn begun(&self) {
        self.begun.recv().unwrap();
    }

    fn step(&self) {
        self.steps.as_ref().unwrap().send(()).unwrap();
    }

    /// What it said last, and how it ended.
    fn end(self) -> (Option<WorkerAnswer>, Result<(), JobsError>) {
        drop(self.steps);
        let mut last = None;
        while let Some(packet) = self.packets.receive().unwrap() {
            last = Some(WorkerAnswer::decode(&packet).unwrap());
        }
        (last, self.thread.join().unwrap())
    }
}

fn asked(change: impl FnOnce(&mut ChatRequest)) -> Request {
    let mut chat = ChatRequest {
        seed: Some(7),
        ..greeting()
    };
    change(&mut chat);
    asking(Ask::Chat(chat))
}

fn of(answer: &WorkerAnswer) -> Vec<(u64, u32)> {
    match answer {
        WorkerAnswer::Tokens(tokens) => { tokens.iter() }
            .map(|token| (token.job, token.id()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_jobs_share_each_step_and_a_cancelled_one_takes_no_part_in_the_next() {
    let mut worker = Worker::loaded();
    worker.submit(1, &asked(|_| ()), 60_000);
    let started = |job| WorkerAnswer::Started { job, cached: 0 };
    assert_eq!(worker.hear(), started(1));
    worker.begun();
    worker.submit(5, &asked(|chat| chat.logprobs = Some(5)), 60_000);
    worker.has_read(6);
    worker.step();
    let answer = random_model::answer();
    assert_eq!(of(&worker.hear()), [(1, answer[0])]);
    // Between two steps the second is taken.
    assert_eq!(worker.hear(), started(5));
    for step in 1..4 {
        worker.begun();
        worker.step();
        let mut tokens = Vec::new();
        while tokens.len() < 2 {
            tokens.extend(of(&worker.hear()));
        }
        assert_eq!(tokens, [(1, answer[step]), (5, answer[step - 1])]);
    }
    // In the fifth step the cancelled job has one token more, and no other.
    worker.begun();
    worker.ask(WorkerRequest::Cancel(1));
    worker.ask(WorkerRequest::Cancel(99));
    worker.submit(7, &asked(|chat| chat.tokens_max = 1), 60_000);
    worker.has_read(8);
    worker.steps = None;
    let (mut made, mut ends) = ([0; 8], [None; 8]);
    while ends.iter().flatten().count() < 3 {
        match worker.hear() {
            WorkerAnswer::Ended { job, end } => ends[job as usize] = Some(end),
            WorkerAnswer::Started { job: 7, cached: 0 } => {}
            tokens => of(&tokens)
                .iter()
                .for_each(|(job, _)| made[*job as usize] += 1),
        }
    }
    assert!(made[1] <= 1, "{} tokens after its cancel", made[1]);
    assert_eq!((made[5], made[7]), (answer.len() - 3, 1));
    let expected = [WorkerEnd::Cancelled, WorkerEnd::Stop, WorkerEnd::Length];
    assert_eq!([ends[1], ends[5], ends[7]], expected.map(Some));
    worker.packets.close();
    assert!(worker.end().1.is_ok(), "it ends with its agent");
}

#[test]
fn a_job_that_cannot_run_is_refused_and_others_go_on() {
    let mut worker = Worker::loaded();
    worker.steps = None;
    let embeddings = asking(Ask::Embeddings(vec![vec![5]])).encode();
    let cases = [
        asked(|chat| chat.seed = None),
        asked(|chat| chat.choices = 2),
        asked(|chat| chat.grammar = vec![9; 3]),
        asked(|chat| chat.prompt = vec![random_model::VOCABULARY]),
        asked(|chat| chat.prompt = vec![5; 256]),
    ];
    for (number, request) in (0..).zip(&cases) {
        worker.submit(number, request, 60_000);
        let (job, end) = (number, WorkerEnd::Request);
        assert_eq!(worker.hear(), WorkerAnswer::Ended { job, end });
    }
    worker.submit(50, &asked(|_| ()), 0);
    let (job, end) = (50, WorkerEnd::Deadline);
    // It may have started within its millisecond.
    let ended = match worker.hear() {
        WorkerAnswer::Started { job: 50, .. } => worker.hear(),
        ended => ended,
    };
    assert_eq!(ended, WorkerAnswer::Ended { job, end });
    worker.submit(51, &asked(|_| ()), 60_000);
    let mut tokens = 0;
    loop {
        match worker.hear() {
            WorkerAnswer::Started { job: 51, .. } => {}
            WorkerAnswer::Ended { job: 51, end } => break assert_eq!(end, WorkerEnd::Stop),
            answer => tokens += of(&answer).len(),
        }
    }
    assert_eq!(tokens, random_model::answer().len());
    // What is no request to a chat model at all is the agent's fault.
    WorkerRequest::job(52, &embeddings.unwrap(), 9).for_each(|request| worker.ask(request));
    let (last, ended) = worker.end();
    assert!(matches!(last, Some(WorkerAnswer::Fault(_))), "{last:?}");
    assert!(matches!(ended, Err(JobsError::Malformed(_))));
}

#[test]
fn what_an_agent_may_not_say_ends_the_worker_by_name() {
    let fault = |worker: Worker, packet: &[u8]| {
        worker.packets.send(packet).unwrap();
        let (last, ended) = worker.end();
        let Some(WorkerAnswer::Fault(why)) = last else {
            panic!("{last:?}");
        };
        assert_eq!(WorkerAnswer::cut(&ended.unwrap_err().to_string()), why);
        why
    };
    let chunk = |bytes| WorkerRequest::Chunk(vec![0; bytes].into()).encode();
    let head = |job| {
        let (bytes, within_ms) = (WORKER_CHUNK_BYTES_MAX as u32 + 300, 9);
        WorkerRequest::Job {
            job,
            bytes,
            within_ms,
        }
    };
    let early = fault(Worker::start(), &head(1).encode());
    assert!(
        early.contains("Job(1, 65836 bytes) out of order"),
        "{early}"
    );
    assert!(fault(Worker::loaded(), &chunk(9)).contains("Chunk(9 bytes) out of order"));
    assert!(fault(Worker::loaded(), &[0xff; 9]).contains("not a well-formed"));
    let long = fault(Worker::loaded(), &vec![0; WORKER_BYTES_MAX + 1]);
    assert!(long.contains("a packet has 98305 bytes"), "{long}");
    let mut flipped = asked(|_| ()).encode().unwrap();
    flipped[170] ^= 1;
    let mut worker = Worker::loaded();
    let mut packets = WorkerRequest::job(1, &flipped, 9).map(|packet| packet.encode());
    worker.packets.send(&packets.next().unwrap()).unwrap();
    assert!(fault(worker, &packets.next().unwrap()).contains("not the canonical"));
    // Chunks are whole, nothing comes between them, and numbers rise.
    for next in [
        WorkerRequest::Cancel(1).encode(),
        chunk(WORKER_CHUNK_BYTES_MAX - 1),
        head(2).encode(),
    ] {
        worker = Worker::loaded();
        worker.ask(head(1));
        assert!(fault(worker, &next).contains("out of order"));
    }
    worker = Worker::loaded();
    worker.submit(3, &asked(|_| ()), 9);
    assert!(fault(worker, &head(3).encode()).contains("out of order"));
}

#[test]
fn a_worker_that_cannot_load_says_why_and_ends() {
    let (packets, theirs) = Packets::pair().unwrap();
    let thread = std::thread::spawn(|| serve_jobs(theirs, |_| Err("there is no GPU".into())));
    let plan = LoadPlan {
        directory: "/nowhere".into(),
        weights: None,
        kv_mib: None,
        context_max: 1,
    };
    packets.send(&WorkerRequest::Load(plan).encode()).unwrap();
    let answer = WorkerAnswer::decode(&packets.receive().unwrap().unwrap());
    assert_eq!(answer, Ok(WorkerAnswer::Refused("there is no GPU".into())));
    assert!(packets.receive().unwrap().is_none());
    assert!(thread.join().unwrap().is_ok());
}
