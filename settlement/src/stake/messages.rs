//! The messages that a stake understands (feature `wallet`).

use super::StakeTerms;
use crate::{
    Contract, Nano, Offence, Payload, StateInit, Transfer, cell::Layout, ton::TreeBuilder,
};

/// Value that goes with a request that moves nothing in.
const REQUEST_VALUE: Nano = Nano(30_000_000);
/// Value above the amount that goes with a deposit: rent of the longest life when the contract starts, its reserve, and gas.
const DEPOSIT_EXTRA: Nano = Nano(200_000_000);
/// Value that goes with a report: gas over a keyset of the largest size. What is left of it comes back.
const REPORT_VALUE: Nano = Nano(100_000_000);

impl StakeTerms {
    /// Code and data that deploy the stake.
    pub fn state_init(&self) -> StateInit {
        Contract::Stake.with_data(self.data::<TreeBuilder>())
    }

    /// Adds collateral, and deploys the contract if it does not run yet; anyone may. `None` if the amount is beyond what money
    /// there can be.
    pub fn deposit(&self, amount: Nano, query_id: u64) -> Option<Transfer> {
        let value = amount.checked_add(DEPOSIT_EXTRA)?;
        let transfer = self.message(value, request(b"sdep", query_id).coins(amount));
        Some(Transfer {
            state_init: Some(self.state_init()),
            ..transfer
        })
    }

    /// Starts the unbonding delay for this amount, and anew for what is leaving already. From the owner's wallet only.
    pub fn unbond(&self, amount: Nano, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"sunb", query_id).coins(amount))
    }

    /// Takes out what has waited out the delay. From the owner's wallet only. After `slashable_until` it takes everything, and the
    /// contract is gone.
    pub fn withdraw(&self, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"swdr", query_id))
    }

    /// Reports an offence; anyone may. The sender gets the reporter's part.
    pub fn report(&self, offence: &Offence, query_id: u64) -> Transfer {
        let body = request(offence.tag(), query_id);
        self.message(REPORT_VALUE, offence.put(body))
    }

    fn message(&self, value: Nano, body: TreeBuilder) -> Transfer {
        Transfer {
            to: self.address(),
            value,
            bounce: true,
            payload: Some(Payload(body.build())),
            state_init: None,
        }
    }
}

fn request(tag: &[u8; 4], query_id: u64) -> TreeBuilder {
    TreeBuilder::new().bytes(tag).uint(64, query_id)
}
