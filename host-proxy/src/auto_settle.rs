//! Settling without a command: what has reached the threshold, and whatever would soon be void.

use crate::channels::MaxAge;
use crate::config::SettleRule;
use crate::limits::{CLAIM_COST, CLAIM_WORTH, CLAIMS_END_SOON_S, SWEEP_S, SWEEP_S_MIN};
use crate::proxy::Proxy;
use crate::settle::{SettleError, Settled};
use settlement::{Address, ChannelState, Nano};
use std::sync::Arc;
use std::time::Duration;

/// Looks at every channel with unpaid vouchers, again and again. Without a rule only what would soon be void is claimed.
pub(crate) async fn settle_automatically(proxy: Arc<Proxy>, rule: Option<SettleRule>) {
    loop {
        let pause_s = sweep(&proxy, rule).await;
        crate::clock::pause(Duration::from_secs(pause_s)).await;
    }
}

/// A channel whose vouchers should become money now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    channel: Address,
    /// Whether the payer could make them void before long. These come first.
    endangered: bool,
    /// After this moment they may be void.
    until_unix_s: u32,
}

/// Settles what is due, the most urgent first. Returns after how many seconds to look again.
pub(crate) async fn sweep(proxy: &Proxy, rule: Option<SettleRule>) -> u64 {
    let interval_s = rule.map_or(SWEEP_S, |rule| rule.interval_s);
    let unpaid = match proxy.store.on_disk(|s| s.unpaid()).await {
        Ok(unpaid) => unpaid,
        Err(error) => {
            tracing::error!(%error, "settling");
            return interval_s;
        }
    };
    let mut all = Vec::new();
    for (channel, gain) in unpaid {
        if gain <= CLAIM_COST {
            continue;
        }
        match proxy.channels.state(&channel, MaxAge::AskAgain).await {
            Ok(state) => all.extend(due(channel, &state, gain, rule, crate::clock::now_unix_s())),
            Err(error) => tracing::warn!(%channel, %error, "not settled"),
        }
    }
    in_order(&mut all);
    let channels: Vec<Address> = all.iter().map(|due| due.channel).collect();
    let failed: Vec<Address> = match proxy.settler().settle_all(&channels).await {
        Ok(results) => results.into_iter().filter_map(failed).collect(),
        Err(error) => {
            tracing::error!(%error, channels = channels.len(), "nothing is settled");
            channels
        }
    };
    let ends = all.iter().filter(|due| failed.contains(&due.channel));
    let left_s = ends.map(|due| {
        let until_s = u64::from(due.until_unix_s);
        until_s.saturating_sub(crate::clock::now_unix_s())
    });
    let soonest_s = left_s.min().map(|left_s| (left_s / 4).max(SWEEP_S_MIN));
    soonest_s.map_or(interval_s, |soonest_s| soonest_s.min(interval_s))
}

/// Says what became of a channel, and returns it if it has to be tried again.
fn failed((channel, result): (Address, Result<Settled, SettleError>)) -> Option<Address> {
    match result {
        Ok(settled) => {
            let (price, fee) = (settled.price_nano, settled.fee_nano);
            tracing::info!(%channel, %price, ?fee, "settled");
            None
        }
        // Said where it was noticed, and remembered.
        Err(SettleError::Over { .. }) => None,
        Err(error) => {
            tracing::error!(%channel, %error, "not settled");
            Some(channel)
        }
    }
}

/// Whether a channel in this state is due: at its threshold, or at once where the payer could soon make its vouchers void.
fn due(
    channel: Address,
    state: &ChannelState,
    gain: Nano,
    rule: Option<SettleRule>,
    now_unix_s: u64,
) -> Option<Due> {
    let until_unix_s = state.claimable_until();
    let endangered = state.admits(now_unix_s).is_err()
        || now_unix_s + CLAIMS_END_SOON_S >= u64::from(until_unix_s);
    let reached = rule.is_some_and(|rule| gain >= rule.threshold.max(CLAIM_WORTH));
    (endangered || reached).then_some(Due {
        channel,
        endangered,
        until_unix_s,
    })
}

/// Deadlines before thresholds, and the nearest deadline first.
fn in_order(all: &mut [Due]) {
    all.sort_by_key(|due| (!due.endangered, due.until_unix_s, due.channel));
}

#[cfg(test)]
mod day;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{
        DEPOSIT, FAR, channel_state, channel_terms, config, directory, node, open_channel, voucher,
    };
    use settlement::{ChainId, ChannelStatus, Wallet};

    const RULE: SettleRule = SettleRule {
        threshold: DEPOSIT,
        interval_s: 300,
    };

    #[test]
    fn what_may_soon_be_void_is_due_whatever_it_has_reached() {
        const NOW: u64 = 1_800_000_000;
        let channel = channel_terms().address();
        let mut open = channel_state(DEPOSIT);
        open.claims_until = NOW as u32 + 1_000_000;
        let check = |change: &dyn Fn(&mut ChannelState), gain: Nano, expected: Option<u32>| {
            let mut state = open.clone();
            change(&mut state);
            for rule in [Some(RULE), None] {
                let reached = rule.is_some() && gain >= RULE.threshold;
                let until = expected.or(reached.then_some(state.claims_until));
                let got = due(channel, &state, gain, rule, NOW).map(|due| due.until_unix_s);
                assert_eq!(got, until, "{state:?}");
            }
        };
        let little = Nano(RULE.threshold.0 - 1);
        let at = NOW as u32 + 50;
        check(&|_| (), little, None);
        check(&|_| (), RULE.threshold, None);
        check(
            &|s| (s.status, s.unlock_at) = (ChannelStatus::Closing, at),
            little,
            Some(at),
        );
        check(
            &|s| (s.pending_key, s.pending_at) = ([9; 32], at),
            little,
            Some(at),
        );
        check(&|s| s.claims_until = at, little, Some(at));
        check(&|s| s.close_delay_s = 0, little, Some(open.claims_until));
    }

    #[test]
    fn a_claim_waits_until_it_is_worth_five_times_its_cost() {
        const NOW: u64 = 1_800_000_000;
        let channel = channel_terms().address();
        let mut state = channel_state(DEPOSIT);
        state.claims_until = NOW as u32 + 1_000_000;
        let eager = SettleRule {
            threshold: Nano(1),
            interval_s: 300,
        };
        let is_due = |state: &ChannelState, gain: u64| {
            due(channel, state, Nano(gain), Some(eager), NOW).is_some()
        };
        assert!(!is_due(&state, CLAIM_COST.0));
        assert!(!is_due(&state, CLAIM_WORTH.0 - 1));
        assert!(is_due(&state, CLAIM_WORTH.0));
        (state.status, state.unlock_at) = (ChannelStatus::Closing, NOW as u32 + 3_600);
        assert!(
            is_due(&state, CLAIM_COST.0 + 1),
            "it will not be worth more"
        );
    }

    #[test]
    fn deadlines_come_before_thresholds_and_the_nearest_first() {
        let due = |salt, endangered, until_unix_s| Due {
            channel: settlement::ChannelTerms {
                salt,
                ..channel_terms()
            }
            .address(),
            endangered,
            until_unix_s,
        };
        // The first is at its threshold and ends soonest; nobody can take that time from it.
        let (full, late, soon) = (due(1, false, 10), due(2, true, 30), due(3, true, 20));
        let mut all = [full, late, soon];
        in_order(&mut all);
        assert_eq!(all, [soon, late, full]);
    }

    #[tokio::test]
    async fn a_payer_that_closes_is_claimed_in_time_and_a_dead_channel_costs_no_calls() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let counting = crate::fixtures::CountingNode::start(url).await;
        let channel = open_channel(&ledger);
        let proxy = Proxy::open(&config(directory.path(), counting.url.clone())).expect("opens");
        proxy.take(&voucher(CLAIM_COST.0 + 1)).await.expect("taken");
        sweep(&proxy, None).await;
        let paid = async || {
            proxy
                .channels
                .state(&channel, MaxAge::Now)
                .await
                .expect("known")
                .paid
        };
        assert_eq!(paid().await, Nano::ZERO);
        let payer = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
        let send = |seqno, message| {
            let boc = payer
                .transfer(seqno, FAR, &[message])
                .expect("one transfer");
            ledger.send_external(&boc).expect("accepted");
        };
        send(1, channel_terms().request_close(1));
        tokio::time::sleep(crate::limits::CHANNEL_AGE_MIN * 2).await;
        assert_eq!(sweep(&proxy, None).await, SWEEP_S);
        assert_eq!(paid().await, Nano(CLAIM_COST.0 + 1));
        // Below the cost of a claim it is left alone, and nobody is asked about it.
        proxy.take(&voucher(CLAIM_COST.0 * 2)).await.expect("taken");
        let before = counting.calls();
        sweep(&proxy, None).await;
        assert_eq!(counting.calls(), before);
        proxy.take(&voucher(CLAIM_COST.0 * 3)).await.expect("taken");
        ledger.set_time(ledger.now() + channel_terms().close_delay_s + 1);
        send(2, channel_terms().finalize_close(2));
        sweep(&proxy, None).await;
        let before = counting.calls();
        sweep(&proxy, None).await;
        assert_eq!(
            counting.calls(),
            before,
            "a closed channel is asked about once"
        );
    }
}
