//! Numbers drawn by place, not in sequence: SplitMix64's mixing function over a seed and a counter. Not for secrets.

/// The numbers that belong to a seed.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    seed: u64,
}

impl Chance {
    /// The numbers that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Chance { seed }
    }

    /// The 64 bits at `place`.
    pub fn bits(&self, place: u64) -> u64 {
        let step = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_gives_the_published_splitmix64_sequence() {
        // First outputs of the reference splitmix64.c for the seed 1234567.
        let chance = Chance::new(1_234_567);
        assert_eq!(chance.bits(0), 6_457_827_717_110_365_317);
        assert_eq!(chance.bits(1), 3_203_168_211_198_807_973);
    }
}
