//! Re-execution: the same question to another worker, and what its answer has in common with the first one.
//!
//! Two workers of one class of bits (the keyset names it) must give the same tokens, and the same log probabilities where those were
//! asked for. A difference shows that one of them did not compute what it signed, and a [`CheckFile`] shows it to others: both
//! receipts with their evidence, and both transcripts, which open what the receipts commit to.

use crate::attestation::Verifier;
use crate::budget::Spender;
use crate::client::Client;
use crate::error::ClientError;
use crate::job::{Counted, Job, Payment};
use crate::session::Session;
use serde::{Deserialize, Serialize};
use settlement::Nano;
use wire::{
    Compared, Endpoint, Keyset, Malformed, ModelOffer, NotOpened, Proof, ProvenJob, ReceiptCore,
    Said, Transcript, compare,
};

/// Why a check is refused before it costs anything, or a check's file is no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CheckError {
    #[error("not a check: {0}")]
    File(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Transcript(#[from] NotOpened),
    #[error("the other worker offers no model with root {root}, which the receipt names")]
    ModelRoot { root: String },
    #[error("the other worker keeps the weights as {got}; the receipt's worker as {want}")]
    Quantisation { got: String, want: String },
    #[error(
        "the other worker's class of bits is {got}, the receipt's {want}: they need not agree bit for bit"
    )]
    Determinism { got: String, want: String },
    #[error("there is nothing to compare: an answer is empty")]
    Nothing,
    #[error("the two receipts are not about the same question")]
    Question,
    #[error("it is one receipt twice")]
    Twice,
}

/// A job with everything that shows what was said in it.
pub struct ShownJob {
    /// The worker's evidence and its receipt.
    pub proof: Proof,
    /// What was said.
    pub transcript: Transcript,
}

/// Two answers to one question, for anybody to verify. It holds the question and the answers.
pub struct CheckFile {
    /// The job that was checked.
    pub first: ShownJob,
    /// The job that checked it.
    pub second: ShownJob,
}

/// What a check came to. Both jobs are proved, and both transcripts are what their receipts commit to.
pub struct Checked {
    /// The job that was checked.
    pub first: ProvenJob,
    /// The job that checked it.
    pub second: ProvenJob,
    /// What the answers have in common.
    pub compared: Compared,
}

impl Checked {
    /// What the answers have in common, in one sentence.
    pub fn sentence(&self) -> String {
        let what = match self.first.receipt().endpoint {
            Endpoint::Embeddings => "vector",
            Endpoint::Rerank => "score",
            Endpoint::Chat => "token",
        };
        match self.compared {
            Compared::Same { count } => format!("same: {count} {what}s agree bit for bit"),
            Compared::Differ { at } => {
                let number = at + 1;
                format!("DIFFERENT: from {what} {number} on the two answers do not agree")
            }
        }
    }

    /// Who answered, as far as it tells whether one checked the other.
    pub fn workers(&self) -> &'static str {
        let (first, second) = (self.first.worker(), self.second.worker());
        if first.keyset_digest() == second.keyset_digest() {
            "workers   the same keys answered both times: this shows repetition, not a second opinion"
        } else if first.peer().ppid == second.peer().ppid {
            "workers   two keysets on one machine"
        } else {
            "workers   two machines"
        }
    }
}

/// A question that was counted for another worker, and not asked yet.
pub struct Again {
    session: Session,
    counted: Counted,
}

/// The offer at which a job can be asked again, or what makes it pointless.
pub fn same_offer<'a>(
    keyset: &'a Keyset,
    receipt: &ReceiptCore,
) -> Result<&'a ModelOffer, CheckError> {
    let mut offers = keyset.models.iter();
    let same = |offer: &&ModelOffer| {
        (offer.root, offer.endpoint) == (receipt.model_root, receipt.endpoint)
    };
    let root = receipt.model_root.to_string();
    let offer = offers.find(same).ok_or(CheckError::ModelRoot { root })?;
    if offer.quantisation != receipt.quantisation {
        return Err(CheckError::Quantisation {
            got: offer.quantisation.clone(),
            want: receipt.quantisation.clone(),
        });
    }
    if offer.determinism != receipt.determinism {
        return Err(CheckError::Determinism {
            got: offer.determinism.clone(),
            want: receipt.determinism.clone(),
        });
    }
    Ok(offer)
}

impl Again {
    /// Counts the question of a job for the worker of this session. Nothing is sent.
    pub fn count(
        session: &Session,
        receipt: &ReceiptCore,
        said: &Said,
    ) -> Result<Self, ClientError> {
        if said.count() == 0 {
            return Err(CheckError::Nothing.into());
        }
        let offer = same_offer(session.keyset(), receipt)?;
        Ok(Again {
            session: session.clone(),
            counted: Job::again(session, offer, said.again())?,
        })
    }

    /// The most that asking costs.
    pub fn cost_max(&self) -> Nano {
        self.counted.estimate
    }

    /// Asks, verifies and pays. `client` is the one of the session.
    pub async fn ask(self, client: &Client) -> Result<(Payment, Transcript), ClientError> {
        let prepared = self
            .counted
            .prepare(&self.session, &Spender::default(), None)?;
        let answering = prepared.keeping().seal()?.send(client.proxy()).await?;
        let mut verified = answering.finish().await?.verify(&self.session)?;
        let transcript = verified.transcript.take();
        let payment = verified.pay(client.budget())?;
        if let Err(error) = client.deliver(&payment).await {
            tracing::warn!("the voucher is on disk and will be sent again: {error}");
        }
        let transcript = transcript.ok_or_else(|| {
            ClientError::Answer("it is too long for a transcript, and was paid".into())
        })?;
        Ok((payment, transcript))
    }
}

impl CheckFile {
    /// Proves both jobs, opens both transcripts and compares the answers. A pure function but for the verifiers' memory.
    pub fn verify(
        &self,
        first: &Verifier,
        second: &Verifier,
        at_unix_s: Option<u64>,
    ) -> Result<Checked, ClientError> {
        if self.first.proof.receipt == self.second.proof.receipt {
            return Err(CheckError::Twice.into());
        }
        let proved = first.verify_proof(&self.first.proof, at_unix_s)?;
        let checking = second.verify_proof(&self.second.proof, at_unix_s)?;
        same_offer(checking.worker().keyset(), proved.receipt())?;
        let open = |job: &ShownJob, proved: &ProvenJob| {
            { job.transcript.open(proved.receipt()) }.map_err(CheckError::from)
        };
        let said = open(&self.first, &proved)?;
        let again = open(&self.second, &checking)?;
        let compared = compare(&said, &again).ok_or(CheckError::Question)?;
        if compared == (Compared::Same { count: 0 }) {
            return Err(CheckError::Nothing.into());
        }
        Ok(Checked {
            first: proved,
            second: checking,
            compared,
        })
    }

    /// As JSON, with everything that is needed to verify it again.
    pub fn to_json(&self) -> String {
        let shown = |job: &ShownJob| Shown {
            proof: hex::encode(job.proof.encode()),
            transcript: hex::encode(job.transcript.encode()),
        };
        let form = Form {
            chrysalis_check: 1,
            first: shown(&self.first),
            second: shown(&self.second),
        };
        serde_json::to_string_pretty(&form).unwrap_or_default()
    }

    /// Reads a file's text. Nothing is verified here.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CheckError> {
        let form: Form =
            serde_json::from_slice(bytes).map_err(|e| CheckError::File(e.to_string()))?;
        if form.chrysalis_check != 1 {
            let version = form.chrysalis_check;
            return Err(CheckError::File(format!(
                "it is of version {version}; this program reads version 1"
            )));
        }
        let job = |shown: Shown| {
            let bytes =
                |text: String| hex::decode(text).map_err(|e| CheckError::File(e.to_string()));
            Ok::<_, CheckError>(ShownJob {
                proof: Proof::decode(&bytes(shown.proof)?)?,
                transcript: Transcript::decode(&bytes(shown.transcript)?)?,
            })
        };
        Ok(CheckFile {
            first: job(form.first)?,
            second: job(form.second)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    chrysalis_check: u64,
    first: Shown,
    second: Shown,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    proof: String,
    transcript: String,
}
