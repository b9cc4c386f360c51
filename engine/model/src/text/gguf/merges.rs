//! The merges of SentencePiece's BPE, which has none: it joins the two neighbours whose union has the highest score.

use std::collections::HashMap;

use crate::{ModelError, limits};

use super::wrong;

/// Each way to make a piece out of two others, the pieces in falling order of their scores and the ways in rising order of the
/// parts' ids, as `transformers` does it (`convert_slow_tokenizer.py`, `generate_merges`).
pub(super) fn by_score<'a>(
    tokens: &'a [String],
    scores: &[f64],
    joins: impl Fn(usize) -> bool,
) -> Result<Vec<(&'a str, &'a str)>, ModelError> {
    let ids: HashMap<&str, usize> = { tokens.iter().enumerate() }
        .filter(|(id, _)| joins(*id))
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if !joins(id) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(left), Some(right)) = (ids.get(left), ids.get(right)) {
                merges.push((id, *left, *right));
            }
        }
        if merges.len() as u64 > limits::GGUF_ARRAY_MAX {
            return Err(wrong("its pieces can be made in too many ways".into()));
        }
    }
    merges.sort_by(|(one, l1, r1), (other, l2, r2)| {
        let score = scores[*other].total_cmp(&scores[*one]);
        score.then((l1, r1).cmp(&(l2, r2)))
    });
    let pair =
        |(_, left, right): (usize, usize, usize)| (tokens[left].as_str(), tokens[right].as_str());
    Ok(merges.into_iter().map(pair).collect())
}
