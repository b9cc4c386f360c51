//! The log of receipts ([`wire::LogReceipt`]): closes trees when their time is over, has an authority put its time on them where one is
//! configured, and shows clients where their charges stand.
//!
//! It is the provider's own log, signed by the key that endorses keysets. Whoever has a charge may ask, and learns nothing of others: an
//! entry's hash cannot be guessed without the charge's signatures, and the hashes beside its path say nothing.

mod times;

pub(crate) use times::Times;

use crate::api_error::ApiError;
use crate::clock::now_unix_s;
use crate::error::Error;
use crate::limits::LOG_POLL;
use crate::proxy::Proxy;
use crate::store::LogEntry;
use axum::http::StatusCode;
use std::sync::Arc;
use wire::{LogLeaf, LogReceipt, LogTree, log_root};

/// Closes what is due, again and again.
pub(crate) async fn keep(proxy: Arc<Proxy>, period_s: u64, times: Option<Times>) {
    let timing = async {
        match times {
            Some(times) => times.keep(&proxy).await,
            None => std::future::pending().await,
        }
    };
    let closing = async {
        loop {
            let closing = proxy.clone();
            let closed =
                tokio::task::spawn_blocking(move || close(&closing, now_unix_s(), period_s));
            if let Ok(Err(error)) = closed.await {
                tracing::error!(%error, "a tree of the log is not closed");
            }
            tokio::time::sleep(LOG_POLL).await;
        }
    };
    tokio::join!(closing, timing);
}

/// Closes the open tree if it is due. `true`: it was.
pub(crate) fn close(proxy: &Proxy, now_unix_s: u64, period_s: u64) -> Result<bool, Error> {
    let Some(due) = proxy.store.log_due(now_unix_s, period_s)? else {
        return Ok(false);
    };
    let root = log_root(&due.leaves);
    let size = due.leaves.len() as u64;
    let of = tree(proxy, (due.tree, size), now_unix_s);
    let signature = proxy.payee.sign_tree(&of, &root);
    let closed = proxy.store.log_close(&due, now_unix_s, &root, &signature)?;
    if closed {
        let (tree, entries) = (due.tree, due.leaves.len());
        tracing::info!(
            tree,
            entries,
            root = hex::encode(root),
            "a tree of the log is closed"
        );
    }
    Ok(closed)
}

/// The receipt of an entry.
pub(crate) async fn receipt(
    proxy: &Proxy,
    leaf: LogLeaf,
    period_s: u64,
) -> Result<LogReceipt, ApiError> {
    let one_of_few = proxy.questions.try_acquire();
    let _one_of_few = one_of_few.map_err(|_| ApiError::busy())?;
    let entry = proxy
        .store
        .on_disk(move |store| store.log_entry(&leaf))
        .await;
    match entry.map_err(|error| ApiError::internal(&error))? {
        None => {
            let words = "the log has no such entry, or it was too long ago";
            Err(ApiError::refuse(StatusCode::NOT_FOUND, "log", words))
        }
        Some(LogEntry::Open { opened_unix_s }) => {
            let closes = (opened_unix_s / period_s + 1) * period_s + LOG_POLL.as_secs();
            let left_s = closes.saturating_sub(now_unix_s()).max(1);
            let words = format!("the entry's tree is still open; ask again in {left_s} s");
            let refused = ApiError::refuse(StatusCode::CONFLICT, "log_open", words);
            Err(refused.retry_after(u32::try_from(left_s).unwrap_or(u32::MAX)))
        }
        Some(LogEntry::Closed {
            tree: number,
            closed_unix_s,
            size,
            index,
            path,
            signature,
            timestamp,
        }) => Ok(LogReceipt {
            of: tree(proxy, (number, size), closed_unix_s),
            index,
            path,
            signature,
            timestamp,
        }),
    }
}

fn tree(proxy: &Proxy, (tree, size): (u64, u64), closed_unix_s: u64) -> LogTree {
    LogTree {
        payee: proxy.payee.address(),
        tree,
        size,
        closed_unix_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeUrl;
    use crate::fixtures::{charge, config, directory, payee, payer_key, receipt_key};
    use settlement::SignedCharge;

    const PERIOD_S: u64 = 3600;

    fn record(proxy: &Proxy, charge: &SignedCharge) {
        let keys = (receipt_key().verifying_key(), payer_key().verifying_key());
        let verified = charge.verify(keys.0.as_bytes(), keys.1.as_bytes());
        let verified = verified.expect("a good charge");
        let recorded = proxy.store.record_now(keys.0.as_bytes(), &verified, None);
        recorded.expect("recorded").expect("taken");
    }

    fn proxy(directory: &std::path::Path) -> Proxy {
        let url = NodeUrl::parse("http://127.0.0.1:1").expect("a url");
        Proxy::open(&config(directory, url)).expect("opens")
    }

    #[tokio::test]
    async fn a_charge_is_proved_once_its_tree_is_closed_and_trees_are_chained() {
        let directory = directory();
        let now = now_unix_s();
        let charges: Vec<SignedCharge> = (0..5).map(|seq| charge(seq, 1, seq + 1)).collect();
        let opened = proxy(directory.path());
        for charge in &charges[..3] {
            record(&opened, charge);
            // The same again is no second entry.
            record(&opened, charge);
        }
        let leaf = LogLeaf::of(&charges[1]);
        let early = receipt(&opened, leaf, PERIOD_S).await.expect_err("open");
        assert_eq!((early.status.as_u16(), early.code), (409, "log_open"));
        assert!(
            early
                .retry_after_s
                .is_some_and(|s| u64::from(s) <= PERIOD_S + LOG_POLL.as_secs())
        );
        assert!(!close(&opened, now, 1 << 40).expect("looked"), "not due");
        drop(opened);
        // Nothing is lost with the program.
        let proxy = proxy(directory.path());
        let after = (now / PERIOD_S + 1) * PERIOD_S;
        assert!(close(&proxy, after, PERIOD_S).expect("closed"));
        assert!(!close(&proxy, after + 2 * PERIOD_S, PERIOD_S).expect("nothing is open"));
        for charge in &charges[3..] {
            record(&proxy, charge);
        }
        assert!(close(&proxy, after + 2 * PERIOD_S, PERIOD_S).expect("closed"));
        let endorsing = payee().endorsing_key();
        let mut roots = Vec::new();
        for (charge, place) in charges.iter().zip([(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]) {
            let shown = receipt(&proxy, LogLeaf::of(charge), PERIOD_S).await;
            let shown = LogReceipt::decode(&shown.expect("closed").encode()).expect("a receipt");
            let logged = shown
                .verify(charge, &payee().address(), &endorsing)
                .expect("in the log");
            assert_eq!((logged.of().tree, logged.index()), place);
            roots.push(*logged.root());
        }
        assert_eq!(roots[0], roots[2]);
        let chained = [
            LogLeaf::head(1, &roots[0]),
            LogLeaf::of(&charges[3]),
            LogLeaf::of(&charges[4]),
        ];
        assert_eq!(log_root(&chained), roots[4]);
        let strange = receipt(&proxy, LogLeaf([7; 32]), PERIOD_S).await;
        assert_eq!(strange.expect_err("none").code, "log");
    }
}
