//! Which vouchers are taken.

use crate::api_error::ApiError;
use axum::http::StatusCode;
use settlement::{
    Address, ChainId, ChannelState, ChannelStatus, Nano, SignedVoucher, VerifiedVoucher,
    VoucherError,
};

/// Why a voucher is not taken. The payer or the sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherRefused {
    #[error(transparent)]
    Voucher(#[from] VoucherError),
    #[error("the voucher is for chain {got}, the channel is on {own}")]
    Chain { got: ChainId, own: ChainId },
    #[error("the voucher is for channel {0}")]
    Channel(Address),
    #[error("the voucher promises {cumulative} nanoTON, the deposit is {deposit}")]
    AboveDeposit { cumulative: Nano, deposit: Nano },
    #[error("the channel is closed")]
    Closed,
    #[error("the voucher promises {got} nanoTON, {highest} are promised already")]
    Stale { got: Nano, highest: Nano },
}

/// Checks a voucher against the channel's state. Whether it is above the highest one is for the store.
pub fn verify(
    signed: &SignedVoucher,
    channel: &Address,
    state: &ChannelState,
) -> Result<VerifiedVoucher, VoucherRefused> {
    let voucher = &signed.voucher;
    if voucher.chain != state.chain {
        let (got, own) = (voucher.chain, state.chain);
        return Err(VoucherRefused::Chain { got, own });
    }
    if voucher.channel != *channel {
        return Err(VoucherRefused::Channel(voucher.channel));
    }
    if state.status == ChannelStatus::Closed {
        return Err(VoucherRefused::Closed);
    }
    let verified = signed.verify(&state.payer_key)?;
    if verified.cumulative > state.deposit {
        return Err(VoucherRefused::AboveDeposit {
            cumulative: verified.cumulative,
            deposit: state.deposit,
        });
    }
    Ok(verified)
}

/// The code of [`VoucherRefused::Stale`].
pub(crate) const STALE: &str = "stale";

impl From<VoucherRefused> for ApiError {
    fn from(refused: VoucherRefused) -> Self {
        let (status, code) = match refused {
            VoucherRefused::Voucher(VoucherError::Decode(_)) => {
                (StatusCode::BAD_REQUEST, "malformed")
            }
            VoucherRefused::Voucher(_) => (StatusCode::FORBIDDEN, "signature"),
            VoucherRefused::Chain { .. } => (StatusCode::BAD_REQUEST, "chain"),
            VoucherRefused::Channel(_) => (StatusCode::BAD_REQUEST, "channel"),
            VoucherRefused::AboveDeposit { .. } => (StatusCode::PAYMENT_REQUIRED, "deposit"),
            VoucherRefused::Closed => (StatusCode::PAYMENT_REQUIRED, "closed"),
            VoucherRefused::Stale { .. } => (StatusCode::CONFLICT, STALE),
        };
        ApiError::refuse(status, code, refused.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{
        DEPOSIT, channel_state, channel_terms, payee, payer_key, receipt_key, voucher,
    };
    use settlement::Voucher;

    #[test]
    fn only_the_payers_word_for_this_channel_within_its_deposit_is_taken() {
        let channel = channel_terms().address();
        let good = voucher(5).voucher;
        let check =
            |change: &dyn Fn(&mut Voucher), state: ChannelState, expected: VoucherRefused| {
                let mut changed = good;
                change(&mut changed);
                assert_eq!(
                    verify(&changed.sign(&payer_key()), &channel, &state),
                    Err(expected)
                );
            };
        let state = || channel_state(DEPOSIT);
        let (got, own) = (ChainId::MAINNET, ChainId::EMBEDDED);
        check(
            &|v| v.chain = got,
            state(),
            VoucherRefused::Chain { got, own },
        );
        let other = payee().address();
        check(
            &|v| v.channel = other,
            state(),
            VoucherRefused::Channel(other),
        );
        let (cumulative, deposit) = (Nano(DEPOSIT.0 + 1), DEPOSIT);
        check(
            &|v| v.cumulative = cumulative,
            state(),
            VoucherRefused::AboveDeposit {
                cumulative,
                deposit,
            },
        );
        let closed = ChannelState {
            status: ChannelStatus::Closed,
            ..state()
        };
        check(&|_| (), closed, VoucherRefused::Closed);
        let rotated = ChannelState {
            payer_key: receipt_key().verifying_key().to_bytes(),
            ..state()
        };
        check(
            &|_| (),
            rotated,
            VoucherRefused::Voucher(VoucherError::Signature),
        );
        let mut altered = voucher(5);
        altered.voucher.cumulative = Nano(6);
        let forged = VoucherRefused::Voucher(VoucherError::Signature);
        assert_eq!(verify(&altered, &channel, &state()), Err(forged));
        assert!(verify(&voucher(DEPOSIT.0), &channel, &state()).is_ok());
    }
}
