//! One job, in stages that consume each other:
//!
//! ```text
//! Job::prepare ─► Prepared ─seal► Sealed ─send► Answering ─finish► Answered ─verify► VerifiedAnswer ─pay► Payment
//!  counted and     signed          on its way,    whole, opened      receipt, charge     voucher on disk,
//!  reserved        and sealed      events arrive                     and tokens agree    then sent
//! ```
//! Trusted: the [`Session`], because only attestation makes one. Promised: a job is sealed to nothing else, what is paid
//! was verified, and whoever stops between two stages has either sent nothing or knows that the job may have run.
//! Dropping a stage gives its part of the deposit back; once the job was sent it also cancels it and pays for what was made. A job is
//! on disk before it is sent: a program that was killed does the same when it comes back.

mod answering;
mod unfinished;
mod verified;

pub use answering::{Answered, Answering};
pub use unfinished::Unfinished;
pub use verified::{Payment, VerifiedAnswer};

use crate::ask::Ask;
use crate::budget::{BudgetError, Reservation, Spender};
use crate::completion::Completion;
use crate::error::{ClientError, Executed};
use crate::limits::DEADLINE_GRACE;
use crate::openai::{self, Head};
use crate::session::{Session, proxy_error, proxy_refused, unix_s};
use crate::tokens::{Model, TokensError};
use crate::transport::{self, Transport, TransportError};
use getrandom::rand_core::Rng;
use model::text::TextError;
use serde_json::Value;
use settlement::{Nano, SignedCap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use unfinished::Ending;
use wire::{
    CancelSecret, Commitments, Digest, Endpoint, Envelope, EnvelopeDigest, Malformed, ModelOffer,
    ReceiptKey, Request, ResponseOpener, Usage,
};

/// Where a job begins.
#[derive(Debug)]
pub enum Job {}

/// A request that was read, counted and found affordable.
pub struct Prepared {
    session: Session,
    offer: ModelOffer,
    request: Request,
    completion: Option<Completion>,
    most: Usage,
    cost_max: Nano,
    keeps: bool,
    reservation: Arc<Reservation>,
}

/// A sealed job that nobody has seen yet.
pub struct Sealed {
    /// What is posted to the proxy: the signed envelope, then the sealed request.
    pub body: Vec<u8>,
    opener: ResponseOpener,
    known: Known,
}

/// What this side knows of its own job, to hold the answer against.
pub(crate) struct Known {
    pub(crate) session: Session,
    pub(crate) asked: Request,
    pub(crate) completion: Option<Completion>,
    pub(crate) head: Head,
    pub(crate) cap: SignedCap,
    pub(crate) envelope: EnvelopeDigest,
    pub(crate) request: Digest,
    pub(crate) commitments: Commitments,
    pub(crate) reservation: Arc<Reservation>,
    pub(crate) most: Usage,
    pub(crate) receipt_key: ReceiptKey,
    pub(crate) cancel: CancelSecret,
    pub(crate) ending: Ending,
    /// The records of the answer, where they are kept.
    pub(crate) records: Option<Vec<u8>>,
}

impl Job {
    /// Reads a request of the OpenAI API, turns it into tokens and sets aside what it may cost.
    pub fn prepare(
        session: &Session,
        endpoint: Endpoint,
        body: Value,
    ) -> Result<Prepared, ClientError> {
        Job::of(
            session,
            openai::parse(endpoint, &body)?.whole()?,
            &Spender::default(),
        )
    }

    /// Turns a request into tokens and sets aside the most that it may cost, within what the spender may spend.
    pub fn of(session: &Session, ask: Ask, spender: &Spender) -> Result<Prepared, ClientError> {
        Job::reserved(session, ask, spender, None)
    }

    /// [`Job::of`], with what was set aside for it before, if anything was.
    pub(crate) fn reserved(
        session: &Session,
        ask: Ask,
        spender: &Spender,
        held: Option<Arc<Reservation>>,
    ) -> Result<Prepared, ClientError> {
        if ask.choices() != 1 {
            let message = "one job makes one answer; `n` is for Client::answers".to_owned();
            return Err(refuse(Some("n"), message));
        }
        Job::count(session, ask)?.prepare(session, spender, held)
    }

    /// The most that a request in tokens may use and cost at this worker, which offers the model by whatever name.
    pub(crate) fn again(
        session: &Session,
        offer: &ModelOffer,
        request: Request,
    ) -> Result<Counted, ClientError> {
        allowed(session, request.endpoint(), &offer.id)?;
        Counted::of(session, offer, request, None)
    }

    /// Turns a request into tokens and says what one answer to it may use and cost. Nothing is set aside, and nothing sent. A form
    /// takes up to some seconds to compile.
    pub(crate) fn count(session: &Session, ask: Ask) -> Result<Counted, ClientError> {
        let (model, offer) = allowed(session, ask.endpoint(), ask.model())?;
        let (asked, completion) = encode(model, offer, ask)?;
        let request = Request {
            model_root: offer.root,
            parent: None,
            ask: asked,
        };
        Counted::of(session, offer, request, completion)
    }

    /// The tokens of a request's prompt. No form is compiled for it.
    pub(crate) fn prompt_tokens(session: &Session, ask: &Ask) -> Result<u32, ClientError> {
        let (model, offer) = allowed(session, ask.endpoint(), ask.model())?;
        let asked = model.encode(ask, None, offer.context_tokens);
        let asked = asked.map_err(|error| misfit(ask, &error))?;
        Ok(most(offer, &asked)?.prompt)
    }
}

/// A request in tokens, with the most that it can use and cost.
pub(crate) struct Counted {
    pub(crate) offer: ModelOffer,
    request: Request,
    completion: Option<Completion>,
    pub(crate) most: Usage,
    pub(crate) estimate: Nano,
}

impl Counted {
    fn of(
        session: &Session,
        offer: &ModelOffer,
        request: Request,
        completion: Option<Completion>,
    ) -> Result<Counted, ClientError> {
        if let Some(registry) = session.registry() {
            registry.allows(offer)?;
        }
        let most = most(offer, &request.ask)?;
        let estimate = offer.prices.cost(&most, session.keyset().price_step);
        Ok(Counted {
            offer: offer.clone(),
            request,
            completion,
            most,
            estimate: estimate.unwrap_or(Nano(u64::MAX)),
        })
    }

    /// Sets aside what it may cost, within what the spender may spend, unless that was done before.
    pub(crate) fn prepare(
        self,
        session: &Session,
        spender: &Spender,
        held: Option<Arc<Reservation>>,
    ) -> Result<Prepared, ClientError> {
        // The envelope names the same limit for every job, so that it tells nothing of this one's length.
        let shared = session.shared();
        let max = shared.cost_max.min(session.keyset().exposure_max);
        let estimate = self.estimate;
        if estimate > max {
            return Err(BudgetError::JobLimit { estimate, max }.into());
        }
        let deposit = session.channel().state.deposit;
        // What it can cost at most, so that jobs beside each other fit: no more is paid than was counted here.
        let reservation = match held {
            Some(held) => held,
            None => Arc::new(shared.budget.reserve(estimate, deposit, spender)?),
        };
        Ok(Prepared {
            session: session.clone(),
            offer: self.offer,
            request: self.request,
            completion: self.completion,
            most: self.most,
            cost_max: max,
            keeps: shared.kept.is_some(),
            reservation,
        })
    }
}

/// The model, which must be on the allow-list and offered with that root, that tokenizer and that endpoint.
fn allowed<'a>(
    session: &'a Session,
    endpoint: Endpoint,
    name: &str,
) -> Result<(&'a Model, &'a ModelOffer), ClientError> {
    let refuse = |message: &str| ClientError::Model {
        model: crate::error::shown(name),
        message: message.into(),
    };
    let (bare, pinned) = pinned(name)
        .ok_or_else(|| refuse("what follows `@` must be sha256: and 64 hexadecimal characters"))?;
    let model = session.shared().models.get(bare);
    let model = model.ok_or_else(|| refuse("the configuration does not list it"))?;
    let offer = session.keyset().model(&model.id);
    let offer = offer.ok_or_else(|| refuse("the worker does not offer it"))?;
    if let Some(why) = model.differs(offer) {
        return Err(refuse(why));
    }
    if pinned.is_some_and(|root| root != offer.root) {
        return Err(refuse(&format!("its digest is sha256:{}", offer.root)));
    }
    if offer.endpoint != endpoint {
        return Err(refuse(&format!("it does not answer {}", endpoint.path())));
    }
    Ok((model, offer))
}

/// A model's name, and the digest of its weights where `name@sha256:…` pins it. `None`: that is no digest.
pub(crate) fn pinned(name: &str) -> Option<(&str, Option<Digest>)> {
    let Some((bare, pin)) = name.rsplit_once('@') else {
        return Some((name, None));
    };
    let mut digest = [0; 32];
    hex::decode_to_slice(pin.strip_prefix("sha256:").unwrap_or(pin), &mut digest).ok()?;
    Some((bare, Some(Digest(digest))))
}

/// What is asked, in tokens, and what will turn a completion's tokens into text.
fn encode(
    model: &Model,
    offer: &ModelOffer,
    ask: Ask,
) -> Result<(wire::Ask, Option<Completion>), ClientError> {
    let made = model.grammar(&ask).and_then(|grammar| {
        let asked = model.encode(&ask, grammar.as_deref(), offer.context_tokens)?;
        Ok((asked, grammar))
    });
    let (asked, grammar) = made.map_err(|error| misfit(&ask, &error))?;
    let prompt = match (&ask, &asked, &grammar) {
        (Ask::Chat(_), wire::Ask::Chat(chat), None) => Some(chat.prompt.as_slice()),
        _ => None,
    };
    let completion = match &ask {
        Ask::Embeddings(_) | Ask::Rerank(_) => None,
        Ask::Chat(chat) | Ask::Raw(_, chat) => {
            Some(model.completion(chat, prompt)?.with_grammar(grammar))
        }
    };
    Ok((asked, completion))
}

/// Why a request does not become tokens, by the name of its field.
fn misfit(ask: &Ask, error: &TokensError) -> ClientError {
    match (error, ask) {
        (TokensError::Form(form), _) => refuse(Some(&form.at), error.to_string()),
        (TokensError::TextTooLong { index, .. }, _) => ClientError::ContextLength {
            param: format!("input[{index}]"),
            message: error.to_string(),
        },
        (TokensError::PairTooLong { index, .. }, _) => ClientError::ContextLength {
            param: format!("documents[{index}]"),
            message: error.to_string(),
        },
        (TokensError::Text(TextError::NoCalls), _) => refuse(Some("tools"), error.to_string()),
        (_, Ask::Embeddings(_)) => refuse(Some("input"), error.to_string()),
        (_, Ask::Rerank(_)) => refuse(Some("documents"), error.to_string()),
        (_, Ask::Chat(_)) => refuse(Some("messages"), error.to_string()),
        (_, Ask::Raw(..)) => refuse(Some("prompt"), error.to_string()),
    }
}

/// The most that the job may use: exactly its prompt, and the completion that has room after it.
fn most(offer: &ModelOffer, ask: &wire::Ask) -> Result<Usage, ClientError> {
    let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
    let (prompt, completion) = match ask {
        wire::Ask::Embeddings(inputs) => (count(inputs.iter().map(Vec::len).sum()), 0),
        wire::Ask::Rerank(pairs) => (count(pairs.iter().map(|p| p.tokens.len()).sum()), 0),
        wire::Ask::Chat(chat) => {
            let (prompt, context) = (count(chat.prompt.len()), offer.context_tokens);
            let room = context.checked_sub(prompt).filter(|room| *room > 0);
            let room = room.ok_or_else(|| ClientError::ContextLength {
                param: "messages".into(),
                message: format!("{prompt} prompt tokens leave no room in a context of {context}"),
            })?;
            (prompt, chat.tokens_max.min(room))
        }
    };
    Ok(Usage {
        prompt,
        cached: 0,
        completion,
    })
}

fn refuse(param: Option<&str>, message: String) -> ClientError {
    ClientError::Request {
        param: param.map(str::to_owned),
        message,
    }
}

impl Prepared {
    /// Names the job that this one retries, inside the seal.
    pub fn retrying(mut self, parent: [u8; 16]) -> Prepared {
        self.request.parent = Some(parent);
        self
    }

    /// Keeps what comes, for a transcript.
    pub(crate) fn keeping(mut self) -> Prepared {
        self.keeps = true;
        self
    }

    /// What is asked for.
    pub fn endpoint(&self) -> Endpoint {
        self.request.endpoint()
    }

    /// The most this job may cost.
    pub fn cost_max(&self) -> Nano {
        self.cost_max
    }

    /// Signs the envelope and seals the request to the attested worker.
    pub fn seal(self) -> Result<Sealed, ClientError> {
        let shared = self.session.shared();
        let budget = &shared.budget;
        let mut rng = shared.random.rng();
        let mut job = [0; 16];
        rng.fill_bytes(&mut job);
        let malformed = |error: Malformed| refuse(None, error.to_string());
        let request = self.request.job().map_err(malformed)?;
        let envelope = Envelope {
            version: 1,
            job,
            keyset: self.session.worker().keyset_digest(),
            model: self.offer.id.clone(),
            model_root: self.offer.root,
            endpoint: request.endpoint,
            cost_max: self.cost_max,
            terms: self
                .session
                .channel()
                .state
                .terms(budget.payer().verifying_key().to_bytes()),
            // Filled in by the signature.
            cap_signature: [0; 64],
            class: "standard".into(),
            deadline_ms: shared.deadline_ms,
            first_token_ms: shared.first_token_ms,
            // Filled in by the seal.
            sealed_bytes: 0,
            voucher: budget.highest()?.map(|voucher| voucher.encode()),
        };
        let sealed = wire::seal_job(
            self.session.worker(),
            envelope,
            &request,
            budget.payer(),
            &mut rng,
        )
        .map_err(ClientError::Sealing)?;
        let mut body = sealed.envelope.encode();
        body.extend_from_slice(&sealed.request);
        Ok(Sealed {
            body,
            opener: sealed.opener,
            known: Known {
                head: Head {
                    id: format!("chatcmpl-{}", hex::encode(job)),
                    model: self.offer.id,
                    created_unix_s: unix_s()?,
                },
                asked: self.request,
                completion: self.completion,
                cap: sealed.envelope.unverified().cap(),
                envelope: sealed.envelope.digest(),
                request: sealed.commitments.request(&request.body),
                commitments: sealed.commitments,
                reservation: self.reservation,
                most: self.most,
                receipt_key: sealed.receipt_key,
                cancel: sealed.cancel,
                ending: Ending::default(),
                records: self.keeps.then(Vec::new),
                session: self.session,
            },
        })
    }
}

impl Known {
    fn unfinished(&self, proxy: Transport) -> Unfinished {
        Unfinished {
            shared: Arc::downgrade(self.session.shared()),
            keyset: self.session.keyset().clone(),
            deposit: self.session.channel().state.deposit,
            proxy,
            envelope: self.envelope,
            cap: self.cap,
            reservation: Arc::clone(&self.reservation),
            request: self.request,
            most: self.most,
            receipt_key: self.receipt_key.clone(),
            cancel: self.cancel.cancel(self.envelope),
        }
    }
}

impl Sealed {
    /// The job's id.
    pub fn job(&self) -> [u8; 16] {
        self.known.cap.cap.job
    }

    /// Hands the job to the proxy and waits for the head of the answer.
    pub async fn send(mut self, proxy: &Transport) -> Result<Answering, ClientError> {
        let sent_at = Instant::now();
        let unfinished = self.known.unfinished(proxy.clone());
        self.known.ending.arm(unfinished)?;
        let shared = self.known.session.shared();
        let deadlines = Deadlines {
            first: later(sent_at, shared.first_token_ms.min(shared.deadline_ms)),
            whole: later(sent_at, shared.deadline_ms),
        };
        let ask = transport::Ask {
            method: "POST",
            path: "/v1/sealed",
            content_type: "application/vnd.chrysalis.sealed",
            authorization: "",
            body: self.body,
        };
        let stream = proxy
            .open(ask, deadlines.first)
            .await
            .map_err(|error| match error {
                TransportError::Timeout => {
                    ClientError::Deadline("no answer to the job in time".into())
                }
                other => {
                    if let TransportError::Connect { .. } = other {
                        self.known.ending.forget();
                    }
                    proxy_error("job", other, Executed::Maybe)
                }
            })?;
        match stream.status {
            200 => Ok(Answering::new(
                self.known,
                self.opener,
                stream,
                sent_at,
                deadlines,
            )),
            status => {
                // A guest that its proxy gave up on may still make something, which is owed then.
                if !matches!(status, 502 | 504) {
                    self.known.ending.forget();
                }
                let body = stream.rest(16 * 1024, deadlines.whole).await;
                // Unsigned: whether it ran stays unknown. A guest that ran it all the same is not paid: nobody asks for its receipt.
                Err(proxy_refused("job", status, &body, Executed::Maybe))
            }
        }
    }
}

/// Until when to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) first: Instant,
    pub(crate) whole: Instant,
}

fn later(from: Instant, ms: u32) -> Instant {
    from + Duration::from_millis(ms.into()) + DEADLINE_GRACE
}
