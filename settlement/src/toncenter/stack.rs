//! The TVM stack in toncenter's JSON: `["num", "0x1f"]`, `["cell", {"bytes": base64}]`.

use super::ChainError;
use crate::limits;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// One item of a TVM stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackItem {
    /// A 257-bit signed integer: sign and magnitude, big-endian. Zero is never negative.
    Number {
        /// Below zero.
        negative: bool,
        /// The absolute value.
        magnitude: [u8; 32],
    },
    /// A cell, as a bag of cells that nobody has parsed.
    Cell(Vec<u8>),
    /// A slice, as the bag of cells of a cell with its content.
    Slice(Vec<u8>),
    /// Null.
    Null,
}

impl StackItem {
    /// A small number.
    pub fn from_i64(number: i64) -> StackItem {
        let mut magnitude = [0; 32];
        magnitude[24..].copy_from_slice(&number.unsigned_abs().to_be_bytes());
        StackItem::Number {
            negative: number < 0,
            magnitude,
        }
    }

    /// An unsigned 256-bit number, such as a key or a hash.
    pub fn from_uint256(magnitude: [u8; 32]) -> StackItem {
        StackItem::Number {
            negative: false,
            magnitude,
        }
    }

    /// As an unsigned 256-bit number.
    pub fn to_uint256(&self) -> Option<[u8; 32]> {
        match self {
            StackItem::Number {
                negative: false,
                magnitude,
            } => Some(*magnitude),
            _ => None,
        }
    }

    /// As an unsigned 64-bit number.
    pub fn to_u64(&self) -> Option<u64> {
        match self {
            StackItem::Number {
                negative: false,
                magnitude,
            } => small(magnitude),
            _ => None,
        }
    }

    /// As a signed 64-bit number.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            StackItem::Number {
                negative,
                magnitude,
            } => {
                let number = i128::from(small(magnitude)?);
                i64::try_from(if *negative { -number } else { number }).ok()
            }
            _ => None,
        }
    }
}

fn small(magnitude: &[u8; 32]) -> Option<u64> {
    let (high, low) = magnitude.split_last_chunk::<8>()?;
    high.iter()
        .all(|byte| *byte == 0)
        .then(|| u64::from_be_bytes(*low))
}

pub(super) fn write(stack: &[StackItem]) -> Value {
    stack
        .iter()
        .map(|item| match item {
            StackItem::Number {
                negative,
                magnitude,
            } => {
                let digits = hex::encode(magnitude);
                let digits = digits.trim_start_matches('0');
                let sign = if *negative { "-" } else { "" };
                json!([
                    "num",
                    format!("{sign}0x{}", if digits.is_empty() { "0" } else { digits })
                ])
            }
            StackItem::Cell(boc) => json!(["tvm.Cell", STANDARD.encode(boc)]),
            StackItem::Slice(boc) => json!(["tvm.Slice", STANDARD.encode(boc)]),
            StackItem::Null => json!(["null", Value::Null]),
        })
        .collect()
}

/// The result of a get method that ran: exit codes 0 and 1 are both success.
pub(super) fn read_result(result: &Value) -> Result<Vec<StackItem>, ChainError> {
    let exit_code = result
        .get("exit_code")
        .and_then(Value::as_i64)
        .ok_or(ChainError::Shape("exit code"))?;
    if !matches!(exit_code, 0 | 1) {
        let message = "the get method threw".to_owned();
        return Err(ChainError::Refused {
            exit_code: i32::try_from(exit_code).ok(),
            message,
        });
    }
    let stack = result
        .get("stack")
        .and_then(Value::as_array)
        .ok_or(ChainError::Shape("stack"))?;
    if stack.len() > limits::STACK_ITEMS_MAX {
        return Err(ChainError::Shape("a stack above its limit"));
    }
    stack
        .iter()
        .map(|item| read(item).ok_or(ChainError::Shape("stack item")))
        .collect()
}

fn read(item: &Value) -> Option<StackItem> {
    let [kind, value] = item.as_array()?.as_slice() else {
        return None;
    };
    let bytes = |value: &Value| {
        let text = value.as_str().or_else(|| value.get("bytes")?.as_str())?;
        STANDARD.decode(text).ok()
    };
    match kind.as_str()? {
        "num" => read_number(value.as_str()?),
        "cell" | "tvm.Cell" => bytes(value).map(StackItem::Cell),
        "slice" | "tvm.Slice" => bytes(value).map(StackItem::Slice),
        "null" => Some(StackItem::Null),
        _ => None,
    }
}

fn read_number(text: &str) -> Option<StackItem> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits = rest.strip_prefix("0x")?;
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    let mut magnitude = [0; 32];
    hex::decode_to_slice(format!("{digits:0>64}"), &mut magnitude).ok()?;
    Some(StackItem::Number {
        negative: sign && magnitude != [0; 32],
        magnitude,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_survive_the_trip() {
        let key = StackItem::from_uint256([0xff; 32]);
        let stack = vec![
            StackItem::from_i64(0),
            StackItem::from_i64(i64::MIN),
            key,
            StackItem::Cell(vec![1, 2]),
            StackItem::Null,
        ];
        let result = json!({ "exit_code": 0, "stack": write(&stack) });
        assert_eq!(read_result(&result), Ok(stack));
    }

    #[test]
    fn wild_numbers_are_refused() {
        for text in [
            "",
            "0x",
            "-0x",
            "1",
            "0xg",
            "0x-1",
            "--0x1",
            "0x+1",
            &format!("0x1{}", "0".repeat(64)),
        ] {
            assert_eq!(read_number(text), None, "{text}");
        }
        assert_eq!(read_number("-0x0"), Some(StackItem::from_i64(0)));
    }

    #[test]
    fn a_get_method_that_threw_is_a_refusal() {
        let result = json!({ "exit_code": 422, "stack": [] });
        assert!(matches!(
            read_result(&result),
            Err(ChainError::Refused {
                exit_code: Some(422),
                ..
            })
        ));
    }
}
