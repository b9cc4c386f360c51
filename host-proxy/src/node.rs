//! A TON node: HTTP or HTTPS for the calls of [`settlement::toncenter`] (trust boundary B4).
//!
//! Promises: every call ends within [`NODE_CALL`](crate::limits::NODE_CALL); no answer longer than its limit is read.
//! The node is not trusted; [`crate::channels`] checks what can be checked without it. An answer is as old as the block that it is
//! from, and one without a date decides nothing (SECURITY.md 22).

mod secured;
pub mod witness;

use crate::clock::{self, now_unix_s};
use crate::config::NodeUrl;
use crate::guest::Dial;
use crate::limits::{
    BLOCK_AGE_MAX_S, BLOCK_REMEMBERED_S, BLOCKS_BEHIND_MAX, HISTORY_PAGES_MAX, NODE_CALL,
    NODE_REFUSALS_MAX, NODE_REFUSED_PAUSE,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use settlement::limits::ANSWER_BYTES_MAX;
use settlement::toncenter::{self, AccountStatus, AccountView, Call, Transaction};
use settlement::{Address, ChannelState, StakeState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(Debug, Clone)]
pub struct Node {
    url: NodeUrl,
    /// The newest block whose time is known. Blocks with a higher number are younger.
    dated: Arc<Mutex<Option<Block>>>,
    /// The time between two calls, and when the last one began.
    pace: Option<(Duration, Arc<tokio::sync::Mutex<Duration>>)>,
    dial: Option<Dial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    seqno: u32,
    unix_s: u64,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("the TON node {node} cannot be reached: {reason}")]
    Unreachable { node: String, reason: String },
    #[error("the TON node did not answer within {} s", NODE_CALL.as_secs())]
    Timeout,
    #[error("the TON node does not say from which block its answer is, and when that was made")]
    Undated,
    #[error(
        "the TON node is behind: its answer is {age_s} s old; at most {BLOCK_AGE_MAX_S} s are accepted"
    )]
    Behind { age_s: u64 },
    #[error(
        "the TON node is behind: it says that the wallet's next message is number {node}, and it had shown number {books} before"
    )]
    BehindBooks { node: u32, books: u32 },
    #[error("the TON nodes {one} and {other} disagree about the channel's {what}")]
    Disagree {
        one: String,
        other: String,
        what: &'static str,
    },
    #[error(transparent)]
    Answer(#[from] toncenter::ChainError),
}

/// What must be known of a wallet before it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalletView {
    pub balance: settlement::Nano,
    /// Of the wallet's next message.
    pub seqno: u32,
    /// The chain's clock: when this was so.
    pub unix_s: u64,
    /// Logical time of the wallet's last transaction.
    pub last_lt: u64,
}

/// An account's transactions after some logical time, newest first.
pub struct History {
    pub transactions: Vec<Transaction>,
    /// Whether it reaches back to that time.
    pub whole: bool,
}

impl Node {
    pub fn new(url: NodeUrl) -> Self {
        Node {
            url,
            dated: Arc::default(),
            pace: None,
            dial: None,
        }
    }

    /// From now on connections come from `dial` and not from a network.
    pub fn dialled(mut self, dial: Dial) -> Self {
        self.dial = Some(dial);
        self
    }

    /// From now on at most so many calls a second are made, by all clones together.
    pub fn paced(mut self, calls_per_s: Option<u32>) -> Self {
        let gap = |calls: u32| Duration::from_secs(1) / calls.max(1);
        self.pace = calls_per_s.map(|calls| (gap(calls), Arc::default()));
        self
    }

    /// A channel's state, in a recent block.
    pub async fn channel_state(&self, channel: &Address) -> Result<ChannelState, NodeError> {
        let call = toncenter::channel_state_in_block(channel);
        self.in_recent_block(channel, call).await
    }

    /// A stake's state, in a recent block. `None`: nothing runs there.
    pub async fn stake_state(&self, stake: &Address) -> Result<Option<StakeState>, NodeError> {
        match self.account(stake).await?.status {
            AccountStatus::Active => {
                let call = toncenter::stake_state(stake);
                self.in_recent_block(stake, call).await.map(Some)
            }
            AccountStatus::Uninitialized | AccountStatus::Frozen => Ok(None),
        }
    }

    async fn in_recent_block<T>(
        &self,
        account: &Address,
        call: Call<(T, Option<u32>)>,
    ) -> Result<T, NodeError> {
        let known = *self.dated();
        let recent =
            |block: &Block| now_unix_s().saturating_sub(block.unix_s) <= BLOCK_REMEMBERED_S;
        let dated = match known.filter(recent) {
            Some(block) => block,
            None => date(&self.account(account).await?)?,
        };
        match self.ask(call).await? {
            (state, Some(seqno)) if seqno.saturating_add(BLOCKS_BEHIND_MAX) >= dated.seqno => {
                Ok(state)
            }
            (_, Some(_)) => Err(NodeError::Behind {
                age_s: now_unix_s().saturating_sub(dated.unix_s),
            }),
            (_, None) => Err(NodeError::Undated),
        }
    }

    /// An account, in a recent block.
    pub async fn account(&self, address: &Address) -> Result<AccountView, NodeError> {
        let view = self.ask(toncenter::account(address)).await?;
        let block = date(&view)?;
        let age_s = now_unix_s().saturating_sub(block.unix_s);
        if age_s > BLOCK_AGE_MAX_S {
            return Err(NodeError::Behind { age_s });
        }
        let mut dated = self.dated();
        if dated.is_none_or(|known| known.seqno <= block.seqno) {
            *dated = Some(block);
        }
        Ok(view)
    }

    fn dated(&self) -> MutexGuard<'_, Option<Block>> {
        self.dated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An account's transactions after a logical time, page by page, so that nobody hides one behind others.
    pub async fn history(&self, address: &Address, after_lt: u64) -> Result<History, NodeError> {
        const PAGE: u16 = 100;
        let mut transactions: Vec<Transaction> = Vec::new();
        for _ in 0..HISTORY_PAGES_MAX {
            let last = transactions.last();
            let before = last.map_or(u64::MAX, |last| last.lt);
            let page = self
                .ask(toncenter::transactions(address, PAGE, last))
                .await?;
            let length = transactions.len();
            // A page begins with the transaction that it was asked for.
            let new = page
                .into_iter()
                .filter(|tx| tx.lt < before && tx.lt > after_lt);
            transactions.extend(new);
            if transactions.len() < length + usize::from(PAGE) - 1 {
                let whole = true;
                return Ok(History {
                    transactions,
                    whole,
                });
            }
        }
        let whole = false;
        Ok(History {
            transactions,
            whole,
        })
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
            unix_s: date(&account)?.unix_s,
            last_lt: account.last_lt,
        })
    }

    async fn ask<T>(&self, call: Call<T>) -> Result<T, NodeError> {
        let mut pause = NODE_REFUSED_PAUSE;
        for _ in 0..NODE_REFUSALS_MAX {
            match self.ask_once(&call).await {
                Err(NodeError::Answer(toncenter::ChainError::RateLimited)) => {
                    clock::pause(pause).await;
                    pause *= 2;
                }
                answered => return answered,
            }
        }
        self.ask_once(&call).await
    }

    async fn ask_once<T>(&self, call: &Call<T>) -> Result<T, NodeError> {
        self.turn().await;
        #[cfg(test)]
        crate::kill::step();
        let path = call.request().path;
        let exchange = tokio::time::timeout(NODE_CALL, self.exchange(call.request()));
        let (status, body) = exchange.await.map_err(|_| NodeError::Timeout)??;
        tracing::trace!(path, status, bytes = body.len(), "answer of the chain node");
        #[cfg(test)]
        crate::kill::step();
        Ok(call.answer(status, &body)?)
    }

    /// Waits until another call may begin.
    async fn turn(&self) {
        let Some((gap, last)) = &self.pace else {
            return;
        };
        let mut last = last.lock().await;
        let next = *last + *gap;
        // A clock that was set back delays nothing by more than one gap.
        let wait = next.saturating_sub(clock::now()).min(*gap);
        if !wait.is_zero() {
            clock::pause(wait).await;
        }
        *last = clock::now();
    }

    async fn exchange(&self, request: &toncenter::Request) -> Result<(u16, Bytes), NodeError> {
        let failed = |reason: String| NodeError::Unreachable {
            node: self.url.authority.clone(),
            reason,
        };
        if self.url.tls {
            return secured::exchange(&self.url, request).await.map_err(failed);
        }
        // Ends with this function, also when a time-out drops it.
        let mut driver = JoinSet::new();
        let sender = match &self.dial {
            None => match TcpStream::connect(&self.url.authority).await {
                Ok(stream) => handshake(stream, &mut driver).await,
                Err(error) => Err(error.to_string()),
            },
            Some(Dial(dial)) => match dial() {
                Ok(stream) => handshake(stream, &mut driver).await,
                Err(error) => Err(error.to_string()),
            },
        };
        let mut sender = sender.map_err(failed)?;
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

/// HTTP on a connection, driven by a task of `driver`.
async fn handshake<S>(
    stream: S,
    driver: &mut JoinSet<hyper::Result<()>>,
) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|e| e.to_string())?;
    driver.spawn(connection);
    Ok(sender)
}

impl NodeError {
    /// Whether it is over soon by itself.
    pub(crate) fn passes(&self) -> bool {
        matches!(
            self,
            NodeError::Behind { .. }
                | NodeError::BehindBooks { .. }
                | NodeError::Answer(toncenter::ChainError::RateLimited)
        )
    }
}

fn date(view: &AccountView) -> Result<Block, NodeError> {
    match (view.block_seqno, view.block_unix_s) {
        (Some(seqno), Some(unix_s)) => Ok(Block { seqno, unix_s }),
        _ => Err(NodeError::Undated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{node, open_channel, payee};
    use settlement::Nano;

    #[tokio::test]
    async fn an_answer_is_as_old_as_its_block_and_an_old_one_is_refused() {
        let (ledger, url) = node().await;
        let channel = open_channel(&ledger);
        let now = ledger.now();
        let at = async |age_s: u32| {
            ledger.set_time(now - age_s);
            Node::new(url.clone()).channel_state(&channel).await
        };
        at(0).await.expect("young");
        at(BLOCK_AGE_MAX_S as u32 - 5).await.expect("young enough");
        let behind = at(3_600).await.expect_err("old");
        assert!(
            matches!(behind, NodeError::Behind { age_s: 3_600.. }),
            "{behind}"
        );
    }

    #[tokio::test]
    async fn no_number_of_transactions_hides_one() {
        let (ledger, url) = node().await;
        open_channel(&ledger);
        let (node, wallet) = (Node::new(url), payee().address());
        let after_lt = ledger.account(&wallet).expect("read").last_lt;
        let mut made = 0;
        for count in [0, 1, 99, 100, 101, 199, 250] {
            for _ in made..count {
                ledger.faucet(&wallet, Nano(1)).expect("dust");
            }
            made = count;
            let history = node.history(&wallet, after_lt).await.expect("read");
            assert_eq!((history.whole, history.transactions.len()), (true, count));
            assert!(history.transactions.is_sorted_by(|a, b| a.lt > b.lt));
        }
    }
}
