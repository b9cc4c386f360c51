//! The host: it opens every connection's other half, carries out the plan, and writes down what passed.

use crate::dice::Dice;
use crate::faults::{Fault, Planned};
use crate::lies::{self, Memory};
use crate::links::{
    BUFFER_BYTES, Begun, Edit, Gate, Happening, Link, Passing, Route, Seen, Treatment, Way, carry,
};
use crate::site::Machine;
use guest_agent::Serving;
use host_proxy::Service;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use wire::{Frame, FrameKind, SignedEnvelope};

/// One connection, as it went.
pub struct Connection {
    /// Between whom.
    pub link: Link,
    /// What for; [`Route::Other`] until the first byte.
    pub route: Route,
    /// The boot of the guest that answered, or that there was.
    pub boot: usize,
    /// When it began, since the story did.
    pub opened: Duration,
    /// When it had ended.
    pub closed: Option<Duration>,
    /// What its two ends wrote: up and down.
    pub given: [Vec<u8>; 2],
    /// When its lower end wrote, and how much at a time.
    pub written: Vec<(Duration, usize)>,
    /// How many bytes of it arrived.
    pub left: [usize; 2],
    /// Whether something else was answered than was given.
    pub lied: bool,
}

/// The host of one story.
pub struct Host {
    began: Instant,
    seed: u64,
    state: Mutex<State>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct State {
    plan: Vec<Planned>,
    turns: HashMap<(Link, Route), u32>,
    connections: Vec<Connection>,
    applied: BTreeMap<Fault, u32>,
    changed_records: bool,
    service: Option<Arc<Service>>,
    guest: Option<Serving<Machine>>,
    boot: usize,
    tasks: Vec<(Link, AbortHandle)>,
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A latency that no connection exceeds.
const LATENCY_MS: u64 = 3;

impl Host {
    /// With a plan, and nobody to connect to yet.
    pub fn new(seed: u64, plan: Vec<Planned>) -> Arc<Host> {
        let state = State {
            plan,
            ..State::default()
        };
        Arc::new(Host {
            began: Instant::now(),
            seed,
            state: Mutex::new(state),
            gate: Arc::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it behaves.
    pub fn calm(&self) {
        self.state().plan.clear();
        self.gate.set(false);
    }

    /// Whether the guest stands still.
    pub fn freeze(&self, frozen: bool) {
        self.gate.set(frozen);
    }

    /// What is shut meanwhile.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Connects clients to this proxy from now on. Streams of the one before break.
    pub fn put_proxy(&self, service: Option<Arc<Service>>) {
        self.abort(Link::Client);
        self.state().service = service;
    }

    /// Connects the proxy to this guest from now on. Streams of the one before break, and it is gone.
    pub fn put_guest(&self, guest: Option<Serving<Machine>>) {
        self.abort(Link::Guest);
        let mut state = self.state();
        state.boot += usize::from(guest.is_some());
        state.guest = guest;
    }

    fn abort(&self, link: Link) {
        let mut state = self.state();
        let ended = state.tasks.extract_if(.., |(of, _)| *of == link);
        ended.for_each(|(_, task)| task.abort());
    }

    /// Slots that the guest has given.
    pub fn guest_in_use(&self) -> usize {
        self.state().guest.as_ref().map_or(0, Serving::in_use)
    }

    /// Since the story began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes that a fault took effect.
    pub fn applied(&self, fault: Fault) {
        *self.state().applied.entry(fault).or_default() += 1;
    }

    /// How often each fault took effect.
    pub fn all_applied(&self) -> BTreeMap<Fault, u32> {
        self.state().applied.clone()
    }

    /// Whether records of an answer were lost, doubled or reordered: then nobody can open what follows.
    pub fn changed_records(&self) -> bool {
        self.state().changed_records
    }

    /// Reads what passed.
    pub fn with_connections<T>(&self, read: impl FnOnce(&[Connection]) -> T) -> T {
        // Not under the lock: nothing passes meanwhile, on one thread.
        let connections = std::mem::take(&mut self.state().connections);
        let said = read(&connections);
        self.state().connections = connections;
        said
    }

    /// What it remembers of what passed between proxy and guest.
    fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        let state = self.state();
        let ended = state.connections.iter();
        for past in ended.filter(|past| past.link == Link::Guest && past.closed.is_some()) {
            let [up, down] = &past.given;
            let (up, down) = (lies::frames(up), lies::frames(down));
            match past.route {
                Route::Job => memory.jobs.push((up, down)),
                Route::Attest => {
                    let data = down.iter().filter(|frame| frame.kind == FrameKind::Data);
                    let evidence = data.flat_map(|frame| frame.payload.clone());
                    memory.evidence.push(evidence.collect());
                }
                _ => {}
            }
        }
        memory
    }

    /// A connection's end for whoever dials.
    pub fn dial(self: &Arc<Self>, link: Link) -> std::io::Result<DuplexStream> {
        let (theirs, near) = tokio::io::duplex(BUFFER_BYTES);
        let mut state = self.state();
        let (number, boot) = (state.connections.len(), state.boot);
        state.connections.push(Connection {
            link,
            route: Route::Other,
            boot,
            opened: self.now(),
            closed: None,
            given: Default::default(),
            written: Vec::new(),
            left: [0; 2],
            lied: false,
        });
        drop(state);
        let host = self.clone();
        tokio::spawn(async move {
            host.connect(link, number, near).await;
            let now = host.now();
            host.state().connections[number].closed = Some(now);
        });
        Ok(theirs)
    }

    async fn connect(self: &Arc<Self>, link: Link, number: usize, mut near: DuplexStream) {
        let mut begun = vec![0; 16 * 1024];
        let count = near.read(&mut begun).await.unwrap_or(0);
        begun.truncate(count);
        if begun.is_empty() {
            return;
        }
        let route = Route::of(link, &begun);
        let planned = self.begin(link, route, number, &begun);
        match planned {
            Some(planned) if planned.fault.is_lie() => {
                self.lie(
                    planned,
                    number,
                    Begun {
                        begun,
                        stream: near,
                    },
                )
                .await;
            }
            _ => {
                if planned.is_some_and(|planned| planned.fault == Fault::SwapRequest) {
                    self.ask_first(&begun).await;
                }
                let Some(far) = self.open(link) else {
                    return;
                };
                self.answers(number);
                let up = self.treatment(number, Way::Up, link, planned);
                let down = self.treatment(number, Way::Down, link, planned);
                carry(near, far, begun, up, down).await;
            }
        }
    }

    /// Notes what a connection is for, and takes from the plan what is to happen to it.
    fn begin(&self, link: Link, route: Route, number: usize, begun: &[u8]) -> Option<Planned> {
        let mut state = self.state();
        let connection = &mut state.connections[number];
        connection.route = route;
        connection.given[0].extend(begun);
        let turn = state.turns.entry((link, route)).or_default();
        let this = *turn;
        *turn += 1;
        let here = |planned: &Planned| {
            !planned.fault.is_timed()
                && (planned.link, planned.route, planned.turn) == (link, route, this)
        };
        let place = state.plan.iter().position(here)?;
        Some(state.plan.remove(place))
    }

    /// Notes which guest there is now: it may be another one than when the connection began.
    fn answers(&self, number: usize) {
        let state = &mut *self.state();
        state.connections[number].boot = state.boot;
    }

    /// The other half of a connection, served by whoever there is.
    fn open(&self, link: Link) -> Option<DuplexStream> {
        let (far, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let mut state = self.state();
        let task = match link {
            Link::Client => tokio::spawn(state.service.as_ref()?.connection(theirs, CLIENT)),
            Link::Guest => {
                let guest = state.guest.clone()?;
                tokio::spawn(async move {
                    // How it ended shows in what was written.
                    let _ = guest.exchange(theirs).await;
                })
            }
        };
        state.tasks.push((link, task.abort_handle()));
        Some(far)
    }

    fn treatment(
        self: &Arc<Self>,
        number: usize,
        way: Way,
        link: Link,
        planned: Option<Planned>,
    ) -> Treatment {
        let planned = planned.filter(|planned| planned.way == way);
        let mut dice = Dice::new(self.seed, 1_000 + 2 * number as u64 + way as u64);
        let mut treatment = Treatment {
            latency: dice.time(0..LATENCY_MS),
            bytes_max: usize::MAX,
            at: None,
            edit: None,
            gate: (link == Link::Guest).then(|| self.gate()),
            seen: self.seen(number, way, planned),
        };
        let Some(planned) = planned else {
            return treatment;
        };
        let happening = match planned.fault {
            Fault::Drop => Happening::Silence,
            Fault::Delay => Happening::Wait(planned.time),
            Fault::Disconnect => Happening::Disconnect,
            Fault::Truncate => Happening::End,
            Fault::Flip => Happening::Flip,
            Fault::PartialWrites => {
                self.applied(planned.fault);
                treatment.bytes_max = dice.within(1..40) as usize;
                return treatment;
            }
            _ => {
                treatment.edit = Some(self.edit(planned));
                return treatment;
            }
        };
        treatment.at = Some((planned.at as usize, happening));
        treatment
    }

    fn seen(self: &Arc<Self>, number: usize, way: Way, planned: Option<Planned>) -> Seen {
        let host = self.clone();
        Arc::new(move |passing| {
            let (state, now) = (&mut *host.state(), host.now());
            let connection = &mut state.connections[number];
            match (passing, planned) {
                (Passing::Given(bytes), _) => {
                    connection.given[way as usize].extend(bytes);
                    if way == Way::Down {
                        connection.written.push((now, bytes.len()));
                    }
                }
                (Passing::Left(count), _) => connection.left[way as usize] += count,
                (Passing::Happened, Some(planned)) => {
                    *state.applied.entry(planned.fault).or_default() += 1;
                }
                (Passing::Happened, None) => {}
            }
        })
    }

    fn edit(self: &Arc<Self>, planned: Planned) -> Edit {
        let (host, memory) = (self.clone(), self.memory());
        let (mut count, mut held) = (0, None);
        Box::new(move |frame: Frame| {
            let this = count;
            count += 1;
            let is_here = planned.is_at(frame.kind, this);
            if is_here && planned.way == Way::Down && frame.kind == FrameKind::Data {
                host.state().changed_records = true;
            }
            if let Some(held) = held.take() {
                return vec![frame, held];
            }
            if planned.fault == Fault::ReorderFrames && is_here {
                host.applied(planned.fault);
                held = Some(frame);
                return Vec::new();
            }
            match lies::edit(&planned, &memory, frame.clone(), this) {
                Some(frames) => {
                    host.applied(planned.fault);
                    frames
                }
                None => vec![frame],
            }
        })
    }

    /// Answers an HTTP request otherwise than the proxy does.
    async fn lie(self: &Arc<Self>, planned: Planned, number: usize, near: Begun<DuplexStream>) {
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let host = self.clone();
            async move { host.lie_once(planned, number, request).await }
        });
        // Whoever asked may have left.
        let _ = { hyper::server::conn::http1::Builder::new() }
            .keep_alive(false)
            .serve_connection(TokioIo::new(near), service)
            .await;
    }

    async fn lie_once(
        self: &Arc<Self>,
        planned: Planned,
        number: usize,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let head = format!("{} {}\r\n\r\n", parts.method, parts.uri);
        self.state().connections[number].given[0] = [head.as_bytes(), &body].concat();
        if planned.fault == Fault::FalseAck {
            self.lied(planned.fault, number);
            let stored = Bytes::from_static(b"{\"stored\":true}");
            return Ok(Response::new(Full::new(stored)));
        }
        let nonce = parts
            .uri
            .query()
            .and_then(|query| query.strip_prefix("nonce="));
        let nonce = nonce.and_then(|digits| hex::decode(digits).ok());
        let job = SignedEnvelope::decode_prefix(&body).map(|(signed, _)| signed.digest());
        if planned.fault == Fault::ForgeRefusal
            && let Some(spoilt) = lies::spoilt(&body)
        {
            self.ask(&spoilt).await;
        }
        let (status, said) = self.forward(Request::from_parts(parts, body)).await?;
        self.state().connections[number].given[1].clone_from(&said);
        let memory = self.memory();
        let mut dice = Dice::new(self.seed, 1_000 + 2 * number as u64);
        let lie = match nonce.and_then(|nonce| nonce.try_into().ok()) {
            Some(nonce) => lies::evidence(planned.fault, &memory, &nonce, &said, &mut dice),
            None => {
                let job = job.unwrap_or_default();
                lies::answer(planned.fault, &memory, job, &said, &mut dice)
            }
        };
        if lie.is_some() {
            self.lied(planned.fault, number);
        }
        let mut response = Response::new(Full::new(Bytes::from(lie.unwrap_or(said))));
        *response.status_mut() = status;
        Ok(response)
    }

    fn lied(&self, fault: Fault, number: usize) {
        self.applied(fault);
        self.state().connections[number].lied = true;
    }

    /// What the proxy answers.
    async fn forward(
        &self,
        request: Request<Bytes>,
    ) -> Result<(StatusCode, Vec<u8>), hyper::Error> {
        let Some(far) = self.open(Link::Client) else {
            return Ok((StatusCode::BAD_GATEWAY, Vec::new()));
        };
        let io = TokioIo::new(far);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let driving = tokio::spawn(connection);
        let (parts, body) = request.into_parts();
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body)));
        let (parts, body) = answer.await?.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        driving.abort();
        Ok((parts.status, body))
    }

    /// Asks the guest of today something, on a connection of its own. What it answers is written down like all that passes.
    async fn ask(self: &Arc<Self>, frames: &[u8]) {
        if let Ok(mut stream) = self.dial(Link::Guest) {
            let _ = stream.write_all(frames).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }

    /// Has the guest refuse a job, shown with the request of another one, before it gets to see it as it is.
    async fn ask_first(self: &Arc<Self>, begun: &[u8]) {
        let memory = self.memory();
        if let Some(job) = lies::with_another_request(&memory, lies::frames(begun)) {
            self.applied(Fault::SwapRequest);
            self.ask(&lies::encode(&job)).await;
        }
    }

    /// Asks the guest of today for all receipts that it has.
    pub async fn fetch_all(self: &Arc<Self>) {
        let envelopes = self.memory().jobs.into_iter().flat_map(|(up, _)| up);
        let envelopes = envelopes.filter(|frame| frame.kind == FrameKind::OpenJob);
        let signed = envelopes.map(|frame| SignedEnvelope::decode(&frame.payload));
        for signed in signed.filter_map(Result::ok) {
            let asked = Frame::encode(FrameKind::OpenReceipt, &signed.digest().0);
            let end = Frame::encode(FrameKind::End, b"");
            self.ask(&[asked, end].concat()).await;
        }
    }

    /// Sends a job that passed before to the guest of today.
    pub async fn replay(self: &Arc<Self>, dice: &mut Dice) {
        let jobs = self.memory().jobs;
        if !jobs.is_empty() {
            self.applied(Fault::ReplayJob);
            let (job, _) = &jobs[dice.within(0..jobs.len() as u64) as usize];
            self.ask(&lies::encode(job)).await;
        }
    }
}
