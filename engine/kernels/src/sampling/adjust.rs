//! What the options make of the scores, before anything is chosen.

use super::automaton::Allowed;
use super::penalties::Penalties;
use crate::oblivious::argmax::{Best, Race, any, blocks, exponent, key, last};
use crate::oblivious::wide::{Block, LANES, Pass, Wide};

/// The score of a token that must not be chosen.
pub const EXCLUDED: f32 = f32::MIN;

/// The pass. `out` gets a score for each lane of each block, [`EXCLUDED`] where there is no token.
pub struct Adjust<'a> {
    pub scores: &'a [f32],
    pub bias: &'a [Block<f32>],
    pub penalties: Option<(Penalties, &'a [Block<u32>])>,
    pub allowed: Option<Allowed<'a>>,
    pub out: &'a mut [Block<f32>],
}

impl Pass for Adjust<'_> {
    /// The best, and all ones if a score is not finite, else zeros.
    type Output = (Best, u32);

    #[inline(always)]
    fn run<W: Wide>(self) -> (Best, u32) {
        let (mut race, mut bad) = (Race::<W>::new(), W::splat(0));
        let (mut at, end) = (W::count(), W::splat(self.scores.len() as u32));
        let excluded = W::bits(W::splat_float(EXCLUDED));
        let allowed = self.allowed.map(|allowed| allowed.load::<W>());
        for (number, scores) in blocks(self.scores, &last(self.scores, 0.0)).enumerate() {
            let mut changed = W::load_floats(scores);
            if let Some(bias) = self.bias.get(number) {
                changed = W::add_floats(changed, W::load_floats(&bias.0));
            }
            if let Some((penalties, counters)) = &self.penalties
                && let Some(counters) = counters.get(number)
            {
                changed = penalties.apply::<W>(changed, W::load(&counters.0));
            }
            // What is not finite stays so through all of the above, but for infinity less infinity, which is not a number.
            bad = W::or(bad, W::keep(exponent::<W>(changed), W::splat(u32::MAX)));
            let mut may = W::greater(end, at);
            if let Some(allowed) = &allowed {
                may = W::both(may, allowed.block(number));
            }
            let changed = W::select(may, W::bits(changed), excluded);
            race.run(key::<W>(W::floats(changed)), at);
            if let Some(out) = self.out.get_mut(number) {
                W::store_floats(W::floats(changed), &mut out.0);
            }
            at = W::add(at, W::splat(LANES as u32));
        }
        (race.best(), any::<W>(bad))
    }
}
