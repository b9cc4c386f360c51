//! Whether a completion ends: every end token and every place of every stop sequence is compared, each time.

use super::options::SamplingError;
use crate::oblivious::mask::equal;

/// Tokens that a stop sequence has at most.
const STOP_TOKENS_MAX: usize = 32;
/// What is in no vocabulary.
const NO_TOKEN: u32 = u32::MAX;

/// What ends a completion, and its last tokens.
pub struct Ends {
    ends: Vec<u32>,
    stops: Vec<Stop>,
    last: [u32; STOP_TOKENS_MAX],
}

/// A sequence at the end of its slots; masks of zeros say which of them count.
struct Stop {
    tokens: [u32; STOP_TOKENS_MAX],
    unused: [u32; STOP_TOKENS_MAX],
}

impl Ends {
    /// Refuses a sequence of no tokens or of more than 32.
    pub fn new(ends: &[u32], stops: &[Vec<u32>]) -> Result<Self, SamplingError> {
        Ok(Ends {
            ends: ends.to_vec(),
            stops: stops
                .iter()
                .map(|stop| Stop::new(stop))
                .collect::<Result<_, _>>()?,
            last: [NO_TOKEN; STOP_TOKENS_MAX],
        })
    }

    /// Takes the next token: all ones if the completion ends with it, else zeros.
    pub fn push(&mut self, token: u32) -> u32 {
        self.last.rotate_left(1);
        self.last[STOP_TOKENS_MAX - 1] = token;
        let ended = self
            .ends
            .iter()
            .fold(0, |any, end| any | equal(*end, token));
        let stopped = self.stops.iter().map(|stop| stop.matches(&self.last));
        stopped.fold(ended, |any, stopped| any | stopped)
    }
}

impl Stop {
    fn new(stop: &[u32]) -> Result<Self, SamplingError> {
        if !(1..=STOP_TOKENS_MAX).contains(&stop.len()) {
            return Err(SamplingError::OutOfRange("stops"));
        }
        let mut slots = Stop {
            tokens: [NO_TOKEN; STOP_TOKENS_MAX],
            unused: [u32::MAX; STOP_TOKENS_MAX],
        };
        let from = STOP_TOKENS_MAX - stop.len();
        slots.tokens[from..].copy_from_slice(stop);
        slots.unused[from..].fill(0);
        Ok(slots)
    }

    fn matches(&self, last: &[u32; STOP_TOKENS_MAX]) -> u32 {
        let slots = self.tokens.iter().zip(&self.unused).zip(last);
        slots.fold(u32::MAX, |all, ((token, unused), last)| {
            all & (equal(*token, *last) | unused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_token_and_the_last_token_of_a_sequence_end_it() {
        let long: Vec<u32> = (100..132).collect();
        let mut ends = Ends::new(&[2, 3], &[vec![5, 6], vec![6, 6, 7], long.clone()]).unwrap();
        let mut push = |token| ends.push(token) == u32::MAX;
        let tokens = [6, 5, 5, 6, 6, 6, 7, 2, 0, 3, 1, 6, 7];
        let seen: Vec<bool> = tokens.into_iter().map(&mut push).collect();
        let expected = [
            false, false, false, true, false, false, true, true, false, true, false, false, false,
        ];
        assert_eq!(seen, expected);
        let ended: Vec<bool> = long.into_iter().map(push).collect();
        assert_eq!(ended.iter().position(|ended| *ended), Some(31));
    }

    #[test]
    fn a_sequence_of_no_tokens_or_of_too_many_is_refused() {
        for stop in [vec![], vec![1; 33]] {
            let made = Ends::new(&[], &[stop]);
            assert_eq!(made.err(), Some(SamplingError::OutOfRange("stops")));
        }
    }
}
