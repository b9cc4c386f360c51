//! How vouchers reach the payee: with each answer, or beside the answers.
//!
//! A voucher is on disk before it is sent, and is sent until the payee says that it is stored. Each envelope encloses the highest one,
//! so no job is refused for one that is still on its way.

use super::Client;
use crate::error::{ClientError, Executed};
use crate::job::Payment;
use crate::limits::{DELIVERY_PAUSE, DELIVERY_PAUSE_MAX, REPLY_BYTES_MAX};
use crate::session::{proxy_error, proxy_refused};
use crate::transport;
use serde_json::Value;
use settlement::{Nano, SignedVoucher};
use std::sync::atomic::{AtomicBool, Ordering};

const LATER: &str = "the voucher is on disk and will be sent again";

/// Says that vouchers are delivered besides, until it is dropped.
struct Delivering<'a>(&'a AtomicBool);

impl<'a> Delivering<'a> {
    fn begin(of: &'a AtomicBool) -> Self {
        of.store(true, Ordering::Relaxed);
        Delivering(of)
    }
}

impl Drop for Delivering<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Client {
    /// Sends a voucher now, or wakes whoever delivers besides. Whether the payee has acknowledged it.
    pub(super) async fn deliver_or_wake(&self, payment: &Payment) -> bool {
        if self.delivers.load(Ordering::Relaxed) {
            self.paid.notify_one();
            return false;
        }
        let delivered = self.deliver(payment).await;
        if let Err(error) = &delivered {
            tracing::warn!("{LATER}: {error}");
        }
        delivered.is_ok()
    }

    /// Sends a voucher to the payee. `Ok` means that the payee says it is stored.
    pub async fn deliver(&self, payment: &Payment) -> Result<(), ClientError> {
        let _one_at_a_time = self.delivery.lock().await;
        if !self.shared.budget.awaits(payment.cumulative)? {
            return Ok(());
        }
        self.post_voucher(&payment.voucher, payment.cumulative)
            .await
    }

    /// Sends the highest voucher again, if the payee has not acknowledged it.
    pub async fn deliver_outstanding(&self) -> Result<(), ClientError> {
        let _one_at_a_time = self.delivery.lock().await;
        match self.shared.budget.unacknowledged()? {
            Some(signed) => self.post_voucher(&signed, signed.voucher.cumulative).await,
            None => Ok(()),
        }
    }

    /// Sends the highest voucher when there is a new one, for as long as it is polled. Answers do not wait for that meanwhile, and a
    /// voucher that comes soon after another waits for those after it: the next envelope encloses it anyhow.
    pub async fn deliver_waiting(&self) {
        let _delivers = Delivering::begin(&self.delivers);
        let mut pause = DELIVERY_PAUSE;
        loop {
            match self.deliver_outstanding().await {
                Ok(()) => {
                    pause = DELIVERY_PAUSE;
                    tokio::time::sleep(pause).await;
                    self.paid.notified().await;
                }
                Err(error) => {
                    tracing::warn!("{LATER}: {error}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(DELIVERY_PAUSE_MAX);
                }
            }
        }
    }

    async fn post_voucher(
        &self,
        voucher: &SignedVoucher,
        cumulative: Nano,
    ) -> Result<(), ClientError> {
        const WHAT: &str = "voucher";
        let ask = transport::Ask {
            method: "POST",
            path: "/v1/vouchers",
            content_type: "application/vnd.chrysalis.voucher",
            authorization: "",
            body: voucher.encode(),
        };
        let reply = self.proxy.call(ask, REPLY_BYTES_MAX).await;
        let reply = reply.map_err(|e| proxy_error(WHAT, e, Executed::Yes))?;
        let stored = serde_json::from_slice::<Value>(&reply.body);
        match (reply.status, stored) {
            (200, Ok(answer)) if answer.get("stored") == Some(&Value::Bool(true)) => {
                Ok(self.shared.budget.acknowledge(cumulative)?)
            }
            (200, _) => Err(ClientError::ProxyMisbehaved {
                what: WHAT,
                detail: "it does not say that the voucher is stored".into(),
                executed: Executed::Yes,
            }),
            (status, _) => Err(proxy_refused(WHAT, status, &reply.body, Executed::Yes)),
        }
    }
}
