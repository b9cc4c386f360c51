//! Every bound this crate puts on bytes from elsewhere, and on what it makes.

use crate::Nano;

/// Bytes of an encoded [`SignedVoucher`](crate::SignedVoucher): always exactly this many.
pub const VOUCHER_BYTES: usize = 4 + 4 + ADDRESS_BYTES + 8 + 32 + SIGNATURE_BYTES;

/// Bytes of an encoded [`SignedCharge`](crate::SignedCharge): always exactly this many.
pub const CHARGE_BYTES: usize = 4 + CAP_BYTES + ADDRESS_BYTES + 32 + 8 + 8 + 8 + SIGNATURE_BYTES;

/// Bytes of a [`SignedCap`](crate::SignedCap) in a charge: chain, channel, job, most, signature.
const CAP_BYTES: usize = 4 + ADDRESS_BYTES + 16 + 8 + SIGNATURE_BYTES;

/// Bytes of encoded [`ChannelTerms`](crate::ChannelTerms): always exactly this many.
pub const TERMS_BYTES: usize = 4 + 4 + 2 * ADDRESS_BYTES + 2 * 32 + 4 + 4 + 8;

/// Bytes of an encoded [`SignedClose`](crate::SignedClose): always exactly this many.
pub const CLOSE_BYTES: usize = 4 + 4 + ADDRESS_BYTES + 8 + 4 + SIGNATURE_BYTES;

/// Bytes of an address in these encodings: workchain and hash.
pub const ADDRESS_BYTES: usize = 1 + 32;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The shortest close delay that the contract takes a deposit with: the time that a payee has to claim, several sweeps and retries
/// long.
pub const CLOSE_DELAY_S_MIN: u32 = 3_600;

/// The longest: a payer's deposit is not held for longer than a month after it asked for it.
pub const CLOSE_DELAY_S_MAX: u32 = 30 * 86_400;

/// What must be left of a channel's life: as long as the shortest close delay, for the same reason.
pub const CHANNEL_LIFE_S_MIN: u64 = 3_600;

/// What may be left of it when the contract takes a deposit: whoever deploys it brings the rent of its whole life.
pub const CHANNEL_LIFE_S_MAX: u64 = 4 * 365 * 86_400;

/// The least that an external claim pays; the contract does not accept it below.
pub const EXTERNAL_GROWTH_MIN: Nano = Nano(50_000_000);

/// The most that an external claim costs its payee, by the contract's bounds and main network's prices: 9,000 gas, the payout's
/// forwarding, and two full cells of import.
pub const EXTERNAL_COST_MAX: Nano = Nano(6_200_000);

/// The shortest unbonding delay of a stake: as long as offences can be reported after their key has gone.
pub const UNBOND_DELAY_S_MIN: u32 = 7 * 86_400;

/// The longest.
pub const UNBOND_DELAY_S_MAX: u32 = 90 * 86_400;

/// The longest life of a stake, from its deployment: four years of 365 days.
pub const STAKE_LIFE_S_MAX: u32 = 4 * 365 * 86_400;

/// The cut that takes all of a stake and ends it.
pub const STAKE_SLASHES_MAX: u8 = 16;

/// The highest network fee that a registry takes, in basis points.
pub const REGISTRY_FEE_BPS_MAX: u16 = 500;

/// Bytes of a proxy's endpoint in a registry: its value stays in one cell.
pub const REGISTRY_ENDPOINT_BYTES_MAX: usize = 74;

/// Entries, revocations and proposals that a registry has at most. Whoever reads all of it stops here.
pub const REGISTRY_ITEMS_MAX: usize = 128 + 256 + 32;

/// Messages in one wallet transfer: the most that wallet V5R1 sends at once.
pub const TRANSFERS_MAX: usize = 255;

/// Bytes of a node's answer that are read at all.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Transactions in one answer.
pub const TRANSACTIONS_MAX: usize = 256;

/// Outgoing messages of one transaction (a wallet V5R1 sends 255, the chain allows this many actions).
pub const OUT_MESSAGES_MAX: usize = 255;

/// Items on the stack that a get method answers.
pub const STACK_ITEMS_MAX: usize = 64;

/// Bytes of a node's error text that are kept.
pub const NODE_MESSAGE_BYTES_MAX: usize = 512;
