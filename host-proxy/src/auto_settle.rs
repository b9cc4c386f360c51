//! Settling without a command.

use crate::channels::MaxAge;
use crate::clock::now_unix_s;
use crate::config::SettleRule;
use crate::proxy::Proxy;
use crate::settle::SettleError;
use settlement::{Address, ChannelStatus};
use std::sync::Arc;
use std::time::Duration;

/// Settles what has reached the threshold, and at once what will soon be void.
pub(crate) async fn settle_automatically(proxy: Arc<Proxy>, rule: SettleRule) {
    loop {
        tokio::time::sleep(Duration::from_secs(rule.interval_s)).await;
        let channels = proxy.store.on_disk(|s| s.channels()).await;
        for channel in channels
            .inspect_err(|error| tracing::error!(%error, "settling"))
            .unwrap_or_default()
        {
            if let Err(error) = settle_if_due(&proxy, &channel, rule).await {
                tracing::warn!(%channel, %error, "not settled");
            }
        }
    }
}

async fn settle_if_due(
    proxy: &Proxy,
    channel: &Address,
    rule: SettleRule,
) -> Result<(), SettleError> {
    const DAY_S: u64 = 24 * 3600;
    let (state, of) = (
        proxy.channels.state(channel, MaxAge::Recent).await?,
        *channel,
    );
    let figures = proxy.store.on_disk(move |s| s.figures(&of)).await?;
    let vouchered = figures.vouchered;
    let gain = vouchered
        .min(state.deposit)
        .checked_sub(state.paid)
        .unwrap_or_default();
    let ends_soon = state.status == ChannelStatus::Closing
        || state.pending_key != [0; 32] && state.pending_key != state.payer_key
        || now_unix_s() + DAY_S >= u64::from(state.claims_until);
    if state.status == ChannelStatus::Closed || gain.0 == 0 || gain < rule.threshold && !ends_soon {
        return Ok(());
    }
    let settled = proxy.settler().settle(channel).await?;
    tracing::info!(%channel, price = %settled.price_nano, fee = %settled.fee_nano, "settled");
    Ok(())
}
