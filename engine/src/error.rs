//! What can go wrong, sorted by whose fault it is.

use kernels::KernelError;
use model::{ModelError, Vocabulary};
use thiserror::Error;

use crate::memory::Needs;

/// An error of this crate. The variant says whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum EngineError {
    #[error("the model is not usable: {0}")]
    Model(#[from] ModelError),
    #[error("the request is refused: {0}")]
    Request(#[from] RequestError),
    #[error("the model needs {needs}; {} MiB are left", left >> 20)]
    Memory { needs: Needs, left: u64 },
    #[error("the computation failed: {0}")]
    Kernel(#[from] KernelError),
    #[error("the computation failed: {0}")]
    Computation(&'static str),
}

/// The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum RequestError {
    #[error("a prompt needs at least one token")]
    PromptEmpty,
    #[error("the prompt has {tokens} tokens; at most {tokens_max} are allowed")]
    PromptTooLong { tokens: usize, tokens_max: usize },
    #[error("the model does not have one of the tokens: its vocabulary has {vocabulary} entries")]
    TokenUnknown { vocabulary: usize },
}

impl RequestError {
    /// Refuses tokens of which there are none, more than `tokens_max`, or one outside the vocabulary.
    pub(crate) fn check_tokens(
        prompt: &[u32],
        tokens_max: usize,
        vocabulary: &Vocabulary,
    ) -> Result<(), RequestError> {
        if prompt.is_empty() {
            return Err(RequestError::PromptEmpty);
        }
        if prompt.len() > tokens_max {
            return Err(RequestError::PromptTooLong {
                tokens: prompt.len(),
                tokens_max,
            });
        }
        match vocabulary.has(prompt) {
            true => Ok(()),
            false => Err(RequestError::TokenUnknown {
                vocabulary: vocabulary.size(),
            }),
        }
    }
}
