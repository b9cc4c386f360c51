//! How the rows of a step are divided: each completion has one, and prompts take chunks in turn.

use super::Limits;

/// What of a sequence can be computed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// So many rows of its prompt.
    Prompt(usize),
    /// The row of its last token.
    Completion,
}

/// What of a sequence is computed in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) slot: usize,
    pub(super) rows: usize,
    /// Its place among the rows of the step.
    pub(super) first: usize,
    /// Whether the scores behind its last row are wanted.
    pub(super) scored: bool,
    pub(super) failed: bool,
}

impl Pending {
    pub(super) fn rows(self) -> usize {
        match self {
            Pending::Prompt(rows) => rows,
            Pending::Completion => 1,
        }
    }
}

/// Fills `out` with the shares of a step. `turn` is the slot at which prompts begin; returned is the one at which they begin
/// next time, which is the one behind the last that had a whole chunk.
pub(super) fn shares(
    limits: &Limits,
    turn: usize,
    pending: impl Iterator<Item = (usize, Pending)>,
    out: &mut Vec<Share>,
) -> usize {
    out.clear();
    let mut prompts: Vec<(usize, usize)> = Vec::new();
    for (slot, pending) in pending {
        match pending {
            Pending::Completion => out.push(Share::new(slot, 1)),
            Pending::Prompt(rows) => prompts.push((slot, rows)),
        }
    }
    let left = limits.rows_max.saturating_sub(out.len());
    let mut left = match out.is_empty() {
        true => left,
        false => left.min(limits.rows_mixed_max.max(1)),
    };
    // From the slot whose turn it is, in a ring.
    let begin = prompts.partition_point(|(slot, _)| *slot < turn);
    prompts.rotate_left(begin);
    let first = out.len();
    out.extend(prompts.iter().map(|(slot, _)| Share::new(*slot, 0)));
    let mut next = turn;
    while left > 0 {
        let mut given = false;
        for (share, (slot, rows)) in out[first..].iter_mut().zip(&mut prompts) {
            let chunk = limits.chunk.min(*rows).min(left);
            share.rows += chunk;
            *rows -= chunk;
            left -= chunk;
            if chunk > 0 {
                given = true;
                next = *slot + 1;
            }
        }
        if !given {
            break;
        }
    }
    out.retain(|share| share.rows > 0);
    next
}

impl Share {
    fn new(slot: usize, rows: usize) -> Self {
        Share {
            slot,
            rows,
            first: 0,
            scored: false,
            failed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Pending::{Completion, Prompt};

    fn check(turn: usize, pending: &[Pending], expected: &[(usize, usize)], next: usize) {
        let limits = Limits {
            rows_max: 20,
            rows_mixed_max: 8,
            chunk: 4,
            ..Limits::default()
        };
        let mut out = Vec::new();
        let pending = pending.iter().copied().enumerate();
        assert_eq!(shares(&limits, turn, pending, &mut out), next);
        let got: Vec<_> = out.iter().map(|share| (share.slot, share.rows)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn completions_come_first_and_prompts_take_chunks_in_turn() {
        check(0, &[Completion, Completion], &[(0, 1), (1, 1)], 0);
        check(0, &[Prompt(100)], &[(0, 20)], 1);
        check(0, &[Prompt(100), Prompt(5)], &[(0, 15), (1, 5)], 1);
        check(1, &[Prompt(100), Prompt(100)], &[(1, 12), (0, 8)], 2);
        let mixed = [Prompt(9), Completion, Prompt(9), Prompt(9)];
        check(0, &mixed, &[(1, 1), (0, 4), (2, 4)], 3);
        check(3, &mixed, &[(1, 1), (3, 4), (0, 4)], 1);
        check(9, &mixed, &[(1, 1), (0, 4), (2, 4)], 3);
    }
}
