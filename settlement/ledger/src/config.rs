//! The network's configuration: the prices of TON's main network as of 2026, under our own network id.
//!
//! Clients on a live network read these from the chain. They are written here once, and contracts read them from here through the
//! TVM like anywhere else.

use crate::error::LedgerError;
use settlement::ChainId;
use tycho_executor::{ExecutorParams, ParsedConfig};
use tycho_types::{
    dict::Dict,
    models::{
        BlockchainConfig, GasLimitsPrices, GlobalCapabilities, GlobalVersion, MsgForwardPrices,
        StoragePrices, WorkchainDescription, WorkchainFormat, WorkchainFormatBasic,
    },
    prelude::HashBytes,
};

/// The newest TVM that `tycho-vm` knows; main network runs the same.
const GLOBAL_VERSION: u32 = 12;

/// Main network's set: createStats, bounceMsgBody, reportVersion, shortDequeue, storeOutMsgQueueSize, msgMetadata, deferMessages.
const CAPABILITIES: u64 = 494;

/// Gas in units of 1/65536 nanoTON.
const BASECHAIN_GAS: GasLimitsPrices = GasLimitsPrices {
    gas_price: 400 << 16,
    gas_limit: 1_000_000,
    special_gas_limit: 1_000_000,
    gas_credit: 10_000,
    block_gas_limit: 10_000_000,
    freeze_due_limit: 100_000_000,
    delete_due_limit: 1_000_000_000,
    flat_gas_limit: 100,
    flat_gas_price: 40_000,
};

const MASTERCHAIN_GAS: GasLimitsPrices = GasLimitsPrices {
    gas_price: 10_000 << 16,
    special_gas_limit: 70_000_000,
    block_gas_limit: 2_500_000,
    flat_gas_price: 1_000_000,
    ..BASECHAIN_GAS
};

const BASECHAIN_FORWARD: MsgForwardPrices = MsgForwardPrices {
    lump_price: 400_000,
    bit_price: 26_214_400,
    cell_price: 2_621_440_000,
    ihr_price_factor: 98_304,
    first_frac: 21_845,
    next_frac: 21_845,
};

const MASTERCHAIN_FORWARD: MsgForwardPrices = MsgForwardPrices {
    lump_price: 10_000_000,
    bit_price: 655_360_000,
    cell_price: 65_536_000_000,
    ..BASECHAIN_FORWARD
};

const STORAGE: StoragePrices = StoragePrices {
    utime_since: 0,
    bit_price_ps: 1,
    cell_price_ps: 500,
    mc_bit_price_ps: 1_000,
    mc_cell_price_ps: 500_000,
};

pub(crate) fn network(chain: ChainId, now: u32) -> Result<ParsedConfig, LedgerError> {
    let mut config = BlockchainConfig::new_empty(HashBytes([0x55; 32]));
    config.set_global_version(&GlobalVersion {
        version: GLOBAL_VERSION,
        capabilities: GlobalCapabilities::new(CAPABILITIES),
    })?;
    config.set_global_id(chain.0)?;
    config.set_gas_prices(false, &BASECHAIN_GAS)?;
    config.set_gas_prices(true, &MASTERCHAIN_GAS)?;
    config.set_msg_forward_prices(false, &BASECHAIN_FORWARD)?;
    config.set_msg_forward_prices(true, &MASTERCHAIN_FORWARD)?;
    config.set_storage_prices(&[STORAGE])?;
    config.set_fundamental_addresses(&[])?;
    config.set_size_limits(&ParsedConfig::DEFAULT_SIZE_LIMITS_CONFIG)?;
    let mut workchains = Dict::new();
    workchains.set(0, base_workchain())?;
    config.set_workchains(&workchains)?;
    Ok(ParsedConfig::parse(config, now)?)
}

// Main network describes its workchain with a newer tag that this executor does not know; made here, the older one says the same.
fn base_workchain() -> WorkchainDescription {
    WorkchainDescription {
        enabled_since: 0,
        actual_min_split: 0,
        min_split: 0,
        max_split: 0,
        active: true,
        accept_msgs: true,
        zerostate_root_hash: HashBytes::ZERO,
        zerostate_file_hash: HashBytes::ZERO,
        version: 0,
        format: WorkchainFormat::Basic(WorkchainFormatBasic {
            vm_version: -1,
            vm_mode: 0,
        }),
    }
}

/// How TON, not Tycho's own network, executes: signatures over bare hashes, no authority marks, no full body in bounces.
pub(crate) fn execution(now: u32, block_lt: u64, rand_seed: [u8; 32]) -> ExecutorParams {
    ExecutorParams {
        block_unixtime: now,
        block_lt,
        rand_seed: HashBytes(rand_seed),
        charge_action_fees_on_fail: true,
        strict_extra_currency: true,
        full_body_in_bounced: false,
        authority_marks_enabled: false,
        ..ExecutorParams::default()
    }
}
