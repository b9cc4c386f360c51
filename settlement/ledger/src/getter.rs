//! Runs a get method on an account as it is now.

use crate::{
    config,
    error::{LedgerError, Refusal},
    limits, machine,
};
use num_bigint::{BigInt, Sign};
use settlement::{Address, toncenter::StackItem};
use tycho_executor::ParsedConfig;
use tycho_types::{
    boc::Boc,
    cell::{Cell, CellBuilder},
    models::{Account, AccountState},
};
use tycho_vm::{
    GasParams, OwnedCellSlice, RcStackValue, SafeRc, SmcInfoBase, Stack, StackValueType,
    VmGetterMethodId, VmStateBuilder, VmVersion,
};

/// What a get method answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 and 1 are success.
    pub exit_code: i32,
    /// Gas it would have cost.
    pub gas_used: u64,
    /// The stack it left; empty if it threw.
    pub stack: Vec<StackItem>,
}

pub(crate) fn run(
    config: &ParsedConfig,
    now: u32,
    address: &Address,
    account: Option<Account>,
    method: &str,
    stack: &[StackItem],
) -> Result<Answer, LedgerError> {
    if method.is_empty() || method.len() > limits::METHOD_NAME_BYTES_MAX {
        return Err(Refusal::Call("a method's name has 1 to 128 bytes").into());
    }
    if stack.len() > limits::STACK_ITEMS_MAX {
        return Err(Refusal::Call("more than 64 items on the stack").into());
    }
    let no_code = Refusal::NoCode { account: *address };
    let account = account.ok_or(no_code.clone())?;
    let AccountState::Active(state) = account.state else {
        return Err(no_code.into());
    };
    let code = state.code.ok_or(no_code)?;

    let mut items = stack
        .iter()
        .map(to_vm)
        .collect::<Result<Vec<_>, Refusal>>()?;
    items.push(SafeRc::new_dyn_value(BigInt::from(
        method.as_getter_method_id(),
    )));
    let params = config::execution(now, account.last_trans_lt, [0; 32]);
    let info = SmcInfoBase::new()
        .with_now(now)
        .with_block_lt(account.last_trans_lt)
        .with_tx_lt(account.last_trans_lt)
        .with_account_balance(account.balance)
        .with_account_addr(machine::int_address(address))
        .with_config(config.raw.params.clone())
        .require_ton_v4()
        .with_code(code.clone())
        .require_ton_v6()
        .with_unpacked_config(config.unpacked.as_tuple())
        .require_ton_v11();
    let mut vm = VmStateBuilder::new()
        .with_smc_info(info)
        .with_code(code)
        .with_data(state.data.unwrap_or_default())
        .with_libraries(&state.libraries)
        .with_init_selector(false)
        .with_raw_stack(SafeRc::new(Stack::with_items(items)))
        .with_gas(GasParams::getter())
        .with_modifiers(params.vm_modifiers)
        // The opcodes that transactions have; the context alone would say 11.
        .with_version(VmVersion::LATEST_TON)
        .build();
    let exit_code = !vm.run();
    let stack = match exit_code {
        0 | 1 => vm
            .stack
            .items
            .iter()
            .map(from_vm)
            .collect::<Result<Vec<_>, LedgerError>>()?,
        _ => Vec::new(),
    };
    Ok(Answer {
        exit_code,
        gas_used: vm.gas.consumed(),
        stack,
    })
}

fn to_vm(item: &StackItem) -> Result<RcStackValue, Refusal> {
    let cell = |boc: &[u8]| -> Result<Cell, Refusal> {
        if boc.len() > limits::STACK_BOC_BYTES_MAX {
            return Err(Refusal::Call(
                "a cell of more than 65535 bytes on the stack",
            ));
        }
        Boc::decode(boc).map_err(|_| Refusal::Call("an item on the stack is not a bag of cells"))
    };
    Ok(match item {
        StackItem::Number {
            negative,
            magnitude,
        } => {
            let sign = if *negative { Sign::Minus } else { Sign::Plus };
            SafeRc::new_dyn_value(BigInt::from_bytes_be(sign, magnitude))
        }
        StackItem::Cell(boc) => SafeRc::new_dyn_value(cell(boc)?),
        StackItem::Slice(boc) => {
            SafeRc::new_dyn_value(OwnedCellSlice::new_allow_exotic(cell(boc)?))
        }
        StackItem::Null => Stack::make_null(),
    })
}

fn from_vm(value: &RcStackValue) -> Result<StackItem, LedgerError> {
    if let Some(number) = value.as_int() {
        let (sign, bytes) = number.to_bytes_be();
        let mut magnitude = [0; 32];
        // -2^256, alone of 257-bit integers, does not fit; no contract of ours answers it.
        let at = 32usize
            .checked_sub(bytes.len())
            .ok_or(Refusal::Call("the method answers -2^256"))?;
        magnitude[at..].copy_from_slice(&bytes);
        return Ok(StackItem::Number {
            negative: sign == Sign::Minus,
            magnitude,
        });
    }
    if let Some(cell) = value.as_cell() {
        return Ok(StackItem::Cell(Boc::encode(cell)));
    }
    if let Some(slice) = value.as_cell_slice() {
        return Ok(StackItem::Slice(Boc::encode(CellBuilder::build_from(
            slice.apply(),
        )?)));
    }
    if value.raw_ty() == StackValueType::Null as u8 {
        return Ok(StackItem::Null);
    }
    Err(Refusal::Call("the method answers something other than numbers, cells and slices").into())
}
