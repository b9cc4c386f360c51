//! A chat model as a scheduler runs it: what computes it, what its tokens mean, and the class of bits that it gives.

use std::sync::Arc;

use kernels::{KernelError, Kernels, Kind, KvKind, KvShape, Path};
use model::decoder::Config;
use model::weights::Weights;
use model::{ModelFiles, Vocabulary};

use crate::decoder::{Decoder, Options};
use crate::error::EngineError;
use crate::forward::{BLOCK_TOKENS, Forward};
use crate::memory::{Memory, Needs};
use crate::packed::{Packing, of_source};
use crate::scheduler::{Limits, Tokens};

/// A chat model that is loaded.
pub struct Served {
    /// What computes it.
    pub forward: Box<dyn Forward>,
    /// What its tokens mean.
    pub tokens: Tokens,
    /// How most weights are kept: `f32`, `bf16`, `q8` or `q4`.
    pub quantisation: &'static str,
    /// The memory that it takes, with the samplers of as many jobs as [`Limits::default`] lets run and wait.
    pub needs: Needs,
}

/// How much a served model may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of keys and values. Absent: enough for one job of all of its context, and for four if that is no more than 256 MiB.
    pub kv_bytes: Option<u64>,
    /// Tokens of one job at most.
    pub context_max: usize,
    /// How weights are kept; as they are stored if absent.
    pub weights: Option<Kind>,
}

/// `threads` of them, as many as there are processors if absent, on the fastest instructions that this processor has.
pub fn kernels_of(threads: Option<usize>) -> Result<Kernels, KernelError> {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or_else(all).min(kernels::THREADS_MAX);
    Kernels::new(Path::detect(), threads)
}

/// The class of machines and programs on which a job gives the same bits: instructions, kind of weights, version of the engine.
pub fn determinism(path: Path, quantisation: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{}/{quantisation}/engine-{version}", path.name())
}

/// Rows of one pass: a long prompt's, computed together.
const ROWS_MAX: usize = 512;
/// Sequences of one pass.
const SCORED_MAX: usize = 64;
/// Numbers that a sampler with every option keeps for each token of the vocabulary: its score, its weight, its bias, whether it is
/// in the prompt, and how often in the completion.
const SAMPLER_NUMBERS: usize = 5;
/// Keys and values of several jobs, where nobody says how much.
const KV_BYTES: usize = 256 << 20;

impl Served {
    /// Builds the model from its files. What is read of its weights is hashed on the way. `memory` is asked before they are read.
    pub fn load(
        files: &ModelFiles,
        kernels: Arc<Kernels>,
        room: &Room,
        memory: &Memory,
    ) -> Result<Self, EngineError> {
        let config = Config::parse(files.config(), files.generation_config())?;
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary)?;
        let context = config.context.min(room.context_max);
        let cache = KvShape {
            kind: KvKind::F32,
            layers: config.layers.len(),
            heads: config.key_value_heads,
            width: config.head_width,
        };
        let block_bytes = cache.block_bytes().unwrap_or(usize::MAX);
        let options = Options {
            packing: room.weights.map_or(Packing::AsStored, Packing::All),
            cache: cache.kind,
            blocks: room.blocks(context, block_bytes),
            context_max: context,
            rows_max: ROWS_MAX,
            scored_max: SCORED_MAX,
        };
        let path = kernels.path();
        let weights = files.open_weights()?;
        let quantisation = name(room.weights.unwrap_or_else(|| most(&weights)));
        let mut needs = Decoder::needs(&config, &weights, &options);
        let jobs = Limits::default().sequences_max + Limits::default().waiting_max;
        needs.add_work(jobs * SAMPLER_NUMBERS * vocabulary.size());
        memory.take(&needs)?;
        let mut decoder = Decoder::load(&config, weights, kernels, &options)?;
        let tokens = Tokens::of(path, &vocabulary, &config.end_tokens);
        decoder.packed().carry_among(tokens.size, &tokens.forbidden);
        Ok(Served {
            forward: Box::new(decoder),
            tokens,
            quantisation,
            needs,
        })
    }
}

impl Room {
    /// Blocks of keys and values.
    fn blocks(&self, context: usize, block_bytes: usize) -> usize {
        let one = context.div_ceil(BLOCK_TOKENS);
        let fit = |bytes: usize| bytes / block_bytes.max(1);
        match self.kv_bytes {
            Some(bytes) => fit(usize::try_from(bytes).unwrap_or(usize::MAX)),
            None => (4 * one).min(fit(KV_BYTES)).max(one),
        }
    }
}

/// The kind of most numbers, each tensor kept as it is stored.
pub fn most(weights: &Weights) -> Kind {
    let mut counts = [Kind::F32, Kind::Bf16, Kind::Q8, Kind::Q4].map(|kind| (0, kind));
    for tensor in weights.tensors() {
        let Ok(dtype) = &tensor.dtype else { continue };
        let kind = of_source(*dtype);
        for (count, _) in counts.iter_mut().filter(|(_, counted)| *counted == kind) {
            *count += tensor.rows() * tensor.columns();
        }
    }
    let most = counts.iter().max_by_key(|(count, _)| *count);
    most.map_or(Kind::F32, |(_, kind)| *kind)
}

/// As a configuration and a keyset write it.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::F32 => "f32",
        Kind::Bf16 => "bf16",
        Kind::Q8 => "q8",
        Kind::Q4 => "q4",
    }
}
