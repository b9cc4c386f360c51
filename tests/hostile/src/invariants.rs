//! What must hold whatever the host does, judged by what all three parties wrote and by what the application was told.

use crate::faults::Fault;
use crate::host::Connection;
use crate::lies;
use crate::links::{Link, Route};
use crate::site::{COST_MAX, DEPOSIT, LIFETIME_S, WINDOW, site};
use crate::world::World;
use client::{Answer, ClientError, Executed};
use memchr::memmem;
use settlement::{Nano, SignedCharge, SignedVoucher};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use wire::{
    Bundle, Evidence, Finish, Frame, FrameKind, Keyset, KeysetDigest, SignedEnvelope,
    SignedRefusal, Subject,
};

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// A job, what should come of it, and what did.
pub struct Job {
    /// The user's message.
    pub prompt: String,
    /// Its tokens, template and all.
    pub prompt_ids: Vec<u32>,
    /// The text that the model says to it.
    pub text: String,
    /// The tokens of that, the one that ends it included.
    pub tokens: usize,
    /// Whether it ends by itself within what was asked for.
    pub ends: bool,
    /// When it was asked for.
    pub began: Duration,
    /// When its application knew.
    pub ended: Duration,
    /// Whether no other ran beside it.
    pub alone: bool,
    /// What the application saw of the text as it came.
    pub shown: String,
    /// What the application was told.
    pub told: Told,
}

/// What an application was told.
pub enum Told {
    /// An answer.
    Answered(Box<Answer>),
    /// Why there is none.
    Failed(ClientError),
    /// It did not wait.
    Left,
}

impl Told {
    /// Without anything random.
    pub fn name(&self) -> String {
        match self {
            Told::Answered(answer) => format!(
                "answered: {:?}, {} tokens, {} letters, delivered {}",
                answer.finish,
                answer.usage.completion,
                answer.text.len(),
                answer.delivered
            ),
            Told::Failed(error) => {
                let name = format!("{error:?}");
                let end = name
                    .find(|c: char| !c.is_alphanumeric())
                    .unwrap_or(name.len());
                format!("failed: {}, executed {:?}", &name[..end], error.executed())
            }
            Told::Left => "left".into(),
        }
    }
}

/// The longest that a request may take, by the deadlines of the client and the places where it waits: twice an attestation, an earlier
/// voucher's delivery, the job and its own voucher's delivery, and once the queue.
pub const CALL_MAX: Duration = Duration::from_secs(2 * (35 + 60 + 5 + 5 + 60) + 60);

/// What one exchange with a guest was, as its two ends wrote it.
struct Exchange {
    boot: usize,
    envelope: Option<SignedEnvelope>,
    voucher: Option<SignedVoucher>,
    down: Vec<Frame>,
}

/// Judges a story.
pub fn check(world: &World, jobs: &[Job], promised: Nano) -> Vec<Broken> {
    let state = world.state_bytes();
    world.host.with_connections(|connections| {
        let mut broken = Vec::new();
        broken.extend(jobs.iter().flat_map(told_truly));
        broken.extend(plaintext(jobs, connections, &state));
        let exchanges: Vec<Exchange> = connections.iter().filter_map(Exchange::of).collect();
        let books = Books::of(world, &exchanges, &mut broken);
        broken.extend(books.check(promised));
        broken.extend(sealed(&epochs(world, &exchanges), connections));
        broken.extend(jobs.iter().filter_map(|job| not_of_a_lie(job, connections)));
        broken.extend(paid(world, &books, promised));
        broken.extend(not_in_the_way(world, jobs));
        broken.extend(
            jobs.iter()
                .flat_map(|job| books.truly_not_executed(job, connections)),
        );
        broken.extend(
            jobs.iter()
                .filter_map(|job| books.ran_once(job, connections)),
        );
        broken
    })
}

/// All that guests charged.
pub fn charged(world: &World) -> u64 {
    world.host.with_connections(|connections| {
        let exchanges: Vec<Exchange> = connections.iter().filter_map(Exchange::of).collect();
        Books::of(world, &exchanges, &mut Vec::new()).total()
    })
}

/// An answer is whole, or reported as what it is; and it, or an error, comes in time.
fn told_truly(job: &Job) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, words: &str| {
        if !holds {
            broken.push(Broken(format!("{words}: {}", job.told.name())));
        }
    };
    must(job.ended - job.began <= CALL_MAX, "too late");
    must(
        job.text.starts_with(&job.shown),
        "an application is shown what the model did not say",
    );
    match &job.told {
        Told::Answered(answer) => {
            let whole = answer.text == job.text && answer.usage.completion as usize == job.tokens;
            let truly = match answer.finish {
                Finish::Stop => whole && job.ends,
                Finish::Length => whole && !job.ends,
                _ => job.text.starts_with(&answer.text),
            };
            must(truly, "an answer is not what the model said");
            must(
                answer.usage.prompt as usize == job.prompt_ids.len(),
                "the prompt is counted otherwise",
            );
        }
        Told::Failed(ClientError::Internal(_)) => must(false, "an error of no type"),
        Told::Failed(_) | Told::Left => {}
    }
    broken
}

/// What is sealed is nowhere on the way, nor in the host's files.
fn plaintext(jobs: &[Job], connections: &[Connection], state: &[u8]) -> Vec<Broken> {
    let mut needles: Vec<(&str, Vec<u8>)> = Vec::new();
    let four = |ids: &[u32]| -> Vec<u8> {
        let middle = ids.len().saturating_sub(4) / 2;
        ids[middle..]
            .iter()
            .take(4)
            .flat_map(|id| id.to_le_bytes())
            .collect()
    };
    for job in jobs {
        needles.push(("a prompt", job.prompt.as_bytes()[..16].to_vec()));
        needles.push(("a prompt's ids", four(&job.prompt_ids)));
        if job.text.len() >= 4 {
            let ids: Vec<u32> = job.text.bytes().map(|byte| 3 + u32::from(byte)).collect();
            needles.push(("an answer's ids", four(&ids)));
        }
        if job.text.len() >= 12 {
            needles.push(("an answer", job.text.as_bytes()[..12].to_vec()));
        }
    }
    let passed = connections
        .iter()
        .flat_map(|one| &one.given)
        .map(Vec::as_slice);
    let all: Vec<&[u8]> = passed.chain([state]).collect();
    let mut broken = Vec::new();
    for (what, needle) in needles {
        let finder = memmem::Finder::new(&needle);
        if all.iter().any(|bytes| finder.find(bytes).is_some()) {
            broken.push(Broken(format!("the host sees {what}")));
        }
    }
    broken
}

impl Exchange {
    fn of(connection: &Connection) -> Option<Exchange> {
        if connection.link != Link::Guest {
            return None;
        }
        let up = lies::frames(&connection.given[0]);
        let of = |kind: FrameKind| up.iter().find(|frame| frame.kind == kind);
        let envelope = of(FrameKind::OpenJob);
        let voucher = of(FrameKind::Voucher);
        Some(Exchange {
            boot: connection.boot,
            envelope: envelope.and_then(|frame| SignedEnvelope::decode(&frame.payload).ok()),
            voucher: voucher.and_then(|frame| SignedVoucher::decode(&frame.payload).ok()),
            down: lies::frames(&connection.given[1]),
        })
    }

    /// The keyset of the evidence that the guest gave, if this was a challenge.
    fn shown(&self) -> Option<Keyset> {
        let data = self
            .down
            .iter()
            .filter(|frame| frame.kind == FrameKind::Data);
        let bytes = data
            .flat_map(|frame| frame.payload.clone())
            .collect::<Vec<u8>>();
        Keyset::decode(&Evidence::decode(&bytes).ok()?.keyset).ok()
    }
}

/// The keysets of each guest so far, one of each of its epochs that anybody was shown.
fn epochs(world: &World, exchanges: &[Exchange]) -> Vec<Vec<Keyset>> {
    let mut boots: Vec<Vec<Keyset>> = world
        .keysets()
        .into_iter()
        .map(|first| vec![first])
        .collect();
    for exchange in exchanges {
        let boot = boots.get_mut(exchange.boot.wrapping_sub(1));
        if let (Some(boot), Some(keyset)) = (boot, exchange.shown())
            && !boot.contains(&keyset)
        {
            boot.push(keyset);
        }
    }
    boots
}

/// What guests signed.
struct Books {
    /// Charges, by the guest's key and number.
    charges: BTreeMap<([u8; 32], u64), SignedCharge>,
    /// Jobs by which they were charged for.
    charged: HashSet<[u8; 16]>,
}

impl Books {
    fn of(world: &World, exchanges: &[Exchange], broken: &mut Vec<Broken>) -> Books {
        let boots = epochs(world, exchanges);
        let payer_key = site().terms.payer_key;
        let mut must = |holds: bool, words: &str| {
            if !holds {
                broken.push(Broken(words.into()));
            }
        };
        let mut books = Books {
            charges: BTreeMap::new(),
            charged: HashSet::new(),
        };
        let (mut refused, mut envelopes) = (HashSet::new(), HashMap::new());
        let mut owed = HashMap::<[u8; 32], u64>::new();
        let mut shown = HashMap::<usize, u64>::new();
        for exchange in exchanges {
            let Some(keysets) = boots.get(exchange.boot.wrapping_sub(1)) else {
                continue;
            };
            let keys = keysets.iter().map(|keyset| keyset.receipt_key);
            if let Some(envelope) = &exchange.envelope {
                let content = envelope.unverified();
                envelopes.insert(content.job, (envelope.digest(), content.keyset));
                let enclosed = envelope.unverified().voucher.as_deref();
                let enclosed = enclosed.and_then(|bytes| SignedVoucher::decode(bytes).ok());
                for voucher in enclosed.iter().chain(&exchange.voucher) {
                    let signed = voucher.verify(&payer_key).is_ok();
                    must(signed, "the proxy keeps a voucher that nobody signed");
                    let highest = shown.entry(exchange.boot).or_default();
                    *highest = voucher.voucher.cumulative.0.max(*highest);
                }
            }
            for frame in &exchange.down {
                match frame.kind {
                    FrameKind::Refused => {
                        let refusal = SignedRefusal::decode(&frame.payload).ok();
                        let by = |key| Some((key, refusal.as_ref()?.verify(&key)?));
                        match keys.clone().find_map(by) {
                            Some((key, (Subject::Envelope(of), code)))
                                if code.proves_not_started() =>
                            {
                                refused.insert((of, key));
                            }
                            Some(_) => {}
                            None => must(false, "a refusal of the guest is not signed"),
                        }
                    }
                    FrameKind::Charge => {
                        let Ok(charge) = SignedCharge::decode(&frame.payload) else {
                            must(false, "a charge of the guest cannot be read");
                            continue;
                        };
                        let signer = keys
                            .clone()
                            .find(|key| charge.verify(key, &payer_key).is_ok());
                        must(signer.is_some(), "a charge of the guest is not signed");
                        let key = signer.unwrap_or_default();
                        let cap = charge.charge.cap.cap;
                        must(charge.charge.cost <= cap.most, "a charge above its cap");
                        must(cap.most.0 <= COST_MAX, "a cap above the limit");
                        let place = (key, charge.charge.seq);
                        let before = books.charges.insert(place, charge);
                        let again = before.is_none_or(|before| before == charge);
                        must(again, "two charges of one number");
                        if before.is_none() {
                            must(books.charged.insert(cap.job), "a job is charged twice");
                            let owed = owed.entry(key).or_default();
                            *owed = charge.charge.cumulative.0.max(*owed);
                        }
                    }
                    _ => {}
                }
            }
        }
        // A client believes the keys that it sealed to. A guest with others knows nothing of what those did.
        let all = boots.iter().flatten();
        let keys = all.map(|keyset| (keyset.digest(), keyset.receipt_key));
        let keys: HashMap<KeysetDigest, [u8; 32]> = keys.collect();
        for (of, keyset) in books.charged.iter().filter_map(|job| envelopes.get(job)) {
            let key = keys.get(keyset).copied().unwrap_or_default();
            let both = refused.contains(&(*of, key));
            must(!both, "a job was refused as not started, and charged");
        }
        for (boot, keysets) in boots.iter().enumerate() {
            let mut all = 0;
            for key in keysets.iter().map(|keyset| keyset.receipt_key) {
                let own = books.charges.range((key, 0)..=(key, u64::MAX));
                let costs: u64 = own.map(|(_, charge)| charge.charge.cost.0).sum();
                let owed = owed.get(&key).copied().unwrap_or(0);
                must(owed >= costs, "a guest counts less than it charged");
                // Of the last one all receipts were asked for.
                let last = boot + 1 == boots.len();
                must(
                    owed == costs || !last,
                    "a guest counts more than it charged",
                );
                all += owed;
            }
            let owed = all;
            let paid = shown.get(&(boot + 1)).copied().unwrap_or(0);
            must(owed <= paid + WINDOW, "a channel owes more than the window");
        }
        books
    }

    fn total(&self) -> u64 {
        self.charges
            .values()
            .map(|charge| charge.charge.cost.0)
            .sum()
    }

    /// The payer has promised no more than was charged, which is no more than it has.
    fn check(&self, promised: Nano) -> Vec<Broken> {
        let mut broken = Vec::new();
        let total = self.total();
        if promised.0 > total {
            broken.push(Broken(format!("{promised} are promised, {total} charged")));
        }
        if promised > DEPOSIT {
            broken.push(Broken("more is promised than there is".into()));
        }
        broken
    }

    /// What is said not to have run was not charged for.
    fn truly_not_executed(&self, job: &Job, connections: &[Connection]) -> Option<Broken> {
        let Told::Failed(error) = &job.told else {
            return None;
        };
        if !job.alone || error.executed() != Executed::No {
            return None;
        }
        let charged = !self.charged_for(job, connections).is_empty();
        charged.then(|| Broken(format!("it ran: {}", job.told.name())))
    }

    /// What ran is not sealed once more under the same keys: nobody but the guest can say that it did not run.
    fn ran_once(&self, job: &Job, connections: &[Connection]) -> Option<Broken> {
        let mut keysets = HashSet::new();
        let charged = self.charged_for(job, connections);
        let mut charged = charged.iter().map(|of| of.unverified().keyset);
        let again = job.alone && !charged.all(|keyset| keysets.insert(keyset));
        again.then(|| Broken("one question ran twice".into()))
    }

    /// What was sealed while an application waited, and charged for.
    fn charged_for(&self, job: &Job, connections: &[Connection]) -> Vec<SignedEnvelope> {
        let sealed = connections.iter().filter(|one| of_job(job, one));
        let charged = |of: &SignedEnvelope| self.charged.contains(&of.unverified().job);
        sealed.filter_map(envelope_of).filter(charged).collect()
    }
}

/// An answer that the host replaced is not taken for the guest's.
fn not_of_a_lie(job: &Job, connections: &[Connection]) -> Option<Broken> {
    let Told::Answered(_) = &job.told else {
        return None;
    };
    // It may have been sealed once more; the last one answered.
    let answered = connections.iter().rfind(|one| of_job(job, one));
    let lied = job.alone && answered.is_some_and(|one| one.lied);
    lied.then(|| Broken("a forged answer is taken".into()))
}

/// Whether a connection carried a job while an application waited for this one.
fn of_job(job: &Job, one: &Connection) -> bool {
    // The next job may begin at the moment at which this one ended.
    let within = job.began <= one.opened && one.opened < job.ended;
    within && (one.link, one.route) == (Link::Client, Route::Job)
}

/// Where the network only fails, and says nothing false, all that was made is paid for in the end.
fn paid(world: &World, books: &Books, promised: Nano) -> Option<Broken> {
    use Fault::*;
    let honest = [
        Drop,
        Delay,
        Disconnect,
        Truncate,
        PartialWrites,
        LoseFrame,
        DoubleFrame,
        ReorderFrames,
        RestartProxy,
    ];
    let all = world.host.all_applied();
    let is_honest = all.keys().all(|fault| honest.contains(fault));
    let is_honest = is_honest && !world.host.changed_records();
    let total = books.total();
    (is_honest && promised.0 != total)
        .then(|| Broken(format!("{promised} are promised of {total} charged")))
}

/// A network that is only slow changes nothing.
fn not_in_the_way(world: &World, jobs: &[Job]) -> Option<Broken> {
    let all = world.host.all_applied();
    let slow = all.keys().all(|fault| *fault == Fault::PartialWrites);
    let failed = jobs.iter().find(|job| matches!(job.told, Told::Failed(_)));
    let failed = failed.filter(|_| slow)?;
    Some(Broken(format!(
        "with nothing in the way: {}",
        failed.told.name()
    )))
}

/// The envelope that a client sent on a connection.
fn envelope_of(connection: &Connection) -> Option<SignedEnvelope> {
    let body = body_of(&connection.given[0])?;
    Some(SignedEnvelope::decode_prefix(body).ok()?.0)
}

/// What stands behind an HTTP head.
fn body_of(bytes: &[u8]) -> Option<&[u8]> {
    let end = memmem::find(bytes, b"\r\n\r\n")?;
    bytes.get(end + 4..)
}

/// Jobs are sealed to keys of the guest alone, by evidence that is young by the client's clock, and cost no more than they may.
fn sealed(boots: &[Vec<Keyset>], connections: &[Connection]) -> Vec<Broken> {
    let keysets = boots.iter().flatten();
    let keysets: HashSet<KeysetDigest> = keysets.map(|keyset| keyset.digest()).collect();
    let mut broken = Vec::new();
    let mut attested: Vec<(Duration, KeysetDigest)> = Vec::new();
    let mut challenges = HashSet::new();
    let mut promised = Nano::ZERO;
    for one in connections.iter().filter(|one| one.link == Link::Client) {
        match one.route {
            Route::Voucher => {
                let body = body_of(&one.given[0]).unwrap_or_default();
                if let Ok(voucher) = SignedVoucher::decode(body) {
                    promised = promised.max(voucher.voucher.cumulative);
                }
            }
            Route::Attest => {
                let head = one.given[0].get(..90).unwrap_or_default();
                if !challenges.insert(head) {
                    broken.push(Broken("a challenge comes twice".into()));
                }
                let body = body_of(&one.given[1]).unwrap_or(&one.given[1]);
                let evidence = Bundle::decode(body).map(|bundle| bundle.evidence);
                let evidence = evidence.and_then(|evidence| Evidence::decode(&evidence));
                attested.extend(evidence.map(|e| (one.opened, KeysetDigest::of(&e.keyset))));
            }
            Route::Job => {
                let Some(envelope) = envelope_of(one) else {
                    continue;
                };
                let content = envelope.unverified();
                if !keysets.contains(&content.keyset) {
                    broken.push(Broken("a job is sealed to keys of no guest".into()));
                }
                let enclosed = content.voucher.as_deref();
                let enclosed = enclosed.and_then(|bytes| SignedVoucher::decode(bytes).ok());
                let enclosed = enclosed.map_or(Nano::ZERO, |one| one.voucher.cumulative);
                if enclosed < promised {
                    broken.push(Broken("a job does not carry what was promised".into()));
                }
                if content.cost_max.0 > COST_MAX {
                    broken.push(Broken("a job may cost more than its owner allows".into()));
                }
                let known = attested
                    .iter()
                    .filter(|(_, keyset)| *keyset == content.keyset);
                let since = known.map(|(at, _)| *at).max().unwrap_or_default();
                // Sealing itself takes no time here.
                if one.opened - since > Duration::from_secs(LIFETIME_S.into()) {
                    broken.push(Broken("a job is sealed by old evidence".into()));
                }
            }
            _ => {}
        }
    }
    broken
}
