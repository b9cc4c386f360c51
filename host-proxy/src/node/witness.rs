//! A second node, asked where one node's word could cost too much (SECURITY.md 22).
//!
//! One node that lies about a deposit, or hides that a channel closes, gives unbounded credit in its name. Two that belong to
//! different people have to lie alike. They see a change some blocks apart; so when they disagree both are asked once more, and
//! after that there is no answer: no credit, no claim given up.

use super::{Node, NodeError};
use crate::config::SecondNode;
use crate::limits::TWO_NODES_PAUSE;
use settlement::{Address, ChannelState, Nano};

/// A node whose agreement is needed above an amount.
pub struct Witness {
    node: Node,
    above: Nano,
}

impl Witness {
    pub fn new(second: &SecondNode) -> Self {
        Witness {
            node: Node::new(second.url.clone()),
            above: second.above,
        }
    }

    /// `state`, which `first` told, if it concerns little or if the second node tells the same. `promised` is the highest voucher.
    pub(crate) async fn confirm(
        &self,
        first: &Node,
        channel: &Address,
        state: ChannelState,
        promised: Nano,
    ) -> Result<ChannelState, NodeError> {
        if state.deposit.max(promised) <= self.above {
            return Ok(state);
        }
        let other = self.node.channel_state(channel).await?;
        if difference(&state, &other).is_none() {
            return Ok(state);
        }
        crate::clock::pause(TWO_NODES_PAUSE).await;
        let state = first.channel_state(channel).await?;
        let other = self.node.channel_state(channel).await?;
        match difference(&state, &other) {
            None => Ok(state),
            Some(what) => Err(NodeError::Disagree {
                one: first.url.authority.clone(),
                other: self.node.url.authority.clone(),
                what,
            }),
        }
    }
}

/// What two states differ in, if they do. The terms are proved by the channel's address.
fn difference(one: &ChannelState, other: &ChannelState) -> Option<&'static str> {
    let figures = [
        (one.status == other.status, "status"),
        (one.deposit == other.deposit, "deposit"),
        (one.paid == other.paid, "paid amount"),
        (one.unlock_at == other.unlock_at, "close"),
        (one.payer_key == other.payer_key, "payer key"),
        (
            (one.pending_key, one.pending_at) == (other.pending_key, other.pending_at),
            "rotation",
        ),
    ];
    let differing = figures.iter().find(|(same, _)| !same);
    differing
        .map(|(_, what)| *what)
        .or((one != other).then_some("terms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{ChannelRefused, Channels, ExpectedPayee, MaxAge};
    use crate::config::NodeUrl;
    use crate::fixtures::{
        CountingNode, DEPOSIT, channel_state, channel_terms, directory, node, open_channel, payee,
        voucher,
    };
    use crate::store::Store;
    use settlement::{ChainId, ChannelStatus};

    fn channels(
        directory: &std::path::Path,
        first: &NodeUrl,
        second: &NodeUrl,
        above: u64,
    ) -> Channels {
        let payee = payee();
        let expected = ExpectedPayee {
            chain: ChainId::EMBEDDED,
            payee: payee.address(),
            payee_key: payee.public_key(),
        };
        let path = directory.join(format!("{above}.sqlite"));
        let store = Store::open(&path, &payee.address(), ChainId::EMBEDDED).expect("opens");
        let promised = voucher(400).verify(&channel_terms().payer_key);
        store.take_now(&promised.expect("signed")).expect("stored");
        let second = SecondNode {
            url: second.clone(),
            above: Nano(above),
        };
        Channels::new(Node::new(first.clone()), store, expected)
            .with_witness(Some(Witness::new(&second)))
    }

    #[tokio::test]
    async fn much_money_needs_two_nodes_and_little_one() {
        let (directory, (ledger, url)) = (directory(), node().await);
        let channel = open_channel(&ledger);
        let second = CountingNode::start(url.clone()).await;
        let much = channels(directory.path(), &url, &second.url, DEPOSIT.0 - 1);
        much.state(&channel, MaxAge::Now).await.expect("they agree");
        let asked = second.calls();
        assert!(asked > 0);
        let little = channels(directory.path(), &url, &second.url, DEPOSIT.0);
        little.state(&channel, MaxAge::Now).await.expect("one does");
        assert_eq!(second.calls(), asked, "nobody else was asked");
    }

    #[tokio::test]
    async fn a_node_that_lies_alone_gives_no_credit_and_takes_no_voucher_away() {
        let (directory, (honest, truth)) = (directory(), node().await);
        let (liar, lie) = node().await;
        let channel = open_channel(&honest);
        // On the other ledger the same channel is closing.
        open_channel(&liar);
        let payer = settlement::Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
        let close = channel_terms().request_close(1);
        let boc = payer.transfer(1, crate::fixtures::FAR, &[close]);
        liar.send_external(&boc.expect("one transfer"))
            .expect("accepted");
        for (first, second) in [(&lie, &truth), (&truth, &lie)] {
            let of = channels(directory.path(), first, second, 399);
            let refused = of.state(&channel, MaxAge::Now).await;
            let Err(ChannelRefused::Node(NodeError::Disagree { what, .. })) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(what, "status");
        }
        let away = NodeUrl::parse("http://127.0.0.1:1").expect("a url");
        let of = channels(directory.path(), &truth, &away, 399);
        let refused = of.state(&channel, MaxAge::Now).await;
        assert!(refused.is_err(), "fails closed: {refused:?}");
    }

    #[test]
    fn every_figure_counts() {
        let state = channel_state(DEPOSIT);
        assert_eq!(difference(&state, &state), None);
        let check = |change: &dyn Fn(&mut ChannelState), what| {
            let mut other = state.clone();
            change(&mut other);
            assert_eq!(difference(&state, &other), Some(what));
        };
        check(&|s| s.status = ChannelStatus::Closed, "status");
        check(&|s| s.deposit = Nano(1), "deposit");
        check(&|s| s.paid = Nano(1), "paid amount");
        check(&|s| s.unlock_at = 1, "close");
        check(&|s| s.payer_key = [1; 32], "payer key");
        check(&|s| s.pending_at = 1, "rotation");
        check(&|s| s.salt = 9, "terms");
    }
}
