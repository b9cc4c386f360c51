//! How tokens are chosen, in the words of `struct Sampling` of `kernels/sample.cu`.

use engine::EngineError;
use engine::sampling::{Choice, Rules, Sampler, Sampling};

use super::CudaError;
use super::buffers::Buffers;
use super::device::Device;
use super::step::{ALLOWED_WORDS, STRUCT_WORDS, Shape};

/// What the kernel gives in place of a token whose scores are not finite.
const NOT_FINITE: u32 = u32::MAX - 1;

/// The choices of one step.
pub struct Choosing<'a> {
    pub device: &'a Device,
    pub buffers: &'a Buffers,
    pub shape: Shape,
    /// Scores of a row.
    pub vocabulary: usize,
}

impl Choosing<'_> {
    /// Writes how the tokens of `sequences` are chosen. Returns how many rows of scores are kept.
    pub fn fill(
        &self,
        words: &mut [u32],
        sequences: &[usize],
        samplers: &[&mut Sampler],
    ) -> Result<usize, CudaError> {
        let mut kept = 0;
        for index in 0..self.shape.scored {
            let at = self.shape.samplings() / 4 + index * STRUCT_WORDS;
            let Some((sampler, sequence)) = samplers.get(index).zip(sequences.get(index)) else {
                words[at..at + STRUCT_WORDS].copy_from_slice(&structure(
                    &Sampling::greedy(1),
                    0,
                    [0; 5],
                ));
                continue;
            };
            let rules = sampler.rules();
            let sampling = rules.sampling();
            let mut pointers = self.constraints(*sequence, rules)?;
            if let Some(allowed) = rules.allowed() {
                let bits = self.shape.allowed(index);
                words[bits / 4..bits / 4 + ALLOWED_WORDS].copy_from_slice(&allowed);
                pointers[3] = self.buffers.input.at(bits).word();
            }
            if sampling.logprobs.is_some() {
                pointers[4] = self
                    .buffers
                    .output
                    .at(4 * (self.shape.scored + kept * self.vocabulary))
                    .word();
                kept += 1;
            }
            words[at..at + STRUCT_WORDS].copy_from_slice(&structure(
                &sampling,
                rules.step(),
                pointers,
            ));
        }
        Ok(kept)
    }

    /// The addresses of bias, counters and classes of a sequence. Its first choice brings them there; the kernel counts on.
    fn constraints(&self, sequence: usize, rules: Rules<'_>) -> Result<[u64; 5], CudaError> {
        let Buffers {
            bias,
            counters,
            classes,
            ..
        } = self.buffers;
        let at = |bytes: usize| bytes * sequence * self.vocabulary;
        let sampling = rules.sampling();
        let (mut pointers, first) = ([0; 5], rules.step() == 0);
        if rules.has_bias() {
            pointers[0] = bias.at(at(4)).word();
        }
        if sampling.has_penalties() {
            pointers[1] = counters.at(at(4)).word();
        }
        if rules.allowed().is_some() {
            pointers[2] = classes.at(at(2)).word();
        }
        if first {
            if let Some(numbers) = rules.bias() {
                self.device.copy_in(bias, at(4), &numbers)?;
            }
            if let Some(numbers) = rules.counters() {
                self.device.copy_in(counters, at(4), &numbers)?;
            }
            if let Some(numbers) = rules.classes() {
                self.device.copy_in(classes, at(2), &numbers)?;
            }
        }
        Ok(pointers)
    }

    /// What came of it: chosen tokens, then the scores that were kept, of which the first `size` are tokens'.
    pub fn take(
        &self,
        output: &[u32],
        size: usize,
        samplers: Vec<&mut Sampler>,
        choices: &mut Vec<Option<Choice>>,
    ) -> Result<(), EngineError> {
        let (chosen, kept) = output.split_at(self.shape.scored);
        let mut kept = kept.chunks_exact(self.vocabulary.max(1));
        let is_none = |token: &u32| *token as usize >= size && *token != NOT_FINITE;
        if chosen.iter().take(samplers.len()).any(is_none) {
            return Err(EngineError::Computation("the GPU chose what is no token"));
        }
        choices.clear();
        for (sampler, token) in samplers.into_iter().zip(chosen) {
            let scores = match sampler.rules().sampling().logprobs {
                None => Vec::new(),
                Some(_) => {
                    let row = kept.next().unwrap_or_default();
                    row.iter()
                        .take(size)
                        .map(|bits| f32::from_bits(*bits))
                        .collect()
                }
            };
            choices.push((*token != NOT_FINITE).then(|| sampler.took(*token, &scores)));
        }
        Ok(())
    }
}

/// `struct Sampling`; the last five are addresses: bias, counters, classes, allowed, kept.
fn structure(how: &Sampling, step: u64, pointers: [u64; 5]) -> [u32; STRUCT_WORDS] {
    let mut words = [0; STRUCT_WORDS];
    let mut long = |at: usize, number: u64| {
        words[at] = number as u32;
        words[at + 1] = (number >> 32) as u32;
    };
    long(0, how.seed);
    long(2, step);
    for (index, pointer) in pointers.into_iter().enumerate() {
        long(12 + 2 * index, pointer);
    }
    let numbers = [
        how.temperature,
        how.top_p,
        how.min_p,
        how.repetition,
        how.presence,
        how.frequency,
    ];
    for (word, number) in words[4..].iter_mut().zip(numbers) {
        *word = number.to_bits();
    }
    words[10] = how.top_k;
    words
}
