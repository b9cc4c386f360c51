//! An account's address: a workchain and the hash of the account's initial state.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

#[cfg(feature = "wallet")]
mod friendly;

/// An account of the base chain (workchain 0) or the masterchain (-1). Written raw: `0:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// 0 or -1.
    pub workchain: i8,
    /// SHA-256 of the account's initial state, as a cell.
    pub hash: [u8; 32],
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum AddressError {
    #[error("an address is written as workchain, colon, 64 hex digits")]
    Form,
    #[error("no such workchain: only 0 and -1 exist")]
    Workchain,
    #[error("the address has a wrong checksum")]
    Checksum,
}

impl Address {
    pub(crate) fn checked(workchain: i8, hash: [u8; 32]) -> Result<Address, AddressError> {
        match workchain {
            0 | -1 => Ok(Address { workchain, hash }),
            _ => Err(AddressError::Workchain),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.workchain, hex::encode(self.hash))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (workchain, hash_hex) = text.split_once(':').ok_or(AddressError::Form)?;
        let workchain = match workchain {
            "0" => 0,
            "-1" => -1,
            other => {
                let number = other.parse::<i32>().is_ok();
                return Err(if number {
                    AddressError::Workchain
                } else {
                    AddressError::Form
                });
            }
        };
        let mut hash = [0; 32];
        hex::decode_to_slice(hash_hex, &mut hash).map_err(|_| AddressError::Form)?;
        Address::checked(workchain, hash)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
