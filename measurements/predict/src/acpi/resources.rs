//! What a device takes up: the resource descriptors of ACPI 6.5, section 6.4, inside a buffer.

use super::aml::{Aml, buffer};

/// A list of descriptors with its end tag. Its checksum is zero, which means that nobody made one.
pub fn resources(list: impl IntoIterator<Item = Vec<u8>>) -> Aml {
    let mut bytes: Vec<u8> = list.into_iter().flatten().collect();
    bytes.extend([0x79, 0]);
    buffer(&bytes)
}

/// Ports from `start`, decoded in 16 bits.
pub fn io(start: u16, alignment: u8, ports: u8) -> Vec<u8> {
    let start = start.to_le_bytes();
    [&[0x47, 1], &start[..], &start, &[alignment, ports]].concat()
}

/// One of the sixteen interrupts of a PC: edge, high, not shared.
pub fn irq(number: u8) -> Vec<u8> {
    let mask = (1u16 << number).to_le_bytes();
    [&[0x22], &mask[..]].concat()
}

/// The same, but level, low and shared.
pub fn irq_level(number: u8) -> Vec<u8> {
    let mask = (1u16 << number).to_le_bytes();
    [&[0x23], &mask[..], &[0x18]].concat()
}

/// Interrupts, of which the device takes one: level, high, shared.
pub fn interrupts(numbers: &[u32]) -> Vec<u8> {
    let length = (2 + 4 * numbers.len() as u16).to_le_bytes();
    let mut bytes = [&[0x89], &length[..], &[9, numbers.len() as u8]].concat();
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

/// A fixed range of memory.
pub fn memory32_fixed(access: Access, start: u32, bytes: u32) -> Vec<u8> {
    let head = [0x86, 9, 0, access as u8];
    [&head[..], &start.to_le_bytes(), &bytes.to_le_bytes()].concat()
}

/// What may be done to memory.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// It is only read.
    Read = 0,
    /// It is read and written.
    ReadWrite = 1,
}

/// What a bridge passes on.
#[derive(Clone, Copy, Debug)]
pub enum Passed {
    /// Memory, and whether it may be cached.
    Memory { cacheable: bool },
    /// Ports, in the whole range.
    Ports,
    /// Numbers of buses.
    Buses,
}

impl Passed {
    /// Kind, and flags of the kind.
    fn bytes(self) -> (u8, u8) {
        match self {
            Passed::Memory { cacheable } => (0, if cacheable { 3 } else { 1 }),
            Passed::Ports => (1, 3),
            Passed::Buses => (2, 0),
        }
    }
}

/// A range that a bridge passes on, both ends fixed and included, in numbers of 2, 4 or 8 bytes.
fn passed(tag: u8, width: usize, what: Passed, first: u64, last: u64) -> Vec<u8> {
    let (kind, flags) = what.bytes();
    let mut bytes = vec![tag];
    bytes.extend((3 + 5 * width as u16).to_le_bytes());
    bytes.extend([kind, 0x0c, flags]);
    for number in [0, first, last, 0, last - first + 1] {
        bytes.extend(&number.to_le_bytes()[..width]);
    }
    bytes
}

/// A range in 16 bits.
pub fn word(what: Passed, first: u16, last: u16) -> Vec<u8> {
    passed(0x88, 2, what, first.into(), last.into())
}

/// A range in 32 bits.
pub fn dword(what: Passed, first: u32, last: u32) -> Vec<u8> {
    passed(0x87, 4, what, first.into(), last.into())
}

/// A range in 64 bits.
pub fn qword(what: Passed, first: u64, last: u64) -> Vec<u8> {
    passed(0x8a, 8, what, first, last)
}
