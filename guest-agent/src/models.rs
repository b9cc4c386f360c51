//! The models of one boot: read once into anonymous memory, from the image and checked against the measured roots, or from a volume
//! under its measured root hash; shared by all jobs.

use crate::volume;
use engine::{Chat, Embedder, EngineError, weights};
use model::{File, ModelFiles, ModelRoot};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use wire::{Digest, MeasuredEndpoint, MeasuredModel};

/// Loaded models by id.
pub(crate) struct Models(BTreeMap<String, Loaded>);

struct Loaded {
    model: Model,
    files: Files,
}

/// The files by which tokens are made, as the keyset names them.
#[derive(Clone, Copy)]
pub(crate) struct Files {
    pub(crate) config: Digest,
    pub(crate) tokenizer: Digest,
    pub(crate) template: Option<Digest>,
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
#[error("model `{id}`: {why}")]
pub struct ModelError {
    id: String,
    why: String,
}

impl Models {
    /// Loads each model that is in the image, from the directory of its name under `dir`.
    pub(crate) fn from_image(dir: &Path, models: &[MeasuredModel]) -> Result<Self, ModelError> {
        let models = models.iter().filter(|model| model.volume.is_none());
        models
            .map(|model| {
                let root = ModelRoot(model.root());
                let files = weights::read(&dir.join(&model.id)).map_err(because(model))?;
                let loaded = load(model, &files)?;
                // Weights were hashed while they were read: one pass does for both.
                files.expect_root(&root).map_err(because(model))?;
                Ok(loaded)
            })
            .collect::<Result<_, _>>()
            .map(Models)
    }

    /// Loads each model that is on a volume. All its blocks fitted the measured root hash when they were read, and no
    /// volume is open afterwards.
    pub(crate) fn from_volumes(models: &[MeasuredModel]) -> Result<Self, ModelError> {
        let models = models.iter();
        let models = models.filter_map(|model| Some((model, volume::root(model)?)));
        models
            .enumerate()
            .map(|(number, (model, root))| {
                let mounted = volume::open(number, &root).map_err(because(model))?;
                let files = weights::read(mounted.directory()).map_err(because(model))?;
                let loaded = load(model, &files)?;
                mounted.close().map_err(because(model))?;
                Ok(loaded)
            })
            .collect::<Result<_, _>>()
            .map(Models)
    }

    /// These and those.
    pub(crate) fn and(mut self, other: Models) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn get(&self, id: &str) -> Option<Model> {
        self.0.get(id).map(|loaded| loaded.model.clone())
    }

    pub(crate) fn files(&self, id: &str) -> Files {
        self.0
            .get(id)
            .map(|loaded| loaded.files)
            .expect("every configured model was loaded")
    }
}

fn load(model: &MeasuredModel, files: &ModelFiles) -> Result<(String, Loaded), ModelError> {
    let digest = |file| files.digest(file).map(|digest| Digest(digest.sha256));
    let loaded = Loaded {
        model: built(model.endpoint, files).map_err(because(model))?,
        files: Files {
            config: digest(File::Config).unwrap_or_default(),
            tokenizer: digest(File::Tokenizer).unwrap_or_default(),
            template: digest(File::TokenizerConfig),
        },
    };
    Ok((model.id.clone(), loaded))
}

fn built(endpoint: MeasuredEndpoint, files: &ModelFiles) -> Result<Model, EngineError> {
    Ok(match endpoint {
        MeasuredEndpoint::Embeddings => Model::Embedder(Arc::new(Embedder::load(files)?)),
        MeasuredEndpoint::Chat => Model::Chat(Arc::new(Chat::load(files)?)),
    })
}

fn because<E: std::fmt::Display>(model: &MeasuredModel) -> impl FnOnce(E) -> ModelError {
    |error| ModelError {
        id: model.id.clone(),
        why: error.to_string(),
    }
}
