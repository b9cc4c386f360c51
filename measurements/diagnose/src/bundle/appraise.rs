//! The judgement of a bundle, by the doors that there are.
//!
//! ```text
//! every part is read ─► quote: verify or inspect ─► what the bundle says of itself ─► replay of the logs ─► GPUs
//! ```

use super::{
    Bundle, BundleRefusal,
    refusal::{Part, PartError, Unreadable},
};
use crate::{Claim, EventLog, Replay, Source};
use attest::{
    Collateral, Inspected, Manifest, Peer, Policy, Quote, Root, Verified, inspect, verify,
};
use gpu::{
    Gpu, GpuBundle, GpuNonce, GpuPolicy, GpuRoots, OcspNonce, OcspResponses, Revocation, Rim,
    inspect_bundle, verify_bundle,
};
use registers::{Digest32, GpuBinding, Register, ReportData};

/// What the verifier brings, and no bundle can.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The guests and platforms to accept. If it lists no registers, the bundle's manifest says which guest, and nobody is
    /// verified.
    pub policy: Option<&'a Policy>,
    /// What the quote must bind.
    pub report_data: Option<Binding>,
    /// The question that the GPUs must answer.
    pub gpu_nonce: GpuNonce,
    /// What to think of GPUs about whose revocation the bundle says nothing. Its maker does not decide that.
    pub gpu_revocation: GpuRevocation,
    /// The root of quotes.
    pub root: &'a Root,
    /// The roots of GPUs.
    pub gpu_roots: &'a GpuRoots,
    /// When to judge.
    pub at: At,
}

/// What a quote must bind, in a verifier's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// These bytes. What they stand for is not known, so no GPU is bound by them.
    Exactly(ReportData),
    /// A keyset, the verifier's nonce, and the bundle's GPU evidence as it lies, or that there is none.
    Keyset {
        /// The keyset's digest.
        digest: [u8; 32],
        /// The verifier's nonce.
        nonce: [u8; 32],
    },
}

/// What a verifier demands of OCSP responses about GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuRevocation {
    /// Every certificate must be good by a response in the bundle.
    Checked,
    /// Responses that are there must hold; without any, revoked GPUs are accepted.
    InsecureUnchecked,
}

/// When to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At this time, in seconds since 1970, which the verifier knows.
    Time(u64),
    /// When the bundle says that it was made. Its maker can say any time, so nobody is verified by that.
    Made,
}

/// Whose word something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaidBy {
    /// The verifier's.
    Verifier,
    /// Its maker's: it stands in the bundle.
    Maker,
    /// Nobody's: nothing was compared.
    Nobody,
}

/// A bundle of which every part holds.
#[derive(Clone, Debug)]
pub struct Appraised {
    /// What is known of the guest.
    pub guest: Guest,
    /// Who said which guest it should be.
    pub manifest_from: SaidBy,
    /// Who said what the quote should bind.
    pub report_data_from: SaidBy,
    /// When it was judged, in seconds since 1970.
    pub at_unix_s: u64,
    /// The kinds of its event logs, which lead to the quote's registers; empty if there are none.
    pub event_logs: Vec<Source>,
    /// Its GPUs, if it has any.
    pub gpus: Option<Gpus>,
    /// The question that they answer.
    pub gpu_nonce: GpuNonce,
    /// Whether the quote binds their evidence.
    pub gpus_bound: bool,
    /// What the verifier demanded of OCSP responses.
    pub gpu_revocation: GpuRevocation,
}

/// What is known of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guest {
    /// It is the verifier's guest, at a time and for report data that the verifier named.
    Verified(Box<Verified<Peer>>),
    /// One of these three was the bundle's word, or nobody's. It vouches for nobody.
    Inspected(Box<Inspected>),
}

/// What is known of the GPUs.
#[derive(Clone, Debug)]
pub enum Gpus {
    /// They measured what their RIMs say. At the time of [`Appraised::at_unix_s`], whoever named it.
    Verified(gpu::Verified<Vec<Gpu>>),
    /// There are no RIMs in the bundle: devices of the root signed, and what firmware runs is unknown.
    Inspected(Vec<gpu::Inspected>),
}

impl Gpus {
    /// Whether all of them are good by OCSP responses.
    pub fn revocation_checked(&self) -> bool {
        match self {
            Gpus::Verified(gpus) => gpus.iter().all(|gpu| gpu.evidence.revocation_checked),
            Gpus::Inspected(gpus) => gpus.iter().all(|gpu| gpu.revocation_checked),
        }
    }
}

impl Guest {
    /// What the quote and the collateral say.
    pub fn peer(&self) -> &Peer {
        match self {
            Guest::Verified(peer) => peer,
            Guest::Inspected(inspected) => &inspected.peer,
        }
    }
}

impl Appraised {
    /// Whether everything in the bundle is verified by what the verifier brought: the guest, and if there are GPUs, they with
    /// RIMs, for a nonce of the verifier's, bound by the quote, and not revoked unless the verifier does not care.
    pub fn is_verified(&self) -> bool {
        let gpus = match &self.gpus {
            None => true,
            Some(gpus @ Gpus::Verified(_)) => {
                let unchecked = self.gpu_revocation == GpuRevocation::InsecureUnchecked;
                self.gpu_nonce != GpuNonce::InsecureAny
                    && self.gpus_bound
                    && (unchecked || gpus.revocation_checked())
            }
            Some(Gpus::Inspected(_)) => false,
        };
        matches!(self.guest, Guest::Verified(_)) && gpus
    }
}

/// Every part, read.
struct Parts {
    quote: Quote,
    collateral: Collateral,
    manifest: Option<Manifest>,
    logs: Vec<EventLog>,
    gpus: Option<GpuRead>,
}

struct GpuRead {
    evidence: GpuBundle,
    rims: Vec<Rim>,
    ocsp: Option<OcspResponses>,
}

impl Bundle {
    /// Whether every part can be read. Nothing is believed by that.
    pub fn check_parts(&self) -> Result<(), PartError> {
        self.read().map(|_| ())
    }

    /// Judges every part. `Ok`: all that is there holds, and [`Appraised`] says by whose word. It claims nothing about when the
    /// bundle existed.
    pub fn appraise(&self, expected: &Expected<'_>) -> Result<Appraised, BundleRefusal> {
        let parts = self.read()?;
        let at_unix_s = match expected.at {
            At::Time(unix_s) => unix_s,
            At::Made => self.made_unix_s,
        };
        let mut appraised = self.appraise_quote(&parts, expected, at_unix_s)?;
        check_manifest(&parts)?;
        let bound = &parts.quote.td.report_data;
        if self.report_data.is_some_and(|stated| stated != bound.0) {
            return Err(BundleRefusal::ReportData);
        }
        check_logs(&parts)?;
        appraised.event_logs = parts.logs.iter().map(EventLog::source).collect();
        if let Some(gpus) = &parts.gpus {
            appraised.gpus = Some(gpus.appraise(expected, at_unix_s)?);
        }
        Ok(appraised)
    }

    /// `verify` only where the verifier named guest, report data and time; else `inspect` with what the bundle says.
    fn appraise_quote(
        &self,
        parts: &Parts,
        expected: &Expected<'_>,
        at_unix_s: u64,
    ) -> Result<Appraised, BundleRefusal> {
        let (policy, manifest_from) = policy(expected.policy, parts.manifest.as_ref());
        let stated = self.report_data.map(ReportData);
        let named = expected.report_data.map(|binding| match binding {
            Binding::Exactly(report_data) => report_data,
            Binding::Keyset { digest, nonce } => {
                let gpu = match &self.gpus {
                    None => GpuBinding::None,
                    Some(gpus) => GpuBinding::Evidence(Digest32::of(&gpus.evidence).0),
                };
                ReportData::bind(&digest, &nonce, gpu)
            }
        });
        let (report_data, report_data_from) = match (&named, &stated) {
            (Some(report_data), _) => (Some(report_data), SaidBy::Verifier),
            (None, Some(stated)) => (Some(stated), SaidBy::Maker),
            (None, None) => (None, SaidBy::Nobody),
        };
        let (quote, collateral, root) = (&self.quote, &parts.collateral, expected.root);
        let guest = match (&policy, report_data) {
            (Some(policy), Some(report_data))
                if manifest_from == SaidBy::Verifier
                    && report_data_from == SaidBy::Verifier
                    && matches!(expected.at, At::Time(_)) =>
            {
                let peer = verify(quote, collateral, report_data, policy, root, at_unix_s)?;
                Guest::Verified(Box::new(peer))
            }
            _ => {
                let policy = policy.as_ref();
                let inspected = inspect(quote, collateral, report_data, policy, root, at_unix_s)?;
                Guest::Inspected(Box::new(inspected))
            }
        };
        Ok(Appraised {
            guest,
            manifest_from,
            report_data_from,
            at_unix_s,
            event_logs: Vec::new(),
            gpus: None,
            gpu_nonce: expected.gpu_nonce,
            gpus_bound: matches!(expected.report_data, Some(Binding::Keyset { .. })),
            gpu_revocation: expected.gpu_revocation,
        })
    }

    fn read(&self) -> Result<Parts, PartError> {
        let quote = Quote::parse(&self.quote).map_err(of(Part::Quote))?;
        let collateral = Collateral::from_json(&self.collateral).map_err(of(Part::Collateral))?;
        let manifest = self.manifest.as_ref();
        let manifest = manifest
            .map(|json| Manifest::from_json(json).map_err(of(Part::Manifest)))
            .transpose()?;
        let logs = self.event_logs.iter().enumerate();
        let logs = logs
            .map(|(number, log)| log.read().map_err(of(Part::EventLog(number))))
            .collect::<Result<_, _>>()?;
        let gpus = self.gpus.as_ref().map(super::GpuParts::read).transpose()?;
        Ok(Parts {
            quote,
            collateral,
            manifest,
            logs,
            gpus,
        })
    }
}

impl super::GpuParts {
    fn read(&self) -> Result<GpuRead, PartError> {
        let evidence = GpuBundle::from_json(&self.evidence).map_err(of(Part::GpuEvidence))?;
        let rims = self.rims.iter().enumerate();
        let rims = rims
            .map(|(number, rim)| Rim::parse(&rim.label, &rim.xml).map_err(of(Part::Rim(number))))
            .collect::<Result<_, _>>()?;
        let ocsp = match self.ocsp.is_empty() {
            true => None,
            false => {
                Some(OcspResponses::parse(&self.ocsp, OcspNonce::Any).map_err(of(Part::Ocsp))?)
            }
        };
        Ok(GpuRead {
            evidence,
            rims,
            ocsp,
        })
    }
}

impl GpuRead {
    fn appraise(&self, expected: &Expected<'_>, at_unix_s: u64) -> Result<Gpus, BundleRefusal> {
        let policy = GpuPolicy {
            roots: expected.gpu_roots,
            at_unix_s,
            nonce: expected.gpu_nonce,
            revocation: match &self.ocsp {
                None => Revocation::InsecureUnchecked,
                Some(responses) => Revocation::Ocsp(responses),
            },
        };
        Ok(match self.rims.is_empty() {
            true => Gpus::Inspected(inspect_bundle(&self.evidence, &policy)?),
            false => Gpus::Verified(verify_bundle(&self.evidence, &self.rims, &policy)?),
        })
    }
}

/// The policy to judge by, and whose word its registers are. A policy without registers stays in force for all else.
fn policy(named: Option<&Policy>, manifest: Option<&Manifest>) -> (Option<Policy>, SaidBy) {
    match (named, manifest) {
        (None, None) => (None, SaidBy::Nobody),
        (None, Some(manifest)) => (Some(Policy::from_manifest(manifest)), SaidBy::Maker),
        (Some(named), Some(manifest)) if named.registers.is_empty() => {
            let registers = vec![*manifest.registers()];
            let policy = Policy {
                registers,
                ..named.clone()
            };
            (Some(policy), SaidBy::Maker)
        }
        (Some(named), _) => (Some(named.clone()), SaidBy::Verifier),
    }
}

/// Whatever the verifier named: a bundle that describes another guest than its quote does not hold.
fn check_manifest(parts: &Parts) -> Result<(), BundleRefusal> {
    let Some(manifest) = &parts.manifest else {
        return Ok(());
    };
    for register in Register::ALL {
        let stated = register.of(manifest.registers());
        let quoted = register.of(&parts.quote.td.registers);
        if stated != quoted {
            return Err(BundleRefusal::Manifest {
                register,
                stated,
                quoted,
            });
        }
    }
    Ok(())
}

fn check_logs(parts: &Parts) -> Result<(), BundleRefusal> {
    if parts.logs.is_empty() {
        return Ok(());
    }
    let replay = |before, log: &EventLog| log.replay_after(before);
    let replayed = parts.logs.iter().fold(Replay::START, replay);
    let rtmrs = [
        Register::Rtmr0,
        Register::Rtmr1,
        Register::Rtmr2,
        Register::Rtmr3,
    ];
    for (number, register) in rtmrs.into_iter().enumerate() {
        let (replayed, events) = (replayed.rtmr[number], replayed.events[number]);
        let quoted = register.of(&parts.quote.td.registers);
        if replayed != quoted {
            return Err(BundleRefusal::Replay {
                register,
                replayed,
                events,
                quoted,
            });
        }
    }
    let events = parts.logs.iter().flat_map(EventLog::events);
    match events
        .filter(|event| event.claim() == Claim::Differs)
        .count()
    {
        0 => Ok(()),
        events => Err(BundleRefusal::EventData { events }),
    }
}

fn of<E>(part: Part) -> impl FnOnce(E) -> PartError
where
    Unreadable: From<E>,
{
    move |error| PartError {
        part,
        error: error.into(),
    }
}
