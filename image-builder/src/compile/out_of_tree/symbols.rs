//! Whether a kernel would take a module: what it was compiled for, and the symbols that it uses.
//!
//! When it loads a module, the kernel compares the text after `vermagic=`, and finds each symbol by its name. One with
//! `CONFIG_MODVERSIONS` (Debian's 6.12; its 7.3 is without) also gives each exported symbol a checksum over the types that its use
//! involves. A module carries, in its section `__versions`, the checksums that it was compiled with, 64 bytes each (`struct
//! modversion_info`, include/linux/module.h), and the kernel compares those (kernel/module/version.c). Here all of it is compared
//! earlier, with `Module.symvers` in the kernel's place.

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

/// What a kernel or a set of modules exports: checksums by symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symvers(BTreeMap<String, u32>);

/// Why a kernel would refuse a module, or why we cannot tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum Misfit {
    #[error("it is no module: {0}")]
    Malformed(String),
    #[error("it says `{got}`, and the kernel's own modules say `{expected}`")]
    Magic { got: String, expected: String },
    #[error("it uses {symbol}, which neither the kernel nor the other modules export")]
    Unknown { symbol: String },
    #[error("it does not use {symbol}, so {reason}")]
    Lacks {
        symbol: &'static str,
        reason: &'static str,
    },
    #[error("it uses {symbol} and does not say in which version")]
    Unversioned { symbol: String },
    #[error("it uses {symbol} in version {got:#010x}, and the kernel has {expected:#010x}")]
    Version {
        symbol: String,
        got: u32,
        expected: u32,
    },
}

impl Symvers {
    /// Parses lines of `0x<checksum>\t<symbol>\t<module>\t<kind>\t<namespace>` (Documentation/kbuild/modules.rst).
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let mut symbols = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = || format!("line {} is not a checksum and a symbol", number + 1);
            let mut fields = line.split('\t');
            let checksum = fields.next().and_then(|field| field.strip_prefix("0x"));
            let checksum = checksum.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let symbol = fields.next().filter(|symbol| !symbol.is_empty());
            let (checksum, symbol) = checksum.zip(symbol).ok_or_else(wrong)?;
            if symbols.insert(symbol.to_owned(), checksum).is_some() {
                return Err(format!("it has {symbol} twice"));
            }
        }
        Ok(Self(symbols))
    }
}

/// Whether a kernel takes the module: `magic` is what the kernel's own modules say, `exported` what the kernel and other modules
/// export.
pub fn check(module: &[u8], magic: &str, exported: &[&Symvers]) -> Result<(), Misfit> {
    let elf = parse(module)?;
    let got = field(&elf, "vermagic")?;
    if got != magic {
        let expected = magic.to_owned();
        return Err(Misfit::Magic { got, expected });
    }
    let used = used(&elf);
    let find = |symbol: &String| exported.iter().find_map(|list| list.0.get(symbol));
    if !magic.split(' ').any(|word| word == VERSIONED) {
        let unknown = used.into_iter().find(|symbol| find(symbol).is_none());
        return unknown.map_or(Ok(()), |symbol| Err(Misfit::Unknown { symbol }));
    }
    let versions = versions(&elf)?;
    for (symbol, got) in &versions {
        let found = find(symbol);
        let (symbol, got) = (symbol.clone(), *got);
        match found {
            None => return Err(Misfit::Unknown { symbol }),
            Some(&expected) if expected != got => {
                return Err(Misfit::Version {
                    symbol,
                    got,
                    expected,
                });
            }
            Some(_) => {}
        }
    }
    // The kernel asks for the version of its structure `module` first of all (check_modstruct_version).
    for symbol in used.iter().chain([&"module_layout".to_owned()]) {
        if !versions.contains_key(symbol) {
            let symbol = symbol.clone();
            return Err(Misfit::Unversioned { symbol });
        }
    }
    Ok(())
}

/// Whether a module uses what its kind cannot do without. Only `nvidia` has such a rule: where its configure script does not find the
/// kernel's cryptography, it compiles with SPDM as stubs (`USE_LKCA` unset), loads, and never enters confidential mode.
pub fn check_uses(name: &str, module: &[u8]) -> Result<(), Misfit> {
    if name != "nvidia" {
        return Ok(());
    }
    let used = used(&parse(module)?);
    let reason = "its SPDM is stubs, and a GPU in confidential mode would not talk to it";
    match SPDM_USES.iter().find(|symbol| !used.contains(**symbol)) {
        Some(symbol) => Err(Misfit::Lacks { symbol, reason }),
        None => Ok(()),
    }
}

/// What a module says of the kernel that it was compiled for.
pub fn magic(module: &[u8]) -> Result<String, Misfit> {
    field(&parse(module)?, "vermagic")
}

type Elf<'a> = ElfFile64<'a, Endianness>;

fn parse(module: &[u8]) -> Result<Elf<'_>, Misfit> {
    Elf::parse(module).map_err(malformed)
}

fn malformed(error: object::Error) -> Misfit {
    Misfit::Malformed(error.to_string())
}

fn section<'a>(elf: &Elf<'a>, name: &str) -> Result<&'a [u8], Misfit> {
    let absent = || Misfit::Malformed(format!("it has no {name}"));
    let section = elf.section_by_name(name).ok_or_else(absent)?;
    section.data().map_err(malformed)
}

/// One `key=value` of `.modinfo`, a section of strings that end with a NUL.
fn field(elf: &Elf<'_>, key: &str) -> Result<String, Misfit> {
    let fields = section(elf, ".modinfo")?.split(|byte| *byte == 0);
    let mut values = fields.filter_map(|field| {
        let rest = field.strip_prefix(key.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(String::from_utf8_lossy(value).into_owned()),
        (None, _) => Err(Misfit::Malformed(format!("it has no {key}"))),
        (Some(_), Some(_)) => Err(Misfit::Malformed(format!("it has more than one {key}"))),
    }
}

/// The checksums that it was compiled with.
fn versions(elf: &Elf<'_>) -> Result<BTreeMap<String, u32>, Misfit> {
    let data = section(elf, "__versions")?;
    let mut versions = BTreeMap::new();
    let wrong = || Misfit::Malformed("its __versions are no list of symbols".into());
    for entry in data.chunks(VERSION_BYTES) {
        let (checksum, name) = entry.split_at_checked(8).ok_or_else(wrong)?;
        let end = name.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
        let name = std::str::from_utf8(&name[..end]).map_err(|_| wrong())?;
        let checksum = u64::from_le_bytes(checksum.try_into().expect("split at eight"));
        let checksum = u32::try_from(checksum).map_err(|_| wrong())?;
        if entry.len() != VERSION_BYTES
            || name.is_empty()
            || versions.insert(name.to_owned(), checksum).is_some()
        {
            return Err(wrong());
        }
    }
    Ok(versions)
}

/// The symbols that it does not have itself. A weak one may stay without.
fn used(elf: &Elf<'_>) -> BTreeSet<String> {
    elf.symbols()
        .filter(|symbol| symbol.is_undefined() && !symbol.is_weak())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect()
}

/// A word of `vermagic` of kernels with `CONFIG_MODVERSIONS` (include/linux/vermagic.h).
const VERSIONED: &str = "modversions";

/// What the driver's SPDM verifies the GPU's signatures and encrypts its messages with (`nvidia/libspdm_*.c`).
const SPDM_USES: [&str; 2] = ["crypto_alloc_sig", "crypto_aead_encrypt"];

/// `struct modversion_info` on machines of 64 bits: a checksum in 8 bytes, a name in 56.
const VERSION_BYTES: usize = 64;

#[cfg(test)]
mod tests;
