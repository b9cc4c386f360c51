//! Rotary positions: how fast each pair of numbers of a head turns from one position to the next.
//!
//! Sources: RoFormer (arXiv 2104.09864); YaRN (arXiv 2309.00071); `modeling_rope_utils.py` of transformers 5.24, whose names are
//! used in errors.

use crate::ModelError;

/// A rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies (`rope_theta`).
    pub base: f64,
    /// How they were stretched to a longer context.
    pub scaling: Scaling,
}

/// How frequencies are stretched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    Default,
    /// All alike.
    Linear {
        /// Positions are divided by it.
        factor: f64,
    },
    /// Low ones by a factor, high ones not, those between in part (Llama 3.1).
    Llama3 {
        /// Low frequencies are divided by it.
        factor: f64,
        /// What turns fewer times in the original context is low.
        low: f64,
        /// What turns more often is high.
        high: f64,
        /// The original context.
        original: f64,
    },
    /// The same by a ramp over the pairs, and rotations are scaled.
    Yarn {
        /// Low frequencies are divided by it.
        factor: f64,
        /// The original context.
        original: f64,
        /// Turns in it from where on nothing is divided (`beta_fast`).
        fast: f64,
        /// Turns in it up to where all is divided (`beta_slow`).
        slow: f64,
        /// What cosines and sines are multiplied by.
        attention: f64,
        /// Whether the ramp begins and ends at whole pairs.
        truncate: bool,
    },
}

impl Rope {
    /// Without any scaling.
    pub fn of(base: f64) -> Self {
        let scaling = Scaling::Default;
        Rope { base, scaling }
    }

    /// By how much each of the `width / 2` pairs of a head turns from one position to the next, in radians. Pair `i` is the numbers
    /// `i` and `i + width / 2` of a head.
    pub fn frequencies(&self, width: usize) -> Vec<f64> {
        let plain = |pair: usize| self.base.powf(-((2 * pair) as f64) / width as f64);
        let plain = (0..width / 2).map(plain);
        match self.scaling {
            Scaling::Default => plain.collect(),
            Scaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => plain
                .map(|frequency| {
                    let turns = original * frequency / std::f64::consts::TAU;
                    // 0 for a low frequency, 1 for a high one.
                    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                })
                .collect(),
            Scaling::Yarn {
                factor,
                original,
                fast,
                slow,
                truncate,
                ..
            } => {
                // The pair that turns so often in the original context.
                let pair = |turns: f64| {
                    let ratio = original / (turns * std::f64::consts::TAU);
                    width as f64 * ratio.ln() / (2.0 * self.base.ln())
                };
                let (mut low, mut high) = (pair(fast), pair(slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let ramp = |pair: usize| ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                plain
                    .enumerate()
                    .map(|(pair, frequency)| {
                        let divided = ramp(pair);
                        frequency / factor * divided + frequency * (1.0 - divided)
                    })
                    .collect()
            }
        }
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        }
    }

    pub(super) fn check(&self) -> Result<(), ModelError> {
        let refuse = |name: &str, value: f64| {
            let why = format!("{name} of the rotary positions is {value}, which is out of bounds");
            Err(ModelError::Config(why))
        };
        let within =
            |value: f64, min: f64, max: f64| value.is_finite() && value >= min && value <= max;
        // A base of 1 has no logarithm to divide by.
        if !within(self.base, 1.001, 1e12) {
            return refuse("rope_theta", self.base);
        }
        let (factor, original) = match self.scaling {
            Scaling::Default => (1.0, 1.0),
            Scaling::Linear { factor } => (factor, 1.0),
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                if !within(low, 1e-3, 1e6) {
                    return refuse("low_freq_factor", low);
                }
                if !within(high, 1e-3, 1e6) || high <= low {
                    return refuse("high_freq_factor", high);
                }
                (factor, original)
            }
            Scaling::Yarn {
                factor,
                original,
                fast,
                slow,
                attention,
                ..
            } => {
                for (name, value) in [
                    ("beta_fast", fast),
                    ("beta_slow", slow),
                    ("attention_factor", attention),
                ] {
                    if !within(value, 1e-6, 1e6) {
                        return refuse(name, value);
                    }
                }
                (factor, original)
            }
        };
        if !within(factor, 1e-3, 1e6) {
            return refuse("factor", factor);
        }
        match within(original, 1.0, 1e9) {
            true => Ok(()),
            false => refuse("original_max_position_embeddings", original),
        }
    }
}
