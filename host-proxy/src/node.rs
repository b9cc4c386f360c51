//! The chain, as one node tells it: HTTP for the questions of [`settlement::toncenter`] (trust boundary B4).
//!
//! Promises: every call ends within [`CHAIN_CALL`](crate::limits::CHAIN_CALL); no answer longer than its limit is held.
//! What the node says is a claim; [`crate::channels`] gives it a maximum age and checks what can be checked without it.

use crate::config::NodeUrl;
use crate::limits::CHAIN_CALL;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use settlement::limits::ANSWER_BYTES_MAX;
use settlement::toncenter::{self, AccountStatus, AccountView, Call, Transaction};
use settlement::{Address, ChannelState};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A node to ask.
#[derive(Debug, Clone)]
pub struct Chain {
    node: NodeUrl,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// The node cannot be reached, or hung up.
    #[error("the chain node {node} cannot be reached: {reason}")]
    Unreachable {
        /// Which node.
        node: String,
        /// What the system says.
        reason: String,
    },
    /// The node took too long.
    #[error("the chain node did not answer within {} s", CHAIN_CALL.as_secs())]
    TimedOut,
    /// The node answered, and the answer is no answer.
    #[error(transparent)]
    Answer(#[from] toncenter::ChainError),
}

/// What a wallet needs to know of itself before it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalletView {
    /// What it holds.
    pub balance: settlement::Nano,
    /// The number its next message must carry.
    pub seqno: u32,
    /// The node's clock, where it tells.
    pub node_unix_s: Option<u64>,
}

impl Chain {
    /// A client of this node. Nothing is sent yet.
    pub fn new(node: NodeUrl) -> Self {
        Chain { node }
    }

    /// A channel's state as the node sees it now.
    pub async fn channel_state(&self, channel: &Address) -> Result<ChannelState, ChainFault> {
        self.ask(toncenter::channel_state(channel)).await
    }

    /// An account's balance and status.
    pub async fn account(&self, address: &Address) -> Result<AccountView, ChainFault> {
        self.ask(toncenter::account(address)).await
    }

    /// An account's latest transactions.
    pub async fn transactions(&self, address: &Address) -> Result<Vec<Transaction>, ChainFault> {
        const LATEST: u16 = 100;
        self.ask(toncenter::transactions(address, LATEST)).await
    }

    /// Hands an external message to the node.
    pub async fn send(&self, boc: &[u8]) -> Result<(), ChainFault> {
        self.ask(toncenter::send_boc(boc)).await
    }

    /// The wallet's balance and the number of its next message, read in this order.
    pub async fn wallet(&self, address: &Address) -> Result<WalletView, ChainFault> {
        let account = self.account(address).await?;
        let seqno = match account.status {
            AccountStatus::Active => self.ask(toncenter::wallet_seqno(address)).await?,
            AccountStatus::Uninitialized => 0,
            AccountStatus::Frozen => {
                let frozen = "the wallet is frozen: it owes rent".to_owned();
                let exit_code = None;
                return Err(toncenter::ChainError::Refused {
                    exit_code,
                    message: frozen,
                }
                .into());
            }
        };
        Ok(WalletView {
            balance: account.balance,
            seqno,
            node_unix_s: account.node_unix_s,
        })
    }

    async fn ask<T>(&self, call: Call<T>) -> Result<T, ChainFault> {
        let path = call.request().path;
        let exchange = tokio::time::timeout(CHAIN_CALL, self.exchange(call.request()));
        let (status, body) = exchange.await.map_err(|_| ChainFault::TimedOut)??;
        tracing::trace!(path, status, bytes = body.len(), "answer of the chain node");
        Ok(call.answer(status, &body)?)
    }

    async fn exchange(&self, request: &toncenter::Request) -> Result<(u16, Bytes), ChainFault> {
        let failed = |reason: String| ChainFault::Unreachable {
            node: self.node.authority.clone(),
            reason,
        };
        let stream = TcpStream::connect(&self.node.authority).await;
        let stream = TokioIo::new(stream.map_err(|e| failed(e.to_string()))?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|e| failed(e.to_string()))?;
        // Ends with this function, also when a time-out drops it.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = hyper::Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.node.prefix, request.path))
            .header(HOST, &self.node.authority)
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
