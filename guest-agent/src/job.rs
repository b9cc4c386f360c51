//! A job's admission: from the bytes of an unauthenticated peer to work that may run, or a code that says why not.
//!
//! The order matters: the payer's signature and all that can never change under these keys are checked before anything that costs
//! memory or a decapsulation, the job is recorded as seen before anything else is signed about it, and its cost is reserved before
//! anything is computed.

use crate::epochs::{Epoch, Epochs};
use crate::exposure::{Exposure, Promised, Reservation};
use crate::gpu::Gpu;
use crate::jobs::Jobs;
use crate::models::{Chat, Completion, Encoder, Model, Models};
use rand_core::CryptoRng;
use settlement::{Address, Nano, SignedVoucher, limits as bounds};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::{
    Ask, CancelSecret, ChatRequest, Commitments, Digest, Envelope, EnvelopeDigest, EnvelopeRefused,
    Keyset, ModelOffer, OpenedJob, Pair, Random, ReceiptKey, RefusalCode, Request, ResponseSealer,
    SealError, SignedEnvelope, Subject, UnreadDigest, Usage, VerifiedEnvelope, open_job,
};

/// What admission decides by: the epochs and models of this boot, and what channels owe.
pub(crate) struct Admission {
    pub(crate) epochs: Epochs,
    pub(crate) models: Models,
    pub(crate) exposure: Exposure,
    pub(crate) jobs: Jobs,
    pub(crate) gpu: Option<Arc<Gpu>>,
    pub(crate) random: Random,
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
    pub(crate) epoch: Arc<Epoch>,
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
    /// Between two records, in milliseconds.
    pub(crate) fn interval_ms(&self) -> u16 {
        self.epoch.keyset.padding.interval_ms.max(1)
    }

    /// When the answer must have ended.
    pub(crate) fn deadline(&self, arrived: Instant) -> Instant {
        arrived + Duration::from_millis(self.envelope.deadline_ms.into()).min(JOB_TIME_MAX)
    }
}

/// The longest that a job may take, whatever its client would wait: a stream is not held for longer.
const JOB_TIME_MAX: Duration = Duration::from_secs(3_600);

/// What is to be computed, in tokens that the model has.
pub(crate) enum Work {
    /// Numbers of these texts: vectors, or scores of pairs.
    Vectors { model: Encoder, inputs: Vec<Pair> },
    /// A completion.
    Chat {
        completion: Completion,
        prompt: u32,
        seed: u64,
        logprobs: Option<u8>,
    },
}

impl Work {
    /// Tokens that are read as soon as it starts. Texts to encode are read one by one.
    pub(crate) fn prefill(&self) -> u32 {
        match self {
            Work::Vectors { .. } => 0,
            Work::Chat { prompt, .. } => *prompt,
        }
    }

    /// What the sampling is repeatable by.
    pub(crate) fn seed(&self) -> Option<u64> {
        match self {
            Work::Vectors { .. } => None,
            Work::Chat { seed, .. } => Some(*seed),
        }
    }

    /// Alternatives that come with log probabilities, if these are asked for.
    pub(crate) fn logprobs(&self) -> Option<u8> {
        match self {
            Work::Vectors { .. } => None,
            Work::Chat { logprobs, .. } => *logprobs,
        }
    }
}

/// A job whose payer is proven and which is recorded as seen: it is admitted now or never.
pub(crate) struct Screened<'a> {
    pub(crate) epoch: Arc<Epoch>,
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

/// A refusal, what it refuses, and under whose keys it is signed: those that its client sealed to, while they are alive.
///
/// What its payer did not sign is refused as bytes: else a host could break a signature, or send a part of an envelope, be told in
/// writing that the true job was not started, and start it afterwards.
pub(crate) type Refused = (Subject, RefusalCode, Arc<Epoch>);

impl Admission {
    /// Checks the payer's signature over this envelope and this encapsulated key, and what can never change under these keys: keyset,
    /// model, the channel's terms. Then the job is recorded as seen, so that whatever is signed about it later stays true. Nothing is
    /// remembered of what no payer signed.
    pub(crate) fn screen<'a>(&self, offered: &Offered<'a>) -> Result<Screened<'a>, Refused> {
        let subject = Subject::Unread(UnreadDigest::of(offered.envelope));
        let newest = || self.epochs.newest();
        let envelope = SignedEnvelope::decode(offered.envelope)
            .map_err(|_| (subject, RefusalCode::Envelope, newest()))?;
        let named = self.epochs.of(&envelope.unverified().keyset);
        let signer = named.clone().unwrap_or_else(newest);
        let unread = |code| (subject, code, signer.clone());
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
        let refuse = |code| (Subject::Envelope(envelope.digest()), code, signer.clone());
        let epoch = named.ok_or_else(|| refuse(RefusalCode::StaleKeyset))?;
        let (channel, promised) = self
            .screen_signed(&epoch, &content, enc, offered.voucher)
            .map_err(refuse)?;
        Ok(Screened {
            epoch,
            envelope,
            sealed: offered.sealed,
            channel,
            promised,
        })
    }

    fn screen_signed(
        &self,
        epoch: &Epoch,
        envelope: &VerifiedEnvelope<'_>,
        enc: &[u8],
        payees: Option<&[u8]>,
    ) -> Result<(Address, Promised), RefusalCode> {
        offer(&epoch.keyset, envelope)?;
        check_terms(&epoch.keyset, envelope)?;
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
        let mut replay = epoch.replay();
        if settled {
            replay.ran(&channel);
        }
        replay.admit(enc, envelope.job, &channel, pays)?;
        Ok((channel, Promised { highest, told }))
    }

    /// Why this guest serves nothing any more: its GPU is lost, or what computes on it.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.gpu.as_ref()?.lost.why()
    }

    /// Refuses a screened job.
    pub(crate) fn refuse(&self, screened: &Screened<'_>, code: RefusalCode) -> Refused {
        screened.epoch.replay().ran_not(screened.channel);
        let subject = Subject::Envelope(screened.envelope.digest());
        (subject, code, screened.epoch.clone())
    }

    /// Admits a screened job or says why not.
    pub(crate) fn admit(
        &self,
        screened: Screened<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admitted, Refused> {
        let admitted = self.admit_inner(&screened, rng);
        let admitted = admitted.map_err(|code| self.refuse(&screened, code))?;
        screened.epoch.replay().ran(&screened.channel);
        Ok(admitted)
    }

    fn admit_inner(
        &self,
        screened: &Screened<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admitted, RefusalCode> {
        let Screened {
            epoch,
            envelope: signed,
            sealed,
            channel,
            promised,
        } = screened;
        let (envelope, channel) = (signed.unverified(), *channel);
        let offer = offer(&epoch.keyset, envelope)?;
        // 1. The seal.
        let opened =
            open_job(&epoch.keys.sealing, sealed, signed.digest(), rng).map_err(|refused| {
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
            .cost(&usage_max, epoch.keyset.price_step)
            .ok_or(RefusalCode::CostMax)?;
        if most > envelope.cost_max {
            return Err(RefusalCode::CostMax);
        }
        // 3. The money.
        self.exposure.see(channel, *promised)?;
        let reservation = self.exposure.reserve(channel, most)?;
        let facts = Facts {
            epoch: epoch.clone(),
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
}

/// The model that an envelope names, as this keyset offers it.
fn offer<'a>(keyset: &'a Keyset, envelope: &Envelope) -> Result<&'a ModelOffer, RefusalCode> {
    let offer = keyset.model(&envelope.model).ok_or(RefusalCode::Model)?;
    let same = offer.root == envelope.model_root && offer.endpoint == envelope.endpoint;
    match same {
        true => Ok(offer),
        false => Err(RefusalCode::Model),
    }
}

/// The channel must pay this keyset's payee, and leave time to claim. Its address and the payer's key are functions of these terms.
fn check_terms(keyset: &Keyset, envelope: &Envelope) -> Result<(), RefusalCode> {
    let terms = &envelope.terms;
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
        (Model::Encoder(model @ Encoder::Embedder(_)), Ask::Embeddings(inputs)) => {
            let whole = |tokens: Vec<u32>| Pair {
                first: tokens.len() as u32,
                tokens,
            };
            encoder_work(model, offer, inputs.into_iter().map(whole).collect())
        }
        (Model::Encoder(model @ Encoder::Scorer(_)), Ask::Rerank(pairs)) => {
            encoder_work(model, offer, pairs)
        }
        (Model::Chat(model), Ask::Chat(request)) => chat_work(model, offer, request, rng),
        _ => Err(RefusalCode::Model),
    }
}

fn encoder_work(
    model: Encoder,
    offer: &ModelOffer,
    inputs: Vec<Pair>,
) -> Result<(Work, Usage), RefusalCode> {
    let context = offer.context_tokens as usize;
    let fits = |text: &Pair| text.tokens.len() <= context && model.takes(text);
    if !inputs.iter().all(fits) {
        return Err(RefusalCode::Request);
    }
    let prompt = inputs.iter().map(|text| text.tokens.len()).sum::<usize>();
    let most = Usage {
        prompt: u32::try_from(prompt).map_err(|_| RefusalCode::Request)?,
        cached: 0,
        completion: 0,
    };
    Ok((Work::Vectors { model, inputs }, most))
}

fn chat_work(
    model: Arc<Chat>,
    offer: &ModelOffer,
    mut request: ChatRequest,
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
    request.tokens_max = request.tokens_max.min(room);
    let seed = *request.seed.get_or_insert_with(|| rng.next_u64());
    let most = Usage {
        prompt: prompt_count,
        cached: 0,
        completion: request.tokens_max,
    };
    let logprobs = request.logprobs;
    let work = Work::Chat {
        completion: model
            .completion(request)
            .map_err(|_| RefusalCode::Request)?,
        prompt: prompt_count,
        seed,
        logprobs,
    };
    Ok((work, most))
}

// What a client may ask for, the model takes.
const _: () = assert!(model::limits::COMPLETION_TOKENS_MAX >= wire::limits::COMPLETION_TOKENS_MAX);
