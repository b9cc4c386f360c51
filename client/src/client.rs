//! The stages of a job behind a few calls: attest, ask, verify, pay.

mod delivery;

use crate::attestation::{Challenged, Verifier};
use crate::budget::{Begun, Budget, KeptEvidence, Reservation, Spender};
use crate::chain::{self, Channel};
use crate::config::{Config, ConfigError, read_key};
use crate::error::{ClientError, Executed};
use crate::files::make_private;
use crate::job::{Job, Payment, Prepared, Unfinished};
use crate::kept::KeptJobs;
use crate::limits::{
    ATTEST_TIME_MAX, HEALTH_TIME, QUEUE_PAUSE_MAX, QUEUE_PAUSE_MIN, RENEW_PAUSE, REPLY_BYTES_MAX,
};
use crate::off_thread::off_thread;
use crate::session::{Session, Shared, kernel, proxy_error, proxy_refused, unix_s};
use crate::tokens::Models;
use crate::transport::{self, Transport};
use crate::trust::TrustStore;
use crate::vectors::Vectors;
use crate::{ask, openai};
use serde_json::Value;
use settlement::{Address, ChainId, SignedVoucher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};
use wire::{Endpoint, Finish, PayerRead, Random, ReceiptDigest, RefusalCode, Usage};

/// The sidecar: one channel, one proxy, one budget.
pub struct Client {
    proxy: Transport,
    node: Transport,
    chain: ChainId,
    channel: Address,
    payer_key: [u8; 32],
    shared: Arc<Shared>,
    // Read and written in passing: who has a fresh session never waits for an attestation.
    session: RwLock<Option<Session>>,
    // One attestation at a time, and how the last one failed: who waited for it fails with it.
    attesting: Mutex<Option<(Instant, ClientError)>>,
    queue_time: Duration,
    /// The cache of embeddings, where there is one.
    pub(crate) vectors: Option<Arc<Vectors>>,
    // Vouchers leave one after the other: a lower one behind a higher one would be refused.
    delivery: Mutex<()>,
    // Whether somebody polls `Client::deliver_waiting`, and what wakes it.
    delivers: AtomicBool,
    paid: Notify,
    // Jobs of an earlier run, until there is a worker's proxy to ask.
    left: std::sync::Mutex<Vec<(Begun, Reservation)>>,
}

/// A verified and paid answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The job's id.
    pub job: [u8; 16],
    /// The events of the guest, in order.
    pub events: Vec<Value>,
    /// The completion's text; empty for embeddings.
    pub text: String,
    /// Tokens, as counted here and confirmed by the receipt.
    pub usage: Usage,
    /// Of the completion's tokens, those of the thought before the answer.
    pub thought_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The stop sequence that ended it, if one did.
    pub stop: Option<String>,
    /// The voucher that pays, and the receipt it pays.
    pub payment: Payment,
    /// Whether the payee has acknowledged the voucher. If not, it is sent later ([`Client::deliver_waiting`]), or again.
    pub delivered: bool,
    /// From sending the job to the first event that carries content.
    pub first_token: Duration,
    /// From sending the job to the end of the answer.
    pub total: Duration,
}

/// Where events go as they arrive, before the answer is verified.
pub type Sink<'a> = &'a mut (dyn FnMut(&Value) + Send);

impl Client {
    /// Reads the files that the configuration names and locks the state file. A test root counts only if
    /// `test_root_confirmed` says that the command line names it ([`Config::confirm_test_root`]).
    pub fn open(config: Config, test_root_confirmed: bool) -> Result<Self, ClientError> {
        Self::open_drawing(config, test_root_confirmed, kernel())
    }

    /// The same, with job ids and seals drawn from there: in a simulation that tells its story again.
    pub fn open_drawing(
        config: Config,
        test_root_confirmed: bool,
        random: Random,
    ) -> Result<Self, ClientError> {
        config.refuse_unconfirmed_test_root(test_root_confirmed)?;
        let test_root = config.insecure_test_root.as_deref();
        let trust = match &config.trust {
            Some(path) => path.clone(),
            None => TrustStore::default_path()?,
        };
        let verifier = Verifier::open(&config.manifest, test_root, &trust, config.tcb.minimum()?)?;
        let payer = read_key(&config.payer_key_file)?;
        let payer_key = payer.verifying_key().to_bytes();
        let channel = channel_address(&config, payer_key)?;
        let models = Models::load(&config.models)?;
        let registry = config.registry();
        make_private(&config.state)?;
        let budget = Budget::open(&config.state, config.chain_id(), channel, payer)?
            .limited(config.limits());
        Ok(Client {
            left: budget.left()?.into(),
            proxy: Transport::new(&config.proxy)?,
            node: config.node()?,
            chain: config.chain_id(),
            channel,
            payer_key,
            queue_time: Duration::from_millis(config.queue_ms.into()),
            vectors: { config.embeddings_cache.map(Vectors::open).transpose()? }.map(Arc::new),
            shared: Arc::new(Shared {
                budget: Arc::new(budget),
                models,
                verifier,
                kept: config.keep_jobs.map(KeptJobs::open).transpose()?,
                profile: config.profile,
                stake_min: config.chain.stake_min_nano,
                registry,
                cost_max: config.cost_max_nano,
                deadline_ms: config.deadline_ms,
                first_token_ms: config.first_token_ms,
                random,
            }),
            session: RwLock::default(),
            attesting: Mutex::default(),
            delivery: Mutex::default(),
            delivers: AtomicBool::default(),
            paid: Notify::new(),
        })
    }

    /// Reaches proxy and node in these ways instead of at the configuration's addresses.
    pub fn through(mut self, proxy: Transport, node: Transport) -> Self {
        (self.proxy, self.node) = (proxy, node);
        self
    }

    /// Challenges the worker afresh and verifies its evidence.
    pub async fn attest(&self) -> Result<Session, ClientError> {
        self.attest_unless(|_| false).await
    }

    /// A worker whose keyset is young enough, attested now if need be.
    pub async fn session(&self) -> Result<Session, ClientError> {
        self.attest_unless(Session::is_fresh).await
    }

    /// Asks for the next keyset well before the last one ends, for as long as it is polled. Jobs go on with the old one meanwhile.
    pub async fn renew(&self) {
        loop {
            let due = self.known_session().map(|session| session.renewed_in());
            tokio::time::sleep(due.unwrap_or_default().max(RENEW_PAUSE)).await;
            let young = |session: &Session| session.is_fresh() && !session.renewed_in().is_zero();
            if let Err(error) = self.attest_unless(young).await {
                tracing::warn!("the worker's next keys could not be verified yet: {error}");
            }
        }
    }

    /// Whether a job could be answered now: the guest, its collateral and the channel, checked again where the last
    /// check is older than a few seconds.
    pub async fn health(&self) -> Result<Session, ClientError> {
        let recent = |session: &Session| session.is_fresh() && session.age() < HEALTH_TIME;
        let health = self.attest_unless(recent).await;
        if health.is_err() {
            self.replace(None);
        }
        health
    }

    async fn attest_unless(&self, good: impl Fn(&Session) -> bool) -> Result<Session, ClientError> {
        let begun = Instant::now();
        if let Some(session) = self.current().filter(&good) {
            return Ok(session);
        }
        let mut last = self.attesting.lock().await;
        if let Some(session) = self.current().filter(&good) {
            return Ok(session);
        }
        if let Some((_, error)) = last.take_if(|(at, _)| *at > begun) {
            return Err(error);
        }
        let attested = timeout(ATTEST_TIME_MAX, self.attest_now()).await;
        let attested = attested
            .unwrap_or_else(|_| Err(ClientError::Unreachable("no evidence in time".into())));
        match &attested {
            Ok(session) => self.replace(Some(session.clone())),
            Err(error) => *last = Some((Instant::now(), error.clone())),
        }
        attested
    }

    async fn attest_now(&self) -> Result<Session, ClientError> {
        let (channel, challenged, healed) = tokio::join!(
            self.read_channel(),
            Challenged::of(&self.proxy),
            self.heal()
        );
        let shared = Arc::clone(&self.shared);
        let session = Session::open(&self.node, challenged?, channel?, shared).await?;
        let evidence = KeptEvidence {
            bundle: session.bundle().to_vec(),
            nonce: *session.nonce(),
        };
        self.shared.budget.remember(&session.known(), &evidence)?;
        self.settle_left(&session)?;
        if let Err(error) = healed {
            tracing::warn!("the payee's record of this channel could not be used: {error}");
        }
        Ok(session)
    }

    /// Ends what an earlier run of this program began, and pays for what was made of it.
    fn settle_left(&self, session: &Session) -> Result<(), ClientError> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for job in left {
            if let Some(unfinished) = Unfinished::left(job, session, self.proxy.clone())? {
                tracing::info!("an earlier run left a job; its receipt is asked for");
                tokio::spawn(unfinished.end());
            }
        }
        Ok(())
    }

    fn current(&self) -> Option<Session> {
        let current = self.session.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, session: Option<Session>) {
        let current = self.session.write();
        *current.unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Reads the channel from the chain.
    pub async fn read_channel(&self) -> Result<Channel, ClientError> {
        chain::read_channel(&self.node, self.chain, self.channel, &self.payer_key).await
    }

    /// Embeddings of one or more texts: the body of `POST /v1/embeddings`.
    pub async fn embeddings(&self, body: &Value) -> Result<Answer, ClientError> {
        self.ask(Endpoint::Embeddings, body, &mut |_| ()).await
    }

    /// Scores of documents for a query: the body of `POST /v1/rerank`. The event has them in the order of the documents, as the model
    /// gives them.
    pub async fn rerank(&self, body: &Value) -> Result<Answer, ClientError> {
        self.ask(Endpoint::Rerank, body, &mut |_| ()).await
    }

    /// A chat completion: the body of `POST /v1/chat/completions`. Events go to `sink` as they arrive, and are verified
    /// only when this returns.
    pub async fn chat(&self, body: &Value, sink: Sink<'_>) -> Result<Answer, ClientError> {
        self.ask(Endpoint::Chat, body, sink).await
    }

    /// A request of the OpenAI API, for whoever needs no key.
    pub async fn ask(
        &self,
        endpoint: Endpoint,
        body: &Value,
        sink: Sink<'_>,
    ) -> Result<Answer, ClientError> {
        let ask = openai::parse(endpoint, body)?.whole()?;
        self.answer(&ask, &Spender::default(), sink).await
    }

    /// One job through all its stages. Where others are in its way, it waits a bounded time for its turn; where the
    /// guest has new keys, it is sealed once more, as a new job, to the freshly attested worker.
    pub async fn answer(
        &self,
        ask: &ask::Ask,
        spender: &Spender,
        sink: Sink<'_>,
    ) -> Result<Answer, ClientError> {
        self.answer_noting(ask, spender, sink, &AtomicBool::default(), None)
            .await
    }

    /// Sets aside what all answers to a request may cost, one by one. Where others are in the way, it waits a bounded time.
    pub(crate) async fn reserve_answers(
        &self,
        ask: &ask::Ask,
        spender: &Spender,
    ) -> Result<Vec<Arc<Reservation>>, ClientError> {
        let patience = Instant::now() + self.queue_time;
        let session = self.session().await?;
        let (own, one, jobs) = (session.clone(), ask.clone(), ask.choices());
        let estimate = off_thread(move || Ok(Job::count(&own, one)?.estimate)).await?;
        let deposit = session.channel().state.deposit;
        let mut pause = QUEUE_PAUSE_MIN;
        loop {
            let reserved = { &self.shared.budget }.reserve_each(jobs, estimate, deposit, spender);
            match reserved.map_err(ClientError::from) {
                Ok(reserved) => return Ok(reserved.into_iter().map(Arc::new).collect()),
                Err(error) if error.is_queued() && Instant::now() < patience => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(QUEUE_PAUSE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// [`Client::answer`], with a note that a job is with the worker, or that it ran, and with what was set aside for it.
    pub(crate) async fn answer_noting(
        &self,
        ask: &ask::Ask,
        spender: &Spender,
        sink: Sink<'_>,
        begun: &AtomicBool,
        held: Option<Arc<Reservation>>,
    ) -> Result<Answer, ClientError> {
        let patience = Instant::now() + self.queue_time;
        let (mut parent, mut renewed, mut pause) = (None, false, QUEUE_PAUSE_MIN);
        loop {
            let session = self.session().await?;
            let prepared = self.prepare(&session, ask, spender, parent, held.clone());
            let asked = async {
                let prepared = prepared.await.map_err(|error| (error, None))?;
                self.ask_once(&session, prepared, &mut *sink, begun).await
            };
            let (error, job) = match asked.await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            parent = job.or(parent);
            match &error {
                ClientError::GuestRefused(STALE | WORN) if !renewed => {
                    renewed = true;
                    self.forget(&session);
                }
                ClientError::UnknownSigner if !renewed => {
                    renewed = true;
                    self.forget(&session);
                    // Whoever signed it, these are the keys of today. With the same keys as before it was a forgery, and
                    // the job may have run: another one is the caller's decision.
                    // Nor does an attestation that fails say that nothing ran.
                    match self.session().await {
                        Ok(today) if today.keyset() != session.keyset() => {}
                        Ok(_) | Err(_) => return Err(error),
                    }
                }
                error if error.is_queued() && Instant::now() < patience => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(QUEUE_PAUSE_MAX);
                    continue;
                }
                _ => {
                    if error.doubts_the_worker() {
                        self.forget(&session);
                    }
                    return Err(error);
                }
            }
            tracing::info!("{error}; attested again");
        }
    }

    async fn prepare(
        &self,
        session: &Session,
        ask: &ask::Ask,
        spender: &Spender,
        parent: Option<[u8; 16]>,
        held: Option<Arc<Reservation>>,
    ) -> Result<Prepared, ClientError> {
        // A form takes a while to compile.
        let (own, ask, spender) = (session.clone(), ask.clone(), spender.clone());
        let prepared = off_thread(move || Job::reserved(&own, ask, &spender, held));
        Ok(match parent {
            Some(parent) => prepared.await?.retrying(parent),
            None => prepared.await?,
        })
    }

    async fn ask_once(
        &self,
        session: &Session,
        prepared: Prepared,
        sink: Sink<'_>,
        begun: &AtomicBool,
    ) -> Result<Answer, (ClientError, Option<[u8; 16]>)> {
        let before = |error| (error, None);
        if !self.delivers.load(Ordering::Relaxed)
            && let Err(error) = self.deliver_outstanding().await
        {
            tracing::warn!("an earlier voucher is still on its way: {error}");
        }
        begun.store(true, Ordering::Relaxed);
        let carried = self.carry(session, prepared, sink).await;
        let (job, answer) = carried.map_err(before)?;
        if let Err(error) = &answer {
            begun.store(error.executed() != Executed::No, Ordering::Relaxed);
        }
        answer.map_err(|error| (error, Some(job)))
    }

    async fn carry(
        &self,
        session: &Session,
        prepared: Prepared,
        sink: Sink<'_>,
    ) -> Result<([u8; 16], Result<Answer, ClientError>), ClientError> {
        let endpoint = prepared.endpoint();
        let sealed = prepared.seal()?;
        let job = sealed.job();
        let answer = async {
            let mut answering = sealed.send(&self.proxy).await?;
            while let Some(event) = answering.next_event().await? {
                sink(&event);
            }
            let mut verified = answering.finish().await?.verify(session)?;
            let transcript = verified.transcript.take();
            let (events, text) = (verified.events.clone(), verified.text.clone());
            let (first_token, total) = (verified.first_token, verified.total);
            let (usage, finish) = (verified.receipt().core().usage, verified.finish);
            let (stop, thought_tokens) = (verified.stop.clone(), verified.thought_tokens);
            let payment = verified.pay(&self.shared.budget)?;
            if let (Some(kept), Some(transcript)) = (&self.shared.kept, transcript)
                && let Err(error) = kept.put(&payment.receipt, &transcript)
            {
                tracing::warn!("a job cannot be checked later: {error}");
            }
            // The answer is whole and paid for on this side, whatever becomes of the voucher's delivery now.
            let delivered = self.deliver_or_wake(&payment).await;
            if endpoint != Endpoint::Chat && matches!(finish, Finish::Deadline | Finish::Cancelled)
            {
                let made = "only some of the texts were read in time, and were paid";
                return Err(ClientError::Deadline(made.into()));
            }
            Ok(Answer {
                job,
                events,
                text,
                usage,
                thought_tokens,
                finish,
                stop,
                payment,
                delivered,
                first_token,
                total,
            })
        };
        Ok((job, answer.await))
    }

    /// Asks the payee for the highest voucher it holds: our own signature, so a state file restored from a backup
    /// learns what it has promised since.
    async fn heal(&self) -> Result<(), ClientError> {
        const WHAT: &str = "channel";
        let path = format!("/v1/channels/{}", self.channel);
        let read = PayerRead {
            chain: self.chain,
            channel: self.channel,
            receipt: None,
        };
        let authorization = read.sign(unix_s()?, self.shared.budget.payer());
        let ask = transport::Ask {
            method: "GET",
            path: &path,
            content_type: "",
            authorization: &authorization,
            body: Vec::new(),
        };
        let reply = self.proxy.call(ask, REPLY_BYTES_MAX).await;
        let reply = reply.map_err(|e| proxy_error(WHAT, e, Executed::No))?;
        if reply.status != 200 {
            return Err(proxy_refused(WHAT, reply.status, &reply.body, Executed::No));
        }
        let misshapen = || ClientError::ProxyMisbehaved {
            what: WHAT,
            detail: "its record is not of the expected shape".into(),
            executed: Executed::No,
        };
        let record: Value = serde_json::from_slice(&reply.body).map_err(|_| misshapen())?;
        let voucher = match record.get("voucher") {
            None | Some(Value::Null) => return Ok(()),
            Some(voucher) => voucher.as_str().ok_or_else(misshapen)?,
        };
        let voucher = hex::decode(voucher).map_err(|_| misshapen())?;
        let voucher = SignedVoucher::decode(&voucher).map_err(|_| misshapen())?;
        if self.shared.budget.adopt(&voucher)? {
            let cumulative = voucher.voucher.cumulative;
            tracing::warn!(
                "the payee holds a higher voucher of ours, {cumulative} nanoTON: the state file was behind"
            );
        }
        Ok(())
    }

    fn forget(&self, stale: &Session) {
        let current = self.session.write();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        current.take_if(|session| session.nonce() == stale.nonce());
    }

    /// The worker that was attested last, if it still counts. Nobody is asked.
    pub fn known_session(&self) -> Option<Session> {
        self.current().filter(Session::is_fresh)
    }

    /// The public half of the key that signs envelopes and vouchers.
    pub fn payer_key(&self) -> [u8; 32] {
        self.payer_key
    }

    /// The budget.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.shared.budget
    }

    /// The way to the proxy.
    pub fn proxy(&self) -> &Transport {
        &self.proxy
    }

    /// The models of the allow-list.
    pub fn models(&self) -> &Models {
        &self.shared.models
    }

    /// A receipt on file, with what it cost.
    pub fn receipt(
        &self,
        digest: &ReceiptDigest,
    ) -> Result<Option<crate::budget::StoredReceipt>, ClientError> {
        Ok(self.shared.budget.receipt(digest)?)
    }
}

const STALE: RefusalCode = RefusalCode::StaleKeyset;
const WORN: RefusalCode = RefusalCode::KeysWorn;

/// The channel that the configuration names, by address or by terms.
pub fn channel_address(config: &Config, payer_key: [u8; 32]) -> Result<Address, ClientError> {
    match (config.channel, config.channel_terms(payer_key)?) {
        (Some(address), _) => Ok(address),
        (None, Some(terms)) => Ok(terms.address()),
        (None, None) => Err(ConfigError("no channel is named".into()).into()),
    }
}
