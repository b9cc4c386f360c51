//! The models of one boot: read once into anonymous memory, from the image and checked against the measured roots, or from a volume
//! under its measured root hash; shared by all jobs.

use crate::config::{MeasuredEndpoint, MeasuredModel};
use crate::volume;
use engine::{Chat, Embedder, EngineError, weights};
use model::text::Text;
use model::{FilesError, ModelFiles, ModelRoot};
use stage0::VerityRoot;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use wire::Digest;

/// Loaded models by id.
pub struct Models(BTreeMap<String, Loaded>);

struct Loaded {
    model: Model,
    tokenizer: Digest,
}

/// A model ready to answer.
#[derive(Clone)]
pub(crate) enum Model {
    /// Answers embeddings.
    Embedder(Arc<(Embedder, Text)>),
    /// Answers chat.
    Chat(Arc<(Chat, Text)>),
}

/// A model that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// Its files are not those the configuration names, or cannot be read.
    #[error("model `{id}`: {source}")]
    Weights {
        /// The model.
        id: String,
        /// What is wrong.
        source: FilesError,
    },
    /// Its volume cannot be opened, or not be closed.
    #[error("the volume of model `{id}`: {source}")]
    Volume {
        /// The model.
        id: String,
        /// What is wrong.
        source: stage0::Failure,
    },
    /// Its files are the right ones and do not make a model.
    #[error("model `{id}`: {source}")]
    Engine {
        /// The model.
        id: String,
        /// What is wrong.
        source: EngineError,
    },
}

impl Models {
    /// Loads each model from its volume, or from the directory of its name under `dir`. No volume is open afterwards.
    pub fn load(dir: &Path, models: &[MeasuredModel]) -> Result<Self, ModelsError> {
        let mut loaded = BTreeMap::new();
        let mut volumes = 0;
        for model in models {
            let engine = |source| ModelsError::Engine {
                id: model.id.clone(),
                source,
            };
            let files = match model.verity() {
                None => from_image(dir, model)?,
                Some(root) => {
                    volumes += 1;
                    from_volume(volumes - 1, &root, model)?
                }
            };
            let tokenizer = Digest(files.tokenizer_digest());
            let model_loaded = made(model.endpoint, &files).map_err(engine)?;
            loaded.insert(
                model.id.clone(),
                Loaded {
                    model: model_loaded,
                    tokenizer,
                },
            );
        }
        Ok(Models(loaded))
    }

    pub(crate) fn get(&self, id: &str) -> Option<Model> {
        self.0.get(id).map(|loaded| loaded.model.clone())
    }

    pub(crate) fn tokenizer(&self, id: &str) -> Digest {
        self.0
            .get(id)
            .map(|loaded| loaded.tokenizer)
            .expect("every configured model was loaded")
    }
}

fn made(endpoint: MeasuredEndpoint, files: &ModelFiles) -> Result<Model, EngineError> {
    Ok(match endpoint {
        MeasuredEndpoint::Embeddings => {
            let text = Text::of_embedder(files)?;
            Model::Embedder(Arc::new((Embedder::load(files)?, text)))
        }
        MeasuredEndpoint::Chat => {
            let text = Text::of_chat(files)?;
            Model::Chat(Arc::new((Chat::load(files)?, text)))
        }
    })
}

/// The files in the image, if they are those of the measured root.
fn from_image(dir: &Path, model: &MeasuredModel) -> Result<ModelFiles, ModelsError> {
    let files = weights::read(&dir.join(&model.id));
    let files = files.and_then(|files| files.expect_root(&ModelRoot(model.root())));
    files.map_err(unread(model))
}

/// The files on the disk, all of whose blocks fitted the measured root hash when they were read.
fn from_volume(
    number: usize,
    root: &VerityRoot,
    model: &MeasuredModel,
) -> Result<ModelFiles, ModelsError> {
    let failed = |source| ModelsError::Volume {
        id: model.id.clone(),
        source,
    };
    let mounted = volume::open(number, root).map_err(failed)?;
    let files = weights::read(mounted.directory()).map_err(unread(model))?;
    mounted.close().map_err(failed)?;
    Ok(files)
}

fn unread(model: &MeasuredModel) -> impl Fn(FilesError) -> ModelsError {
    |source| ModelsError::Weights {
        id: model.id.clone(),
        source,
    }
}
