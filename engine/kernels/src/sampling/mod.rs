//! From scores to one token, by passes over the whole vocabulary.
//!
//! **What it is.** [`Sampling`] says how tokens of a completion are chosen, [`Sampler`] chooses them one after the other. In this
//! order: biases are added; scores of tokens that occurred are lowered (repetition, presence, frequency); a grammar excludes
//! tokens; the temperature divides; top-k, top-p and min-p keep the likeliest; chance takes one of them.
//!
//! **Trusts.** The engine for the scores. What a request asks for is checked when the sampler is made.
//!
//! **Promises.** The same scores, options and seed give the same token on every path. No branch, address or length depends on a
//! score or a token: whoever traces this code learns the options that are in use (which, not their tokens), the vocabulary's
//! size, and whether the completion ends.
//!
//! **Lacks.** Sorting. Where a sampler of the textbook walks down a sorted list, this one looks for the threshold by bisection
//! over weights of 31 bits ([`weights`]).

mod adjust;
pub mod automaton;
pub mod chance;
mod draw;
mod ends;
mod gumbel;
mod logprobs;
mod number;
mod options;
mod penalties;
mod sampler;
mod threshold;
mod weights;

// The public interface is:
pub use automaton::{Automaton, AutomatonError};
pub use logprobs::Logprobs;
pub use options::{Constraints, Sampling, SamplingError};
pub use sampler::{Choice, Rules, Sampler};
