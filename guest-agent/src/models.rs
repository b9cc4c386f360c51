//! The models of one boot: read once into anonymous memory, checked against the measured roots, shared by all jobs.

use crate::config::{MeasuredEndpoint, MeasuredModel};
use engine::{Chat, Embedder, EngineError, ModelFiles, ModelRoot, WeightsError};
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
    Embedder(Arc<Embedder>),
    /// Answers chat.
    Chat(Arc<Chat>),
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
        source: WeightsError,
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
    /// Loads each model from the folder of its name under `dir`.
    pub fn load(dir: &Path, models: &[MeasuredModel]) -> Result<Self, ModelsError> {
        let mut loaded = BTreeMap::new();
        for model in models {
            let weights = |source| ModelsError::Weights {
                id: model.id.clone(),
                source,
            };
            let engine = |source| ModelsError::Engine {
                id: model.id.clone(),
                source,
            };
            let files = ModelFiles::read(&dir.join(&model.id)).map_err(weights)?;
            let files = files
                .expect_root(&ModelRoot(model.root()))
                .map_err(weights)?;
            let tokenizer = Digest(files.tokenizer_digest());
            let model_loaded = match model.endpoint {
                MeasuredEndpoint::Embeddings => {
                    Model::Embedder(Arc::new(Embedder::load(&files).map_err(engine)?))
                }
                MeasuredEndpoint::Chat => {
                    Model::Chat(Arc::new(Chat::load(&files).map_err(engine)?))
                }
            };
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
