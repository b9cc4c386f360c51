//! One of the considered tokens, each as often as its weight says: the token at which the sum of weights passes a random number.

use super::threshold::Kept;
use super::weights::{Mass, sum};
use crate::Path;
use crate::oblivious::mask::{equal, less, select, select_wide};
use crate::oblivious::wide::{Block, LANES, Pass, Wide, pass};

/// Blocks of weights that make a group. The groups' sums say in which the token is; that group is then walked.
pub const GROUP: usize = 64;

/// A group's weights above the least, and how many are the least.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    above: u64,
    ties: u32,
}

/// The token for 64 random bits. `weights` are whole groups.
pub fn draw(path: Path, weights: &[Block<u32>], kept: Kept, bits: u64) -> u32 {
    let groups: Vec<Group> = { weights.chunks(GROUP) }
        .map(|weights| pass(path, Sums(weights, kept.least)))
        .collect();
    let of_group = |group: &Group, ties: u32| {
        let used = select(less(ties.into(), group.ties.into()), ties, group.ties);
        (group.above + u64::from(used) * u64::from(kept.least), used)
    };
    let (mut total, mut ties) = (0, kept.ties);
    for group in &groups {
        let (mass, used) = of_group(group, ties);
        total += mass;
        ties -= used;
    }
    let wanted = ((u128::from(bits) * u128::from(total)) >> 64) as u64;

    let (mut passed, mut ties) = (0, kept.ties);
    let (mut chosen, mut passed_before, mut ties_before) = (0, 0, kept.ties);
    for group in &groups {
        let (mass, used) = of_group(group, ties);
        passed += mass;
        ties -= used;
        let behind = !less(wanted, passed);
        chosen += behind & 1;
        passed_before = select_wide(behind, passed, passed_before);
        ties_before = select(behind, ties, ties_before);
    }
    let group = pass(path, Fetch(weights, chosen));
    let inside = walk(&group, kept.least, ties_before, wanted - passed_before);
    chosen * (GROUP * LANES) as u32 + inside
}

/// How many tokens of a group are before the one at which the sum of considered weights passes `wanted`.
fn walk(group: &[Block<u32>; GROUP], least: u32, ties: u32, wanted: u64) -> u32 {
    let (mut ties, mut passed, mut before) = (ties, 0, 0);
    for weight in group.iter().flat_map(|block| block.0) {
        let tie = equal(weight, least) & !equal(ties, 0);
        ties -= tie & 1;
        let considered = less(least.into(), weight.into()) | tie;
        passed += u64::from(weight & considered);
        before += !less(wanted, passed) & 1;
    }
    before
}

struct Sums<'a>(&'a [Block<u32>], u32);

impl Pass for Sums<'_> {
    type Output = Group;

    #[inline(always)]
    fn run<W: Wide>(self) -> Group {
        let (least, one) = (W::splat(self.1), W::splat(1));
        let (mut mass, mut ties) = (Mass::<W>::zero(), W::splat(0));
        for block in self.0 {
            let weights = W::load(&block.0);
            mass.add(W::keep(W::greater(weights, least), weights));
            ties = W::add(ties, W::keep(W::equal(weights, least), one));
        }
        Group {
            above: mass.total(),
            ties: sum::<W>(ties) as u32,
        }
    }
}

struct Fetch<'a>(&'a [Block<u32>], u32);

impl Pass for Fetch<'_> {
    type Output = [Block<u32>; GROUP];

    #[inline(always)]
    fn run<W: Wide>(self) -> [Block<u32>; GROUP] {
        let mut found = [Block([0; LANES]); GROUP];
        for (number, group) in (0u32..).zip(self.0.chunks(GROUP)) {
            let mask = W::splat(equal(number, self.1));
            for (block, found) in group.iter().zip(&mut found) {
                let kept = W::and(mask, W::load(&block.0));
                W::store(W::or(W::load(&found.0), kept), &mut found.0);
            }
        }
        found
    }
}
