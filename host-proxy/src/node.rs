//! A TON node: HTTP for the calls of [`settlement::toncenter`] (trust boundary B4).
//!
//! Promises: every call ends within [`NODE_CALL`](crate::limits::NODE_CALL); no answer longer than its limit is read.
//! The node is not trusted; [`crate::channels`] limits the age of what it says and checks what can be checked without it.

use crate::config::NodeUrl;
use crate::limits::NODE_CALL;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use settlement::limits::ANSWER_BYTES_MAX;
use settlement::toncenter::{self, AccountStatus, AccountView, Call, Transaction};
use settlement::{Address, ChannelState};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(Debug, Clone)]
pub struct Node {
    url: NodeUrl,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("the TON node {node} cannot be reached: {reason}")]
    Unreachable { node: String, reason: String },
    #[error("the TON node did not answer within {} s", NODE_CALL.as_secs())]
    Timeout,
    #[error(transparent)]
    Answer(#[from] toncenter::ChainError),
}

/// What must be known of a wallet before it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalletView {
    pub balance: settlement::Nano,
    /// Of the wallet's next message.
    pub seqno: u32,
    /// The node's clock, where it reports one.
    pub node_unix_s: Option<u64>,
}

impl Node {
    pub fn new(url: NodeUrl) -> Self {
        Node { url }
    }

    pub async fn channel_state(&self, channel: &Address) -> Result<ChannelState, NodeError> {
        self.ask(toncenter::channel_state(channel)).await
    }

    pub async fn account(&self, address: &Address) -> Result<AccountView, NodeError> {
        self.ask(toncenter::account(address)).await
    }

    /// An account's latest transactions.
    pub async fn transactions(&self, address: &Address) -> Result<Vec<Transaction>, NodeError> {
        const LATEST: u16 = 100;
        self.ask(toncenter::transactions(address, LATEST)).await
    }

    /// Sends an external message.
    pub async fn send(&self, boc: &[u8]) -> Result<(), NodeError> {
        self.ask(toncenter::send_boc(boc)).await
    }

    /// The wallet's balance and the number of its next message, read in this order.
    pub async fn wallet(&self, address: &Address) -> Result<WalletView, NodeError> {
        let account = self.account(address).await?;
        let seqno = match account.status {
            AccountStatus::Active => self.ask(toncenter::wallet_seqno(address)).await?,
            AccountStatus::Uninitialized => 0,
            AccountStatus::Frozen => {
                let frozen = toncenter::ChainError::Refused {
                    exit_code: None,
                    message: "the wallet is frozen: it owes storage fees".to_owned(),
                };
                return Err(frozen.into());
            }
        };
        Ok(WalletView {
            balance: account.balance,
            seqno,
            node_unix_s: account.node_unix_s,
        })
    }

    async fn ask<T>(&self, call: Call<T>) -> Result<T, NodeError> {
        let path = call.request().path;
        let exchange = tokio::time::timeout(NODE_CALL, self.exchange(call.request()));
        let (status, body) = exchange.await.map_err(|_| NodeError::Timeout)??;
        tracing::trace!(path, status, bytes = body.len(), "answer of the chain node");
        Ok(call.answer(status, &body)?)
    }

    async fn exchange(&self, request: &toncenter::Request) -> Result<(u16, Bytes), NodeError> {
        let failed = |reason: String| NodeError::Unreachable {
            node: self.url.authority.clone(),
            reason,
        };
        let stream = TcpStream::connect(&self.url.authority).await;
        let stream = TokioIo::new(stream.map_err(|e| failed(e.to_string()))?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|e| failed(e.to_string()))?;
        // Ends with this function, also when a time-out drops it.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = hyper::Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.url.prefix, request.path))
            .header(HOST, &self.url.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(request.body.clone())))
            .map_err(|e| failed(e.to_string()))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok((status, body.map_err(|e| failed(e.to_string()))?.to_bytes()))
    }
}
