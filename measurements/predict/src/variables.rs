//! The firmware's variable store, and what Secure Boot makes of it.
//!
//! The store is a firmware volume (PI 1.8, volume 3, section 3.2.1) that holds one list of variables (edk2's
//! `AuthenticatedVariable.h`). It is untrusted: what edk2's `PlatformValidateNvVarStore` would not take is refused,
//! and what it would take in more than one way is refused too.

use super::PredictError;
use super::bytes::{array_at, guid, u16_at, u32_at, u64_at, utf16};
use crate::limits;

/// Why a store's consequences are not predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum StoreError {
    #[error(
        "the firmware's variable store is not an empty one, but the firmware is said to be built without Secure Boot, and would not read it; use one with an empty store, or say how it was built"
    )]
    NotRead,
    #[error("the firmware's variable store is broken: {what}")]
    Malformed { what: &'static str },
    #[error("the variable at {at:#x} of the firmware's variable store is broken: {what}")]
    Variable { at: usize, what: &'static str },
    #[error(
        "the firmware's variable store has more than {} variables",
        limits::VARIABLES_MAX
    )]
    TooMany,
    #[error(
        "the firmware's variable store has the variable {name:?}, whose effect is not predicted"
    )]
    Unpredicted { name: String },
    #[error(
        "the firmware has Secure Boot on: it measures the certificate of db under which the kernel is signed, so name it"
    )]
    SignerMissing,
    #[error(
        "the certificate under which the kernel is said to be signed is not in the firmware's db"
    )]
    SignerNotInDb,
    #[error("the firmware does not have Secure Boot on, so it measures no certificate of a signer")]
    SignerUnused,
}

/// A store whose variables are all well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariableStore<'a> {
    variables: Vec<Variable<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable<'a> {
    namespace: [u8; 16],
    name: String,
    data: &'a [u8],
}

/// What Secure Boot measures of a store: data by variable; `None` is an absent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecureBoot<'a> {
    /// Whether programs are checked.
    pub on: bool,
    keys: [Option<&'a [u8]>; 4],
}

/// Measured whether they exist or not, in this order.
pub(super) const MEASURED: [([u8; 16], &str); 5] = [
    (GLOBAL_VARIABLE, "SecureBoot"),
    (GLOBAL_VARIABLE, "PK"),
    (GLOBAL_VARIABLE, "KEK"),
    (IMAGE_SECURITY_DATABASE, "db"),
    (IMAGE_SECURITY_DATABASE, "dbx"),
];

impl<'a> VariableStore<'a> {
    /// Reads a store that edk2 reads.
    pub(super) fn parse(store: &'a [u8]) -> Result<VariableStore<'a>, StoreError> {
        let (list, start) = list(store)?;
        let mut variables: Vec<Variable<'a>> = Vec::new();
        let mut headers = 0;
        let mut at = 0;
        while let Some([0xaa, 0x55]) = array_at(list, at) {
            headers += 1;
            if headers > limits::VARIABLES_MAX {
                return Err(StoreError::TooMany);
            }
            let wrong = |what| StoreError::Variable {
                at: start + at,
                what,
            };
            let (state, variable, end) = variable(list, at).map_err(wrong)?;
            match state {
                State::Current => {
                    if variables
                        .iter()
                        .any(|other| other.is(&variable.namespace, &variable.name))
                    {
                        return Err(wrong("there are two of this name"));
                    }
                    variables.push(variable);
                }
                State::Deleted => {}
            }
            at = end;
        }
        if list[at.min(list.len())..].iter().any(|byte| *byte != 0xff) {
            return Err(StoreError::Malformed {
                what: "something that is no variable follows the variables",
            });
        }
        Ok(VariableStore { variables })
    }

    /// The variables as Secure Boot finds them (edk2's `AuthVariableLib`): with a platform key enrolled, it is on unless
    /// `SecureBootEnable` says otherwise. A store with variables that steer more than that is refused.
    pub(super) fn secure_boot(&self) -> Result<SecureBoot<'a>, StoreError> {
        for variable in &self.variables {
            if variable.steers_the_boot() {
                return Err(StoreError::Unpredicted {
                    name: variable.name.clone(),
                });
            }
        }
        let keys: [Option<&'a [u8]>; 4] = std::array::from_fn(|index| {
            let (namespace, name) = MEASURED[index + 1];
            self.find(&namespace, name)
        });
        let enabled = match self.find(&SECURE_BOOT_ENABLE, "SecureBootEnable") {
            None => true,
            Some(data) => data.first() == Some(&1),
        };
        Ok(SecureBoot {
            on: keys[0].is_some() && enabled,
            keys,
        })
    }

    fn find(&self, namespace: &[u8; 16], name: &str) -> Option<&'a [u8]> {
        let mut variables = self.variables.iter();
        variables
            .find(|variable| variable.is(namespace, name))
            .map(|variable| variable.data)
    }
}

impl<'a> SecureBoot<'a> {
    /// The variables' data, in the order of [`MEASURED`].
    pub(super) fn data(&self) -> [Option<&[u8]>; 5] {
        let [pk, kek, db, dbx] = self.keys;
        let on: &[u8] = if self.on { &[1] } else { &[0] };
        [Some(on), pk, kek, db, dbx]
    }

    /// The entry of db that holds a certificate: EFI_SIGNATURE_DATA (UEFI 2.10, section 32.4.1), owner and certificate.
    pub(super) fn entry_of(&self, certificate: &[u8]) -> Result<&'a [u8], StoreError> {
        let mut lists = self.keys[2].unwrap_or_default();
        let malformed = StoreError::Malformed {
            what: "db is no sequence of signature lists",
        };
        while !lists.is_empty() {
            let field = |at| u32_at(lists, at).and_then(|value| usize::try_from(value).ok());
            let (Some(bytes), Some(header), Some(entry)) = (field(16), field(20), field(24)) else {
                return Err(malformed);
            };
            let (Some((list, rest)), Some(start)) = (
                lists.split_at_checked(bytes),
                LIST_BYTES.checked_add(header),
            ) else {
                return Err(malformed);
            };
            let entries = list.get(start..).ok_or(malformed.clone())?;
            if entry <= OWNER_BYTES || entries.len() % entry != 0 {
                return Err(malformed);
            }
            if array_at(list, 0) == Some(CERT_X509)
                && let Some(found) = entries
                    .chunks_exact(entry)
                    .find(|entry| entry[OWNER_BYTES..] == *certificate)
            {
                return Ok(found);
            }
            lists = rest;
        }
        Err(StoreError::SignerNotInDb)
    }
}

impl Variable<'_> {
    fn is(&self, namespace: &[u8; 16], name: &str) -> bool {
        self.namespace == *namespace && self.name == name
    }

    /// Boot options and orders of the UEFI specification (section 3.3), which change what is measured later; `SecureBoot`
    /// itself, which is the firmware's to write; and lists of timestamps and recovery, which are measured where they exist.
    fn steers_the_boot(&self) -> bool {
        let of = |prefixes: &[&str]| prefixes.iter().any(|prefix| self.name.starts_with(prefix));
        match self.namespace {
            GLOBAL_VARIABLE => {
                of(&[
                    "Boot",
                    "Driver",
                    "SysPrep",
                    "PlatformRecovery",
                    "OsIndications",
                    "OsRecovery",
                ]) || ["SecureBoot", "SetupMode", "AuditMode", "DeployedMode"]
                    .contains(&&*self.name)
            }
            IMAGE_SECURITY_DATABASE => !["db", "dbx"].contains(&&*self.name),
            _ => false,
        }
    }
}

/// UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, section 10.2.6): GUID, u64 characters of the name, u64
/// bytes of data, name in UTF-16, data.
pub(super) fn variable_data(namespace: &[u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let mut bytes = namespace.to_vec();
    bytes.extend((name.len() as u64 / 2).to_le_bytes());
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(name);
    bytes.extend(data);
    bytes
}

/// A firmware without Secure Boot never looks at its store, so nothing but its emptiness is asked of it.
pub(super) fn check_empty(store: &[u8]) -> Result<(), PredictError> {
    let first_variable = array_at(store, 40)
        .filter(|signature| signature == b"_FVH")
        .and_then(|_: [u8; 4]| u16_at(store, 48))
        .map(usize::from)
        .filter(|header| array_at(store, *header) == Some(AUTHENTICATED_VARIABLES))
        .and_then(|header| array_at(store, header + STORE_HEADER_BYTES));
    match first_variable {
        Some([0xff, 0xff]) => Ok(()),
        _ => Err(StoreError::NotRead.into()),
    }
}

/// The bytes after the header of the list, and where they begin.
fn list(store: &[u8]) -> Result<(&[u8], usize), StoreError> {
    let check = |good: bool, what| match good {
        true => Ok(()),
        false => Err(StoreError::Malformed { what }),
    };
    check(
        store.len() <= limits::VARIABLE_STORE_BYTES_MAX,
        "it is too long",
    )?;
    check(
        array_at(store, 0) == Some([0; 16]),
        "its volume does not begin with zeros",
    )?;
    check(
        array_at(store, 16) == Some(NV_DATA_VOLUME),
        "its volume is of another kind",
    )?;
    check(
        u64_at(store, 32) == Some(store.len() as u64),
        "its volume has another length",
    )?;
    check(
        array_at(store, 40) == Some(*b"_FVH"),
        "its volume has no signature",
    )?;
    check(
        u32_at(store, 44) == Some(VOLUME_ATTRIBUTES),
        "its volume has other attributes",
    )?;
    let header = usize::from(u16_at(store, 48).unwrap_or_default());
    let words = store
        .get(..header)
        .filter(|_| header % 2 == 0 && header >= VOLUME_HEADER_BYTES);
    let sum = words.map(|words| {
        words.chunks_exact(2).fold(0u16, |sum, word| {
            sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
        })
    });
    check(sum == Some(0), "the checksum of its volume is wrong")?;
    check(store.get(55) == Some(&2), "its volume has another revision")?;
    let (_, list) = store.split_at(header);
    check(
        array_at(list, 0) == Some(AUTHENTICATED_VARIABLES),
        "it holds no authenticated variables",
    )?;
    check(
        array_at(list, 20) == Some([0x5a, 0xfe]),
        "it is not formatted",
    )?;
    let bytes = u32_at(list, 16).and_then(|bytes| usize::try_from(bytes).ok());
    let list = bytes
        .and_then(|bytes| list.get(STORE_HEADER_BYTES..bytes))
        .ok_or(StoreError::Malformed {
            what: "its list has another length",
        })?;
    Ok((list, header + STORE_HEADER_BYTES))
}

enum State {
    Current,
    /// Or never finished; not there for anybody who looks.
    Deleted,
}

/// One variable: u16 0x55aa, u8 state, u8, u32 attributes, u64 count, 16 bytes of time, u32 index of a key, u32 bytes of
/// name, u32 bytes of data, GUID, name with a final zero, data. And where the next one begins.
fn variable(list: &[u8], at: usize) -> Result<(State, Variable<'_>, usize), &'static str> {
    let cut = "it is cut off";
    let header = list.get(at..at.saturating_add(HEADER_BYTES)).ok_or(cut)?;
    let field = |at| u32_at(header, at).and_then(|bytes| usize::try_from(bytes).ok());
    let (name_bytes, data_bytes) = field(36).zip(field(40)).ok_or(cut)?;
    let rest = &list[at + HEADER_BYTES..];
    let (name, rest) = rest.split_at_checked(name_bytes).ok_or(cut)?;
    let (data, rest) = rest.split_at_checked(data_bytes).ok_or(cut)?;
    let padding = (name_bytes + data_bytes).wrapping_neg() % 4;
    let padding = rest.get(..padding).ok_or(cut)?;
    if padding.iter().any(|byte| *byte != 0xff) {
        return Err("something stands between it and the next");
    }
    let state = match header[2] {
        ADDED => State::Current,
        HEADER_ONLY | ADDED_THEN_DELETED | ADDED_IN_TRANSITION_DELETED => State::Deleted,
        ADDED_IN_TRANSITION => return Err("it is half deleted"),
        _ => return Err("it has no state that there is"),
    };
    let units: Vec<u16> = name
        .chunks(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit.get(1).copied().unwrap_or_default()]))
        .collect();
    let name = match (&state, units.split_last()) {
        (State::Current, Some((0, units))) if name.len() % 2 == 0 && !units.contains(&0) => {
            String::from_utf16(units).map_err(|_| "its name is no text")?
        }
        (State::Current, _) => return Err("its name does not end as names do"),
        (State::Deleted, _) => String::new(),
    };
    let variable = Variable {
        namespace: array_at(header, 44).ok_or(cut)?,
        name,
        data,
    };
    let end = at + HEADER_BYTES + name_bytes + data_bytes + padding.len();
    Ok((state, variable, end))
}

const GLOBAL_VARIABLE: [u8; 16] = guid(
    0x8be4df61,
    0x93ca,
    0x11d2,
    [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
);
pub(super) const IMAGE_SECURITY_DATABASE: [u8; 16] = guid(
    0xd719b2cb,
    0x3d3a,
    0x4596,
    [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f],
);
/// gEfiSecureBootEnableDisableGuid.
const SECURE_BOOT_ENABLE: [u8; 16] = guid(
    0xf0a30bc7,
    0xaf08,
    0x4556,
    [0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44],
);
/// gEfiAuthenticatedVariableGuid.
const AUTHENTICATED_VARIABLES: [u8; 16] = guid(
    0xaaf32c78,
    0x947b,
    0x439a,
    [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92],
);
/// gEfiSystemNvDataFvGuid.
const NV_DATA_VOLUME: [u8; 16] = guid(
    0xfff12b8d,
    0x7696,
    0x4c8b,
    [0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50],
);
/// gEfiCertX509Guid.
const CERT_X509: [u8; 16] = guid(
    0xa5c059a1,
    0x94e4,
    0x4aa7,
    [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72],
);
/// The attributes that edk2 asks of the volume.
const VOLUME_ATTRIBUTES: u32 = 0x4feff;
const VOLUME_HEADER_BYTES: usize = 56;
const STORE_HEADER_BYTES: usize = 28;
const HEADER_BYTES: usize = 60;
/// EFI_SIGNATURE_LIST: GUID, u32 bytes of all, u32 bytes of a header, u32 bytes of an entry.
const LIST_BYTES: usize = 28;
const OWNER_BYTES: usize = 16;
/// States: bits are cleared one after the other, the header first, then the data, then for deletion.
const HEADER_ONLY: u8 = 0x7f;
const ADDED: u8 = 0x3f;
const ADDED_IN_TRANSITION: u8 = 0x3e;
const ADDED_THEN_DELETED: u8 = 0x3d;
const ADDED_IN_TRANSITION_DELETED: u8 = 0x3c;
