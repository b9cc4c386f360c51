//! BERT (Devlin et al., 2018) on packed weights, as an extension of a Burn backend: embedders and cross-encoders.
//!
//! Texts stand one after the other in a pass, without padding, and none sees another: the numbers of a text depend on the text
//! alone, to the bit, whatever is computed beside it.

mod flex;
mod load;

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use kernels::oblivious::mask::declassify;
use model::FileDigest;
use model::bert::Config;

pub use flex::PackedEncoder;

use crate::EngineError;
use crate::backend::Cpu;

/// A backend with packed encoders, one op per layer.
pub trait EncoderBackend: Backend {
    /// The packed weights of one encoder and the buffers of its ops.
    type Encoder: Send;

    /// What enters the first layer, `[rows_max, hidden]`. `reused` is what [`EncoderBackend::layer`] gave last, if anything did.
    fn embed(
        encoder: &mut Self::Encoder,
        texts: &[Text<'_>],
        reused: Option<FloatTensor<Self>>,
    ) -> Result<FloatTensor<Self>, EngineError>;

    /// Layer `index`: from what it takes to what it gives, both `[rows_max, hidden]`.
    fn layer(
        encoder: &mut Self::Encoder,
        index: usize,
        hidden: FloatTensor<Self>,
        texts: &[Text<'_>],
    ) -> Result<FloatTensor<Self>, EngineError>;

    /// The first `rows` rows.
    fn rows(hidden: &FloatTensor<Self>, rows: usize) -> Vec<f32>;

    /// A cross-encoder's score of a text, from the row of its first token: what a pooler and a classifier make of it.
    ///
    /// # Errors
    /// The model has no classifier.
    fn score(encoder: &Self::Encoder, first: &[f32]) -> Result<f32, EngineError>;
}

/// The tokens of one text, or of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    /// All of them, special ones included.
    pub tokens: &'a [u32],
    /// How many of them are of the first segment; all if there is one.
    pub first: usize,
}

impl<'a> Text<'a> {
    /// A text of one segment.
    pub fn one(tokens: &'a [u32]) -> Self {
        let first = tokens.len();
        Text { tokens, first }
    }
}

/// An encoder on backend `B`.
pub struct Encoder<B: EncoderBackend = Cpu> {
    config: Config,
    packed: B::Encoder,
    sources: BTreeMap<String, FileDigest>,
    hidden: Option<FloatTensor<B>>,
}

impl<B: EncoderBackend> Encoder<B> {
    /// What it computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files that its weights came from, as they were read.
    pub fn sources(&self) -> &BTreeMap<String, FileDigest> {
        &self.sources
    }

    /// The backend's part of it.
    pub fn packed(&mut self) -> &mut B::Encoder {
        &mut self.packed
    }

    /// Gives the last layer's output of each text, `tokens * hidden` numbers, to `take`, with the text's number. As many texts as fit
    /// are computed together.
    ///
    /// # Errors
    /// A text is empty, longer than the model's positions, or has a token that the model does not have.
    pub fn forward(
        &mut self,
        texts: &[Text<'_>],
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.check(texts)?;
        let (mut begin, width) = (0, self.config.hidden);
        while begin < texts.len() {
            let mut rows = 0;
            let fits = texts[begin..].iter().take_while(|text| {
                rows += text.tokens.len();
                rows <= ROWS_MAX
            });
            // One fits, because `ROWS_MAX` is no less than the positions of any model.
            let pass = &texts[begin..begin + fits.count().max(1)];
            let hidden = self.pass(pass)?;
            let mut numbers = &hidden[..];
            for (index, text) in pass.iter().enumerate() {
                let (own, rest) = numbers.split_at(text.tokens.len() * width);
                take(begin + index, own);
                numbers = rest;
            }
            begin += pass.len();
        }
        Ok(())
    }

    /// A cross-encoder's scores of texts: the larger, the better the parts of a pair go together. No sigmoid is applied.
    ///
    /// # Errors
    /// As [`Encoder::forward`], and where the model has no classifier.
    pub fn scores(&mut self, texts: &[Text<'_>]) -> Result<Vec<f32>, EngineError> {
        let width = self.config.hidden;
        let mut first = vec![0.0; texts.len() * width];
        self.forward(texts, &mut |index, hidden| {
            first[index * width..][..width].copy_from_slice(&hidden[..width]);
        })?;
        let scores = first
            .chunks_exact(width)
            .map(|row| B::score(&self.packed, row));
        scores.collect()
    }

    fn pass(&mut self, texts: &[Text<'_>]) -> Result<Vec<f32>, EngineError> {
        let mut hidden = B::embed(&mut self.packed, texts, self.hidden.take())?;
        for index in 0..self.config.layers {
            hidden = B::layer(&mut self.packed, index, hidden, texts)?;
        }
        let rows = texts.iter().map(|text| text.tokens.len()).sum();
        let numbers = B::rows(&hidden, rows);
        self.hidden = Some(hidden);
        match crate::packed::finite(&numbers) {
            true => Ok(numbers),
            false => Err(EngineError::Computation("a result is not finite")),
        }
    }

    fn check(&self, texts: &[Text<'_>]) -> Result<(), EngineError> {
        let refuse = |why| Err(EngineError::Computation(why));
        let mut unknown = 0u64;
        for text in texts {
            let length = text.tokens.len();
            if !(1..=self.config.positions.min(ROWS_MAX)).contains(&length) {
                return refuse("a text is empty or longer than the positions of the model");
            }
            if text.first < length && self.config.segments < 2 {
                return refuse("the model knows no second segment");
            }
            let size = self.config.vocabulary as u64;
            // 1 if a token is not below the size, by the borrow of the difference.
            let tokens = text.tokens.iter();
            unknown |= tokens.fold(0, |any, token| {
                any | (1 ^ (u64::from(*token).wrapping_sub(size) >> 63))
            });
        }
        match declassify(unknown as u32) {
            false => Ok(()),
            true => refuse("a token is outside the vocabulary"),
        }
    }
}

/// Rows of one pass at most, and positions of a model.
pub const ROWS_MAX: usize = 1024;
