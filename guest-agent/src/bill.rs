//! What a job has used, from its start to its receipt and charge.

use crate::epochs::Place;
use crate::exposure::{Reservation, Started};
use crate::job::Facts;
use settlement::{Charge, Nano};
use std::time::SystemTime;
use wire::{
    CoreDigest, Digest, Finish, ModelOffer, Receipt, ReceiptCore, Timings, Usage, core_digest,
};

const ENGINE: &str = concat!("chrysalis-engine/", env!("CARGO_PKG_VERSION"));

/// A job that has started. Dropped before its receipt is signed, it leaves its channel owing what it has used.
pub(crate) struct Bill {
    started: Started,
    offer: ModelOffer,
    step: Nano,
    most: Nano,
    usage: Usage,
}

/// How an answer ended.
pub(crate) struct Ended {
    /// The last link of the chain over its records.
    pub(crate) frames: Digest,
    /// How many records that are.
    pub(crate) events: u32,
    pub(crate) finish: Finish,
    pub(crate) timings: Timings,
    pub(crate) seed: Option<u64>,
}

impl Bill {
    /// The job starts. Reading `prompt` tokens is paid for from here on.
    pub(crate) fn start(facts: &Facts, reservation: Reservation, prompt: u32) -> Bill {
        let mut bill = Bill {
            started: reservation.start(Nano::ZERO),
            offer: facts.offer.clone(),
            step: facts.epoch.keyset.price_step,
            most: facts.envelope.cost_max,
            usage: Usage::default(),
        };
        bill.used(prompt, 0);
        bill
    }

    /// So much was used so far.
    pub(crate) fn used(&mut self, prompt: u32, completion: u32) {
        self.usage = Usage {
            prompt,
            cached: 0,
            completion,
        };
        self.started.made(self.cost());
    }

    /// So many completion tokens more.
    pub(crate) fn completed(&mut self, more: u32) {
        self.used(self.usage.prompt, self.usage.completion + more);
    }

    /// The engine failed: nothing is owed.
    pub(crate) fn forgive(self) {
        self.started.forgive();
    }

    fn cost(&self) -> Nano {
        // Admission bounded the cost of the most that could be used, and this used no more.
        let cost = self.offer.prices.cost(&self.usage, self.step);
        cost.unwrap_or(self.most).min(self.most)
    }

    /// Charges the channel, and signs the receipt in its place in the chain.
    pub(crate) fn sign(self, facts: &Facts, ended: Ended) -> Receipt {
        let (core, epoch) = (self.core(facts, ended), &facts.epoch);
        let cost = core.cost;
        let sign = |voucher_high, place: Place| {
            let core = ReceiptCore {
                sequence: place.number,
                previous: place.previous,
                voucher_high,
                ..core
            };
            let charge = Charge {
                cap: facts.envelope.cap(),
                stake: epoch.keyset.stake,
                // Filled in with the core's digest.
                receipt_hash: [0; 32],
                seq: core.sequence,
                cost: core.cost,
                cumulative: place.cumulative,
            };
            (
                core_digest(&core),
                Receipt::sign(core, charge, &epoch.keys.receipt),
            )
        };
        self.started
            .charge(|voucher| epoch.place(facts.channel, cost, |place| sign(voucher, place)))
    }

    /// What the receipt says, without its place in the chain.
    fn core(&self, facts: &Facts, ended: Ended) -> ReceiptCore {
        let (keyset, offer) = (&facts.epoch.keyset, &self.offer);
        ReceiptCore {
            version: 1,
            sequence: 0,
            previous: CoreDigest::default(),
            keyset: facts.epoch.digest,
            registers: keyset.registers,
            gpus: keyset.gpus.clone(),
            engine: ENGINE.into(),
            job: facts.envelope.job,
            parent: facts.parent,
            envelope: facts.envelope_digest,
            endpoint: facts.envelope.endpoint,
            model: offer.id.clone(),
            model_root: offer.root,
            tokenizer: offer.tokenizer,
            quantisation: offer.quantisation.clone(),
            request: facts.request,
            response: facts.commitments.response(ended.frames),
            events: ended.events,
            frames: ended.frames,
            finish: ended.finish,
            usage: self.usage,
            prices: offer.prices,
            cost: self.cost(),
            cost_max: facts.envelope.cost_max,
            chain: keyset.chain,
            channel: facts.channel,
            voucher_high: Nano::ZERO,
            timings: ended.timings,
            claimed_at_unix_s: unix_s(),
            class: facts.envelope.class.clone(),
            seed: ended.seed,
            determinism: offer.determinism.clone(),
        }
    }
}

/// The guest's wall clock belongs to its host: this is a claim, and labelled so.
fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
