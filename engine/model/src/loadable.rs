//! Whether a guest can load a model: what its loader asks of files before it reads the numbers in them.

use serde::Deserialize;

use crate::files::ModelFiles;
use crate::{FAMILIES, Family, ModelError, Pooling, Vocabulary, bert, decoder};

/// The family that a `config.json` names, if it is one that is read here.
pub fn family(config: &[u8]) -> Option<Family> {
    #[derive(Deserialize)]
    struct Named {
        model_type: String,
    }
    let named: Named = serde_json::from_slice(config).ok()?;
    let mut families = FAMILIES.into_iter();
    families.find(|family| family.model_type() == named.model_type)
}

/// Refuses files that a guest could not load as a model of this family: an option that is not read here, a tensor that is missing,
/// misshaped or no part of it, a tokenizer that does not fit. Whether each number is finite shows only when all are read.
pub fn check(family: Family, files: &ModelFiles) -> Result<(), ModelError> {
    let weights = files.open_weights()?;
    let (plan, vocabulary) = if family.is_decoder() {
        let config = decoder::Config::of(files)?;
        (config.plan(), config.vocabulary)
    } else {
        let config = bert::Config::parse(files.config())?;
        if !config.scores_pairs {
            Pooling::of(files, config.hidden)?;
        }
        let names = bert::Names::of(&weights);
        (names.plan(&config), config.vocabulary)
    };
    weights.check(&plan)?;
    Vocabulary::parse(files.tokenizer(), vocabulary)?;
    Ok(())
}
