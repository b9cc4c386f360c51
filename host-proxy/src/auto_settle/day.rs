//! A day of a market, to see what settling costs: the shipped rule decides when to claim, in virtual time. What a message costs was
//! measured on the ledger; prices of tokens are an assumption, since only the turnover of a channel matters.

use super::*;
use crate::fixtures::{channel_state, channel_terms};
use crate::limits::EXTERNAL_CLAIM_COST;

const ANSWERS: u64 = 1_000_000;
const CLIENTS: u64 = 100;
const PROVIDERS: u64 = 20;
const DAY_S: u64 = 86_400;
/// Channels that a client keeps: it stays with a few providers.
const PROVIDERS_OF_A_CLIENT: u64 = 2;
/// The mean cost of an answer: 1,000 tokens at 1 TON for a million.
const ANSWER: u64 = 1_000_000;
/// The operator's threshold: what makes a claim without the wallet less than 0.2 % of it.
const THRESHOLD: Nano = Nano(2_500_000_000);
/// Opening a channel, asking it to close, withdrawing and taking the tombstone's coins back (measured).
const CHANNEL_LIFE: u64 = 40_900_000;
/// How long a channel serves before it is closed, for the share of its opening and closing.
const CHANNEL_DAYS: u64 = 90;
/// Cocoon's heartbeat: some 1,920 messages of a proxy's wallet a day at 0.0025 TON, whatever it earns.
const HEARTBEAT_A_DAY: u64 = 1_920 * 2_500_000;

#[derive(Default)]
struct Market {
    /// Promised and claimed, provider by provider.
    channels: Vec<(u64, u64)>,
    turnover: u64,
    claims: u64,
}

impl Market {
    /// Every provider looks at its channels, as `sweep` does.
    fn sweep(&mut self, now_unix_s: u64) {
        let rule = Some(SettleRule {
            threshold: THRESHOLD,
            interval_s: SWEEP_S,
        });
        let mut state = channel_state(Nano(u64::MAX));
        state.claims_until = (now_unix_s + CHANNEL_DAYS * DAY_S) as u32;
        let channel = channel_terms().address();
        let per_provider = self.channels.len() / PROVIDERS as usize;
        for channels in self.channels.chunks_mut(per_provider) {
            for (promised, paid) in channels {
                let gain = Nano(*promised - *paid);
                if gain > CLAIM_COST && due(channel, &state, gain, rule, now_unix_s).is_some() {
                    *paid = *promised;
                    self.claims += 1;
                }
            }
        }
    }
}

#[test]
fn a_day_of_a_million_answers_costs_less_than_a_five_hundredth_of_its_turnover() {
    let channels = (CLIENTS * PROVIDERS_OF_A_CLIENT) as usize;
    let mut market = Market {
        channels: vec![(0, 0); channels],
        ..Market::default()
    };
    let (start, mut random, mut looked) = (1_800_000_000, 1u64, 0);
    for answer in 0..ANSWERS {
        random = random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let channel = (random >> 33) as usize % channels;
        let cost = ANSWER / 4 + (random >> 20) % (ANSWER * 3 / 2);
        market.channels[channel].0 += cost;
        market.turnover += cost;
        let second = answer * DAY_S / ANSWERS;
        if second >= looked + SWEEP_S {
            looked = second;
            market.sweep(start + second);
        }
    }
    market.sweep(start + DAY_S);
    let open: u64 = market.channels.iter().map(|(p, paid)| p - paid).sum();
    let share = |cost: u64| cost as f64 / market.turnover as f64;
    let opening = channels as u64 * CHANNEL_LIFE / CHANNEL_DAYS;
    let fees = market.claims * EXTERNAL_CLAIM_COST.0;
    let heartbeats = PROVIDERS * HEARTBEAT_A_DAY;
    println!(
        "turnover {}: {} claims, fees {} ({:.3} %); opening and closing {} a day ({:.3} %); not yet claimed {}",
        Nano(market.turnover).in_ton(),
        market.claims,
        Nano(fees).in_ton(),
        100.0 * share(fees),
        Nano(opening).in_ton(),
        100.0 * share(opening),
        Nano(open).in_ton(),
    );
    println!(
        "beside it: heartbeats of {PROVIDERS} proxies as Cocoon's cost {} a day ({:.1} %)",
        Nano(heartbeats).in_ton(),
        100.0 * share(heartbeats)
    );
    assert!(market.claims >= channels as u64 / 2, "{}", market.claims);
    assert!(share(fees + opening) < 0.002);
    assert!(share(heartbeats) > 0.05);
}
