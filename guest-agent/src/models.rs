//! The models of one boot: read once into anonymous memory, from the image and checked against the measured roots, or from a volume
//! under its measured root hash; shared by all jobs.

use crate::gpu::Gpu;
use crate::volume;
use crate::worker::{Worker, WorkerError};
use engine::encoder::Text;
use engine::scheduler::{Driver, Listener, Refused, Tokens};
use engine::{
    BLOCK_TOKENS, Embedder, EngineError, Forward, Kernels, Kind, Memory, Packing, Room, Scorer,
    Served, kernels_of, served, weights,
};
use model::root::template_digest;
use model::{File, ModelFiles, ModelRoot};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use wire::{
    Ask, ChatRequest, Digest, LoadPlan, MeasuredConfig, MeasuredEndpoint, MeasuredModel, Pair,
    Request,
};

/// Models by id, ready to answer.
pub(crate) struct Models(BTreeMap<String, Ready>);

struct Ready {
    model: Model,
    facts: Facts,
}

/// Models by id that nothing runs yet.
pub(crate) struct Loaded(BTreeMap<String, (Built, Facts)>);

enum Built {
    Encoder(Encoder),
    Chat(Served),
    /// On a GPU: it runs already.
    Running(Chat),
}

/// What the keyset says of a model.
#[derive(Clone)]
pub(crate) struct Facts {
    /// The files by which tokens are made.
    pub(crate) config: Digest,
    pub(crate) tokenizer: Digest,
    pub(crate) template: Option<Digest>,
    /// How weights are kept.
    pub(crate) quantisation: String,
    /// Where the same job gives the same bits.
    pub(crate) determinism: String,
}

/// A model ready to answer.
#[derive(Clone)]
pub(crate) enum Model {
    /// Reads whole texts.
    Encoder(Encoder),
    /// Answers chat.
    Chat(Arc<Chat>),
}

/// A model that makes numbers of a text, or of a pair of them.
#[derive(Clone)]
pub(crate) enum Encoder {
    /// Answers embeddings.
    Embedder(Arc<Embedder>),
    /// Answers rerank: one number, the score.
    Scorer(Arc<Scorer>),
}

/// A chat model and what runs its jobs.
pub(crate) struct Chat {
    runs: Runs,
    /// Of a model on a GPU, only how many there are: the rest is the worker's.
    tokens: Tokens,
    context: usize,
}

enum Runs {
    Here(Arc<Driver>),
    OnGpu(Worker),
}

/// A completion that is ready to be submitted, until when it must have ended and who hears of it.
pub(crate) type Completion =
    Box<dyn FnOnce(Instant, Listener) -> Result<Cancelling, Refused> + Send>;
/// Called, it ends a job before the next step; nothing happens if that has ended.
pub(crate) type Cancelling = Box<dyn Fn() + Send + Sync>;

/// A model that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("model `{id}`: {why}")]
pub struct ModelError {
    id: String,
    why: String,
}

impl Loaded {
    /// Loads each model that is in the image, from the directory of its name under `dir`: those that `gpu` computes, or without one
    /// the others.
    pub(crate) fn from_image(
        dir: &Path,
        config: &MeasuredConfig,
        gpu: Option<&Gpu>,
        means: &Means,
    ) -> Result<Self, ModelError> {
        let models = { config.models.iter() }.filter(|model| model.volume.is_none());
        models
            .filter(|model| gpu.is_some() == on_gpu(config, model))
            .map(|model| {
                let root = ModelRoot(model.root());
                load(model, &dir.join(&model.id), Some(root), gpu, means)
            })
            .collect::<Result<_, _>>()
            .map(Loaded)
    }

    /// Loads each model that is on a volume. All its blocks fitted the measured root hash when they were read, and no
    /// volume is open afterwards.
    pub(crate) fn from_volumes(
        config: &MeasuredConfig,
        gpu: Option<&Gpu>,
        means: &Means,
    ) -> Result<Self, ModelError> {
        let models = config.models.iter();
        let models = models.filter_map(|model| Some((model, volume::root(model)?)));
        models
            .enumerate()
            .map(|(number, (model, root))| {
                let mounted = volume::open(number, &root).map_err(because(model))?;
                let gpu = gpu.filter(|_| on_gpu(config, model));
                let loaded = load(model, mounted.directory(), None, gpu, means)?;
                mounted.close().map_err(because(model))?;
                Ok(loaded)
            })
            .collect::<Result<_, _>>()
            .map(Loaded)
    }

    /// These and those.
    pub(crate) fn and(mut self, other: Loaded) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Starts each chat model with what drives it.
    pub(crate) fn start(
        self,
        mut drive: impl FnMut(Box<dyn Forward>, Tokens) -> std::io::Result<Driver>,
    ) -> std::io::Result<Models> {
        let start = |(id, (built, facts)): (String, (Built, Facts))| {
            let model = match built {
                Built::Encoder(model) => Model::Encoder(model),
                Built::Chat(served) => {
                    let context = served.forward.shape().context;
                    let tokens = served.tokens.clone();
                    let driver = drive(served.forward, served.tokens)?;
                    Model::Chat(Arc::new(Chat {
                        runs: Runs::Here(Arc::new(driver)),
                        tokens,
                        context,
                    }))
                }
                Built::Running(chat) => Model::Chat(Arc::new(chat)),
            };
            Ok((id, Ready { model, facts }))
        };
        self.0
            .into_iter()
            .map(start)
            .collect::<Result<_, _>>()
            .map(Models)
    }
}

impl Models {
    pub(crate) fn get(&self, id: &str) -> Option<Model> {
        self.0.get(id).map(|ready| ready.model.clone())
    }

    pub(crate) fn facts(&self, id: &str) -> Facts {
        self.0
            .get(id)
            .map(|ready| ready.facts.clone())
            .expect("every configured model was loaded")
    }
}

impl Encoder {
    /// Whether the model takes a text.
    pub(crate) fn takes(&self, text: &Pair) -> bool {
        match self {
            Encoder::Embedder(model) => model.check(&text.tokens).is_ok(),
            Encoder::Scorer(model) => model.check(&text.tokens).is_ok(),
        }
    }

    /// Its numbers.
    pub(crate) fn numbers(&self, text: &Pair) -> Result<Vec<f32>, EngineError> {
        match self {
            Encoder::Embedder(model) => model.embed(&text.tokens),
            Encoder::Scorer(model) => {
                let score = model.score(Text {
                    tokens: &text.tokens,
                    first: text.first as usize,
                });
                score.map(|score| vec![score])
            }
        }
    }
}

impl Chat {
    /// Completion tokens that fit behind a prompt, none if it has too many itself.
    pub(crate) fn room(&self, prompt: &[u32]) -> usize {
        self.context.saturating_sub(prompt.len())
    }

    /// Whether the model has all tokens that a request names: its prompt, its stop sequences, its biases.
    pub(crate) fn has_all(&self, request: &ChatRequest) -> bool {
        let biased: Vec<u32> = request.bias.iter().map(|(id, _)| *id).collect();
        let stops = request.stops.iter().map(Vec::as_slice);
        let mut all = [&request.prompt[..], &biased].into_iter().chain(stops);
        { all.by_ref() }.fold(true, |has, ids| has & self.tokens.has(ids))
    }

    /// What a request asks for, with its seed set. Refused here or, of a model on a GPU, once it is submitted.
    pub(crate) fn completion(&self, request: ChatRequest) -> Result<Completion, Refused> {
        Ok(match &self.runs {
            Runs::Here(driver) => {
                let (driver, job) = (driver.clone(), gpu_jobs::job(&self.tokens, request)?);
                Box::new(move |deadline, listener| {
                    let submitted = driver.submit(job, Some(deadline), listener)?;
                    Ok(Box::new(move || submitted.cancel()))
                })
            }
            Runs::OnGpu(worker) => {
                let (worker, tokens_max) = (worker.clone(), request.tokens_max);
                let request = Request {
                    // A worker has one model, and asks for no other's root.
                    model_root: Digest::default(),
                    parent: None,
                    ask: Ask::Chat(request),
                };
                let body = request.encode().map_err(|_| Refused::Unfit)?;
                Box::new(move |until, listener| worker.submit(body, tokens_max, until, listener))
            }
        })
    }
}

/// Whether a GPU computes the model. A guest that has one never falls back to the processor for chat; encoders stay on it.
fn on_gpu(config: &MeasuredConfig, model: &MeasuredModel) -> bool {
    config.gpu && model.endpoint == MeasuredEndpoint::Chat
}

/// Reads a model from its directory, or has it read by what computes on `gpu`. With a root, the files must have it; a volume was judged
/// block by block.
fn load(
    model: &MeasuredModel,
    directory: &Path,
    root: Option<ModelRoot>,
    gpu: Option<&Gpu>,
    means: &Means,
) -> Result<(String, (Built, Facts)), ModelError> {
    let files = weights::read(directory).map_err(because(model))?;
    let loaded = match (model.endpoint, gpu) {
        (MeasuredEndpoint::Chat, None) => chat(model, &files, means),
        (_, None) => encoder(model, &files, means),
        (_, Some(gpu)) => on_worker(model, &files, directory, root, gpu, means),
    };
    let loaded = loaded.map_err(because(model))?;
    if let (Some(root), None) = (root, gpu) {
        // Weights were hashed while they were read: one pass does for both.
        files.expect_root(&root).map_err(because(model))?;
    }
    Ok((model.id.clone(), loaded))
}

/// Has a model loaded by a worker of its own, and believes it what it loaded: it is part of the measured root, and alone holds what it
/// read. With a root it still must have read the same files.
fn on_worker(
    model: &MeasuredModel,
    files: &ModelFiles,
    directory: &Path,
    root: Option<ModelRoot>,
    gpu: &Gpu,
    Means { kernels, .. }: &Means,
) -> Result<(Built, Facts), Box<dyn Error>> {
    let plan = LoadPlan {
        directory: directory.to_string_lossy().into_owned(),
        weights: model.weights,
        kv_mib: model.kv_mib,
        context_max: model.context_tokens,
    };
    let (worker, loaded) = Worker::start(gpu, plan)?;
    if let Some(ModelRoot(expected)) = root.filter(|root| root.0 != loaded.root.0) {
        let (got, expected) = (loaded.root, Digest(expected));
        return Err(WorkerError::Root { got, expected }.into());
    }
    let chat = Chat {
        runs: Runs::OnGpu(worker),
        tokens: Tokens {
            path: kernels.path(),
            size: loaded.vocabulary as usize,
            ends: Vec::new(),
            forbidden: Vec::new(),
        },
        context: loaded.context as usize,
    };
    let facts = Facts::of(files, &loaded.weights, loaded.determinism);
    Ok((Built::Running(chat), facts))
}

fn encoder(
    model: &MeasuredModel,
    files: &ModelFiles,
    Means { kernels, memory }: &Means,
) -> Result<(Built, Facts), Box<dyn Error>> {
    let kind = model.weights.map_or(Kind::F32, gpu_jobs::kind);
    let (packing, on) = (Packing::All(kind), kernels.clone());
    let encoder = match model.endpoint {
        MeasuredEndpoint::Rerank => {
            Encoder::Scorer(Arc::new(Scorer::load_on(files, on, packing, memory)?))
        }
        _ => Encoder::Embedder(Arc::new(Embedder::load_on(files, on, packing, memory)?)),
    };
    let kept = served::name(kind);
    let facts = Facts::of(files, kept, served::determinism(kernels.path(), kept));
    Ok((Built::Encoder(encoder), facts))
}

fn chat(
    model: &MeasuredModel,
    files: &ModelFiles,
    Means { kernels, memory }: &Means,
) -> Result<(Built, Facts), Box<dyn Error>> {
    let room = Room {
        kv_bytes: model.kv_mib.map(|mib| u64::from(mib) << 20),
        context_max: model.context_tokens as usize,
        weights: model.weights.map(gpu_jobs::kind),
    };
    let served = Served::load(files, kernels.clone(), &room, memory)?;
    let shape = served.forward.shape();
    let (needed, there) = (shape.context.div_ceil(BLOCK_TOKENS), shape.blocks);
    if there < needed {
        let mib = (needed * BLOCK_TOKENS * shape.kv_token_bytes).div_ceil(1 << 20);
        let (tokens, fit) = (shape.context, there * BLOCK_TOKENS);
        return Err(format!(
            "a job of {tokens} tokens needs {mib} MiB of keys and values; `kv_mib` allows for {fit} tokens"
        )
        .into());
    }
    let kept = served.quantisation;
    let facts = Facts::of(files, kept, served::determinism(kernels.path(), kept));
    Ok((Built::Chat(served), facts))
}

impl Facts {
    fn of(files: &ModelFiles, quantisation: &str, determinism: String) -> Self {
        let digest = |file| files.digest(file).map(|digest| Digest(digest.sha256));
        Facts {
            config: digest(File::Config).unwrap_or_default(),
            tokenizer: digest(File::Tokenizer).unwrap_or_default(),
            template: template_digest(|file| files.digest(file)).map(Digest),
            determinism,
            quantisation: quantisation.into(),
        }
    }
}

/// What all models are computed by and kept in.
pub(crate) struct Means {
    kernels: Arc<Kernels>,
    memory: Memory,
}

impl Means {
    /// Threads and memory as the configuration says, on the fastest instructions that this processor has.
    pub(crate) fn of(config: &MeasuredConfig) -> Result<Self, ModelError> {
        let kernels = kernels_of(config.threads.map(usize::from));
        let kernels = kernels.map(Arc::new).map_err(|error| ModelError {
            id: "all".into(),
            why: error.to_string(),
        })?;
        let bytes = config.memory_mib.map(|mib| u64::from(mib) << 20);
        let memory = Memory::available().at_most(bytes);
        Ok(Means { kernels, memory })
    }
}

fn because<E: std::fmt::Display>(model: &MeasuredModel) -> impl FnOnce(E) -> ModelError {
    |error| ModelError {
        id: model.id.clone(),
        why: error.to_string(),
    }
}
