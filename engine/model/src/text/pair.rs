//! Two texts that a cross-encoder reads at once.

use super::{Text, TextError, check_bytes};
use crate::limits;

impl Text {
    /// The tokens of a query and of a text that may answer it, with the model's special ones around them, and how many of them
    /// belong to the first. Nothing is cut off.
    pub fn to_score(&self, query: &str, document: &str) -> Result<(Vec<u32>, usize), TextError> {
        check_bytes(query.len() + document.len(), limits::TEXT_BYTES_MAX)?;
        let encoding = self.tokenizer.encode_fast((query, document), true);
        let encoding = encoding.map_err(|error| TextError::Tokenizer(error.to_string()))?;
        let second = encoding
            .get_type_ids()
            .iter()
            .position(|segment| *segment != 0);
        let first = second.unwrap_or(encoding.len());
        Ok((encoding.get_ids().to_vec(), first))
    }
}
