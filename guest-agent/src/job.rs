//! A job's admission: from the bytes of an unauthenticated peer to work that may run, or a code that says why not.
//!
//! The order matters: the payer's signature and all that can never change under these keys are checked before anything that costs
//! memory or a decapsulation, the job is recorded as seen before anything else is signed about it, and its cost is reserved before
//! anything is computed.

use crate::boot::Keys;
use crate::exposure::{Exposure, Promised, Reservation};
use crate::jobs::Jobs;
use crate::models::{Chat, Model, Models};
use crate::replay::ReplayCache;
use engine::Embedder;
use engine::cache::Prefix;
use engine::sampling::{Automaton, Constraints, Sampling};
use engine::scheduler::Job;
use rand_core::CryptoRng;
use settlement::{Address, Nano, SignedVoucher, limits as bounds};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use wire::{
    Ask, CancelSecret, ChatRequest, Commitments, Digest, Envelope, EnvelopeDigest, EnvelopeRefused,
    Keyset, KeysetDigest, ModelOffer, OpenedJob, ReceiptKey, RefusalCode, Request, ResponseSealer,
    SealError, SignedEnvelope, Subject, UnreadDigest, Usage, open_job,
};

/// What admission decides by: the keys and models of this boot, jobs seen, and what channels owe.
pub(crate) struct Admission {
    pub(crate) keyset: Keyset,
    pub(crate) keyset_digest: KeysetDigest,
    pub(crate) keys: Keys,
    pub(crate) models: Models,
    pub(crate) replay: Mutex<ReplayCache>,
    pub(crate) exposure: Exposure,
    pub(crate) jobs: Jobs,
}

/// A job that may run.
pub(crate) struct Admitted {
    pub(crate) facts: Facts,
    pub(crate) sealer: ResponseSealer,
    pub(crate) reservation: Reservation,
    pub(crate) work: Work,
}

/// What is known of a job before it runs; its receipt repeats it.
pub(crate) struct Facts {
    pub(crate) envelope: Envelope,
    pub(crate) channel: Address,
    pub(crate) envelope_digest: EnvelopeDigest,
    pub(crate) parent: Option<[u8; 16]>,
    pub(crate) offer: ModelOffer,
    pub(crate) request: Digest,
    pub(crate) commitments: Commitments,
    pub(crate) receipt_key: ReceiptKey,
    pub(crate) cancel: CancelSecret,
}

impl Facts {
    /// When the answer must have ended.
    pub(crate) fn deadline(&self, arrived: Instant) -> Instant {
        arrived + Duration::from_millis(self.envelope.deadline_ms.into()).min(JOB_TIME_MAX)
    }
}

/// The longest that a job may take, whatever its client would wait: a stream is not held for longer.
const JOB_TIME_MAX: Duration = Duration::from_secs(3_600);

/// What is to be computed, in tokens that the model has.
pub(crate) enum Work {
    /// Embeddings of these texts.
    Embeddings {
        model: Arc<Embedder>,
        inputs: Vec<Vec<u32>>,
    },
    /// A completion.
    Chat {
        model: Arc<Chat>,
        job: Box<Job>,
        seed: u64,
        logprobs: Option<u8>,
    },
}

impl Work {
    /// Tokens that are read as soon as it starts. Texts to embed are read one by one.
    pub(crate) fn prefill(&self) -> u32 {
        match self {
            Work::Embeddings { .. } => 0,
            Work::Chat { job, .. } => job.prompt.len() as u32,
        }
    }

    /// What the sampling is repeatable by.
    pub(crate) fn seed(&self) -> Option<u64> {
        match self {
            Work::Embeddings { .. } => None,
            Work::Chat { seed, .. } => Some(*seed),
        }
    }

    /// Alternatives that come with log probabilities, if these are asked for.
    pub(crate) fn logprobs(&self) -> Option<u8> {
        match self {
            Work::Embeddings { .. } => None,
            Work::Chat { logprobs, .. } => *logprobs,
        }
    }
}

/// A job whose payer is proven and which is recorded as seen: it is admitted now or never.
pub(crate) struct Screened<'a> {
    envelope: SignedEnvelope,
    sealed: &'a [u8],
    channel: Address,
    promised: Promised,
}

/// A job as the proxy hands it over: bytes of whose origin nothing is known.
pub(crate) struct Offered<'a> {
    pub(crate) envelope: &'a [u8],
    pub(crate) sealed: &'a [u8],
    /// The highest voucher that the payee holds of the channel, empty if it holds none.
    pub(crate) voucher: Option<&'a [u8]>,
}

/// A refusal and what it refuses.
///
/// What its payer did not sign is refused as bytes: else a host could break a signature, or send a part of an envelope, be told in
/// writing that the true job was not started, and start it afterwards.
pub(crate) type Refused = (Subject, RefusalCode);

impl Admission {
    /// Checks the payer's signature over this envelope and this encapsulated key, and what can never change under these keys: keyset,
    /// model, the channel's terms. Then the job is recorded as seen, so that whatever is signed about it later stays true. Nothing is
    /// remembered of what no payer signed.
    pub(crate) fn screen<'a>(&self, offered: &Offered<'a>) -> Result<Screened<'a>, Refused> {
        let subject = Subject::Unread(UnreadDigest::of(offered.envelope));
        let unread = |code| (subject, code);
        let envelope =
            SignedEnvelope::decode(offered.envelope).map_err(|_| unread(RefusalCode::Envelope))?;
        let enc =
            OpenedJob::encapsulated_key(offered.sealed).map_err(|_| unread(RefusalCode::Seal))?;
        let content = envelope.verify(enc).map_err(|refused| {
            unread(match refused {
                EnvelopeRefused::Malformed(_) => RefusalCode::Envelope,
                EnvelopeRefused::Signature | EnvelopeRefused::Cap => RefusalCode::EnvelopeSignature,
            })
        })?;
        if content.sealed_bytes as usize != offered.sealed.len() {
            return Err(unread(RefusalCode::Seal));
        }
        let (channel, promised) = self
            .screen_signed(content, enc, offered.voucher)
            .map_err(|code| (Subject::Envelope(envelope.digest()), code))?;
        Ok(Screened {
            envelope,
            sealed: offered.sealed,
            channel,
            promised,
        })
    }

    fn screen_signed(
        &self,
        envelope: &Envelope,
        enc: &[u8],
        payees: Option<&[u8]>,
    ) -> Result<(Address, Promised), RefusalCode> {
        self.offer(envelope)?;
        self.check_terms(envelope)?;
        let channel = envelope.channel();
        let voucher = |bytes| promised(envelope, channel, bytes);
        let enclosed = envelope.voucher.as_deref().map(voucher);
        let enclosed = enclosed.transpose()?.unwrap_or(Nano::ZERO);
        // What the payee holds tells what was promised before this boot. One that hands over something else harms itself.
        let payees = payees.and_then(|bytes| match bytes {
            [] => Some(Nano::ZERO),
            bytes => voucher(bytes).ok(),
        });
        let held = payees.unwrap_or(Nano::ZERO);
        let (highest, told) = (enclosed.max(held), payees.is_some());
        let settled = self.exposure.pay(&channel, highest);
        let pays = held > Nano::ZERO || self.exposure.pays(&channel);
        let mut replay = self.replay();
        if settled {
            replay.ran(&channel);
        }
        replay.admit(enc, envelope.job, &channel, pays)?;
        Ok((channel, Promised { highest, told }))
    }

    /// Refuses a screened job.
    pub(crate) fn refuse(&self, screened: &Screened<'_>, code: RefusalCode) -> Refused {
        self.replay().ran_not(screened.channel);
        (Subject::Envelope(screened.envelope.digest()), code)
    }

    fn replay(&self) -> MutexGuard<'_, ReplayCache> {
        self.replay
            .lock()
            .expect("no holder of this lock can panic: it only inserts")
    }

    /// Admits a screened job or says why not.
    pub(crate) fn admit(
        &self,
        screened: Screened<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admitted, Refused> {
        let admitted = self.admit_inner(&screened, rng);
        let admitted = admitted.map_err(|code| self.refuse(&screened, code))?;
        self.replay().ran(&screened.channel);
        Ok(admitted)
    }

    fn admit_inner(
        &self,
        screened: &Screened<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admitted, RefusalCode> {
        let Screened {
            envelope: signed,
            sealed,
            channel,
            promised,
        } = screened;
        let (envelope, channel) = (signed.unverified(), *channel);
        let offer = self.offer(envelope)?;
        // 1. The seal.
        let opened =
            open_job(&self.keys.sealing, sealed, signed.digest(), rng).map_err(|refused| {
                match refused {
                    SealError::EnvelopeDigest { .. } => RefusalCode::EnvelopeDigest,
                    SealError::Message(_) => RefusalCode::Request,
                    _ => RefusalCode::Seal,
                }
            })?;
        if opened.request.endpoint != envelope.endpoint {
            return Err(RefusalCode::Request);
        }
        // 2. The work and the most it may cost.
        let model = self.models.get(&offer.id).ok_or(RefusalCode::Model)?;
        let request = Request::decode(envelope.endpoint, &opened.request.body)
            .map_err(|_| RefusalCode::Request)?;
        if request.model_root != envelope.model_root {
            return Err(RefusalCode::Model);
        }
        let parent = request.parent;
        let (work, usage_max) = work(model, offer, request.ask, rng)?;
        let most = offer
            .prices
            .cost(&usage_max, self.keyset.price_step)
            .ok_or(RefusalCode::CostMax)?;
        if most > envelope.cost_max {
            return Err(RefusalCode::CostMax);
        }
        // 3. The money.
        self.exposure.see(channel, *promised)?;
        let reservation = self.exposure.reserve(channel, most)?;
        let facts = Facts {
            envelope_digest: signed.digest(),
            parent,
            offer: offer.clone(),
            request: opened.commitments.request(&opened.request.body),
            commitments: opened.commitments,
            receipt_key: opened.receipt_key,
            cancel: opened.cancel,
            envelope: envelope.clone(),
            channel,
        };
        Ok(Admitted {
            facts,
            sealer: opened.sealer,
            reservation,
            work,
        })
    }

    fn offer(&self, envelope: &Envelope) -> Result<&ModelOffer, RefusalCode> {
        if envelope.keyset != self.keyset_digest {
            return Err(RefusalCode::StaleKeyset);
        }
        let offer = self
            .keyset
            .model(&envelope.model)
            .ok_or(RefusalCode::Model)?;
        let same = offer.root == envelope.model_root && offer.endpoint == envelope.endpoint;
        if same {
            Ok(offer)
        } else {
            Err(RefusalCode::Model)
        }
    }

    /// The channel must pay this keyset's payee, and leave time to claim. Its address and the payer's key are functions of these terms.
    fn check_terms(&self, envelope: &Envelope) -> Result<(), RefusalCode> {
        let (terms, keyset) = (&envelope.terms, &self.keyset);
        if terms.chain != keyset.chain {
            return Err(RefusalCode::Chain);
        }
        if (terms.payee, terms.payee_key) != (keyset.payee, keyset.payee_key) {
            return Err(RefusalCode::Payee);
        }
        // Without a clock that it may trust, a guest leaves the rest of the rule to its payee's proxy.
        terms.check().map_err(|_| RefusalCode::CloseDelay {
            got_s: terms.close_delay_s,
            min_s: bounds::CLOSE_DELAY_S_MIN,
            max_s: bounds::CLOSE_DELAY_S_MAX,
        })
    }
}

/// What a voucher promises. It must be the payer's, for this chain and channel.
fn promised(envelope: &Envelope, channel: Address, bytes: &[u8]) -> Result<Nano, RefusalCode> {
    let voucher = SignedVoucher::decode(bytes).and_then(|v| v.verify(&envelope.terms.payer_key));
    let voucher = voucher.map_err(|_| RefusalCode::Voucher)?;
    match voucher.chain == envelope.terms.chain && voucher.channel == channel {
        true => Ok(voucher.cumulative),
        false => Err(RefusalCode::Voucher),
    }
}

/// The work that the request inside the seal asks for, and the most it may use. Its prompt tokens are those that the client
/// sealed, so that both sides know the same number before anything runs.
fn work(
    model: Model,
    offer: &ModelOffer,
    ask: Ask,
    rng: &mut impl CryptoRng,
) -> Result<(Work, Usage), RefusalCode> {
    match (model, ask) {
        (Model::Embedder(model), Ask::Embeddings(inputs)) => {
            let context = offer.context_tokens as usize;
            let fits = |input: &Vec<u32>| input.len() <= context && model.check(input).is_ok();
            if !inputs.iter().all(fits) {
                return Err(RefusalCode::Request);
            }
            let prompt = inputs.iter().map(Vec::len).sum::<usize>();
            let most = Usage {
                prompt: u32::try_from(prompt).map_err(|_| RefusalCode::Request)?,
                cached: 0,
                completion: 0,
            };
            Ok((Work::Embeddings { model, inputs }, most))
        }
        (Model::Chat(model), Ask::Chat(request)) => chat_work(model, offer, request, rng),
        _ => Err(RefusalCode::Model),
    }
}

fn chat_work(
    model: Arc<Chat>,
    offer: &ModelOffer,
    request: ChatRequest,
    rng: &mut impl CryptoRng,
) -> Result<(Work, Usage), RefusalCode> {
    // What this version does not compute is refused, never left out.
    if request.unsupported().is_some() {
        return Err(RefusalCode::Request);
    }
    let prompt_count = u32::try_from(request.prompt.len()).map_err(|_| RefusalCode::Request)?;
    let room = offer.context_tokens.saturating_sub(prompt_count);
    let room = model.room(&request.prompt).min(room as usize) as u32;
    if prompt_count == 0 || room == 0 {
        return Err(RefusalCode::Request);
    }
    if !model.has_all(&request) {
        return Err(RefusalCode::Request);
    }
    let sampling = Sampling {
        temperature: request.temperature,
        top_k: request.top_k,
        top_p: request.top_p,
        min_p: request.min_p,
        repetition: request.repetition,
        presence: request.presence,
        frequency: request.frequency,
        seed: request.seed.unwrap_or_else(|| rng.next_u64()),
        logprobs: request.logprobs,
        tokens_max: request.tokens_max.min(room),
    };
    let most = Usage {
        prompt: prompt_count,
        cached: 0,
        completion: sampling.tokens_max,
    };
    let tokens = &model.tokens;
    let grammar = Some(&request.grammar).filter(|words| !words.is_empty());
    let grammar = grammar.map(|words| Automaton::parse(tokens.path, words, tokens.size));
    let grammar = grammar.transpose().map_err(|_| RefusalCode::Request)?;
    let constraints = Constraints {
        bias: &request.bias,
        stops: &request.stops,
        grammar: grammar.as_ref(),
        ..Constraints::default()
    };
    let job = tokens.job(request.prompt, sampling, constraints);
    let mut job = job.map_err(|_| RefusalCode::Request)?;
    job.prefix = request.prefix.map(|(handle, tokens)| Prefix {
        handle,
        tokens: tokens as usize,
    });
    let work = Work::Chat {
        job: Box::new(job),
        seed: sampling.seed,
        logprobs: sampling.logprobs,
        model,
    };
    Ok((work, most))
}

// What a client may ask for, the model takes.
const _: () = assert!(model::limits::COMPLETION_TOKENS_MAX >= wire::limits::COMPLETION_TOKENS_MAX);
