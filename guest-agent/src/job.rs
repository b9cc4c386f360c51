//! A job's admission: from the bytes of an unauthenticated peer to work that may run, or a code that says why not.
//!
//! The order matters: the payer's signature is checked before anything that costs memory or a decapsulation, the job is
//! recorded as seen before anything is signed about it, and its cost is reserved before anything is computed.

use crate::boot::Keys;
use crate::exposure::{Exposure, Reservation};
use crate::models::{Model, Models};
use crate::replay::ReplayCache;
use engine::{Chat, Embedder, Sampling};
use rand_core::CryptoRng;
use settlement::{Address, SignedVoucher, limits as bounds};
use std::sync::{Arc, Mutex};
use wire::{
    Ask, ChatRequest, Commitments, Digest, Envelope, EnvelopeDigest, EnvelopeRefused, Keyset,
    KeysetDigest, ModelOffer, OpenedJob, RefusalCode, Request, ResponseSealer, SealError,
    SignedEnvelope, Subject, UnreadDigest, Usage, open_job,
};

/// What admission decides by: the keys and models of this boot, jobs seen, and what channels owe.
pub(crate) struct Admission {
    pub(crate) keyset: Keyset,
    pub(crate) keyset_digest: KeysetDigest,
    pub(crate) keys: Keys,
    pub(crate) models: Models,
    pub(crate) replay: Mutex<ReplayCache>,
    pub(crate) exposure: Exposure,
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
}

/// What is to be computed, in tokens that the model has.
pub(crate) enum Work {
    /// Embeddings of these texts.
    Embeddings {
        model: Arc<Embedder>,
        inputs: Vec<Vec<u32>>,
    },
    /// A completion of this prompt, which also ends with any of `stops`.
    Chat {
        model: Arc<Chat>,
        prompt: Vec<u32>,
        stops: Vec<Vec<u32>>,
        sampling: Sampling,
    },
}

/// A job whose payer is proven and which is recorded as seen: it is admitted now or never.
pub(crate) struct Screened<'a> {
    envelope: SignedEnvelope,
    sealed: &'a [u8],
}

/// A refusal and what it refuses.
///
/// What its payer did not sign is refused as bytes: else a host could break a signature, or send a part of an envelope, be told in
/// writing that the true job was not started, and start it afterwards.
pub(crate) type Refused = (Subject, RefusalCode);

impl Screened<'_> {
    /// Refuses it.
    pub(crate) fn refused(&self, code: RefusalCode) -> Refused {
        (Subject::Envelope(self.envelope.digest()), code)
    }
}

impl Admission {
    /// Checks the payer's signature over this envelope and this encapsulated key. Then the job is recorded as seen, so
    /// that whatever is signed about it later stays true. Nothing is remembered of what no payer signed.
    pub(crate) fn screen<'a>(
        &self,
        bytes: &[u8],
        sealed: &'a [u8],
    ) -> Result<Screened<'a>, Refused> {
        let unauthenticated = |code| (Subject::Unread(UnreadDigest::of(bytes)), code);
        let envelope =
            SignedEnvelope::decode(bytes).map_err(|_| unauthenticated(RefusalCode::Envelope))?;
        let enc =
            OpenedJob::encapsulated_key(sealed).map_err(|_| unauthenticated(RefusalCode::Seal))?;
        let job = match envelope.verify(enc) {
            Ok(envelope) => envelope.job,
            Err(EnvelopeRefused::Signature | EnvelopeRefused::Cap) => {
                return Err(unauthenticated(RefusalCode::EnvelopeSignature));
            }
            Err(EnvelopeRefused::Malformed(_)) => {
                return Err(unauthenticated(RefusalCode::Envelope));
            }
        };
        let mut replay = self
            .replay
            .lock()
            .expect("no holder of this lock can panic: it only inserts");
        replay
            .admit(enc, job)
            .map_err(|code| (Subject::Envelope(envelope.digest()), code))?;
        Ok(Screened { envelope, sealed })
    }

    /// Admits a screened job or says why not.
    pub(crate) fn admit(
        &self,
        screened: Screened<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admitted, Refused> {
        let name = Subject::Envelope(screened.envelope.digest());
        self.admit_inner(screened, rng).map_err(|code| (name, code))
    }

    fn admit_inner(
        &self,
        screened: Screened<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admitted, RefusalCode> {
        let Screened {
            envelope: signed,
            sealed,
        } = screened;
        let envelope = signed.unverified();
        // 1. What is asked for, and on whose terms.
        let offer = self.offer(envelope)?;
        self.check_terms(envelope)?;
        let channel = envelope.channel();
        if envelope.sealed_bytes as usize != sealed.len() {
            return Err(RefusalCode::Seal);
        }
        // 2. The seal.
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
        // 3. The work and the most it may cost.
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
        // 4. The money.
        self.note_voucher(envelope, channel)?;
        let reservation = self.exposure.reserve(channel, most)?;
        let facts = Facts {
            envelope_digest: signed.digest(),
            parent,
            offer: offer.clone(),
            request: opened.commitments.request(&opened.request.body),
            commitments: opened.commitments,
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

    /// A voucher in the envelope must be the payer's, for this chain and channel.
    fn note_voucher(&self, envelope: &Envelope, channel: Address) -> Result<(), RefusalCode> {
        let Some(bytes) = &envelope.voucher else {
            return Ok(());
        };
        let voucher =
            SignedVoucher::decode(bytes).and_then(|v| v.verify(&envelope.terms.payer_key));
        let voucher = voucher.map_err(|_| RefusalCode::Voucher)?;
        if voucher.chain != envelope.terms.chain || voucher.channel != channel {
            return Err(RefusalCode::Voucher);
        }
        self.exposure.voucher(channel, voucher.cumulative);
        Ok(())
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
    let ChatRequest { prompt, stops, .. } = request;
    model
        .check_prompt(&prompt)
        .map_err(|_| RefusalCode::Request)?;
    if !stops.iter().fold(true, |all, stop| all & model.has(stop)) {
        return Err(RefusalCode::Request);
    }
    let prompt_count = u32::try_from(prompt.len()).map_err(|_| RefusalCode::Request)?;
    let room = offer
        .context_tokens
        .checked_sub(prompt_count)
        .filter(|room| *room > 0)
        .ok_or(RefusalCode::Request)?;
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed.unwrap_or_else(|| rng.next_u64()),
        tokens_max: request.tokens_max.min(room),
    };
    let most = Usage {
        prompt: prompt_count,
        cached: 0,
        completion: sampling.tokens_max,
    };
    let work = Work::Chat {
        model,
        prompt,
        stops,
        sampling,
    };
    Ok((work, most))
}

// What a client may ask for, the model takes.
const _: () = assert!(model::limits::COMPLETION_TOKENS_MAX >= wire::limits::COMPLETION_TOKENS_MAX);
