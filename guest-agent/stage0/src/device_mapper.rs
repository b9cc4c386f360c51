//! The device mapper's ioctls: create a device, load its table, let it run, remove it.
//!
//! Source: the kernel's `include/uapi/linux/dm-ioctl.h`, interface version 4. Integers are in the machine's order, which
//! is little-endian wherever this boots; the tests hold what a C compiler makes of that header on x86-64.
//!
//! The one `unsafe` of this crate is the call itself. Its rules:
//!
//! 1. The request number says read and write, and `struct dm_ioctl`; nothing else is sent with it.
//! 2. The kernel reads and writes at most `data_size` bytes (`drivers/md/dm-ioctl.c`, `copy_params` and `ctl_ioctl`),
//!    and [`request`] writes the buffer's own length there.
//! 3. The buffer is plain bytes, of which every value is valid, and nobody else holds it.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::{libc, request_code_readwrite};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `struct dm_ioctl` and `struct dm_target_spec`.
const HEADER_BYTES: usize = 312;
const SPEC_BYTES: usize = 40;
/// Offsets in the header.
const VERSION: usize = 0;
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;
const NAME_BYTES: usize = 128;
/// Offsets in a target's specification.
const LENGTH: usize = 8;
const NEXT: usize = 20;
const TYPE: usize = 24;
const TYPE_BYTES: usize = 16;

const INTERFACE: u32 = 4;
const READ_ONLY: u32 = 1;
const IOCTL_TYPE: u8 = 0xfd;

/// The commands that are used, with their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Command {
    /// `DM_DEV_CREATE`
    Create = 3,
    /// `DM_DEV_REMOVE`
    Remove = 4,
    /// `DM_DEV_SUSPEND`, which without its flag resumes.
    Resume = 6,
    /// `DM_TABLE_LOAD`
    Load = 9,
}

/// The one line of a table: a target over the whole device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a str,
    pub(crate) sectors: u64,
    pub(crate) parameters: &'a str,
}

/// The number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) major: u64,
    pub(crate) minor: u64,
}

impl Command {
    fn code(self) -> u64 {
        // The size in the number is the header's, whatever follows it.
        request_code_readwrite!(IOCTL_TYPE, self as u8, HEADER_BYTES)
    }
}

/// Sends a command about the read-only device `name` to `/dev/mapper/control` and returns the device's number.
pub(crate) fn call(
    control: &File,
    command: Command,
    name: &str,
    target: Option<Target<'_>>,
) -> Result<Device, Errno> {
    let mut buffer = request(name, target).ok_or(Errno::EINVAL)?;
    // SAFETY: rules 1 to 3 above. `control` is open for as long as the call, `code` is made from the header's size, and
    // `buffer` is ours alone and exactly as long as its `data_size` says, because `request` made it.
    let result = unsafe {
        libc::ioctl(
            control.as_raw_fd(),
            command.code() as libc::Ioctl,
            buffer.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    device(&buffer).ok_or(Errno::EINVAL)
}

/// A request's bytes. `None` if a text does not fit where it belongs or would end early.
fn request(name: &str, target: Option<Target<'_>>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    put(&mut bytes, VERSION, &INTERFACE.to_le_bytes());
    put(&mut bytes, DATA_START, &(HEADER_BYTES as u32).to_le_bytes());
    put(&mut bytes, FLAGS, &READ_ONLY.to_le_bytes());
    put(&mut bytes, NAME, text(name, NAME_BYTES)?);
    if let Some(target) = target {
        put(&mut bytes, TARGET_COUNT, &1u32.to_le_bytes());
        let parameters = text(target.parameters, usize::MAX)?;
        // The text ends with a zero, and a specification starts at a multiple of eight.
        let next = SPEC_BYTES + (parameters.len() + 1).next_multiple_of(8);
        let mut spec = vec![0; next];
        put(&mut spec, LENGTH, &target.sectors.to_le_bytes());
        put(&mut spec, NEXT, &u32::try_from(next).ok()?.to_le_bytes());
        put(&mut spec, TYPE, text(target.kind, TYPE_BYTES)?);
        put(&mut spec, SPEC_BYTES, parameters);
        bytes.extend(spec);
    }
    let length = u32::try_from(bytes.len()).ok()?;
    put(&mut bytes, DATA_SIZE, &length.to_le_bytes());
    Some(bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A text that leaves room for its final zero and holds no other.
fn text(text: &str, room: usize) -> Option<&[u8]> {
    (text.len() < room && !text.contains('\0')).then_some(text.as_bytes())
}

/// The device's number in an answer, as `new_encode_dev` packs it: `include/linux/kdev_t.h`.
fn device(answer: &[u8]) -> Option<Device> {
    let packed = answer.get(DEVICE..DEVICE + 8)?;
    let packed = u64::from_le_bytes(packed.try_into().ok()?);
    Some(Device {
        major: packed >> 8 & 0xfff,
        minor: packed & 0xff | packed >> 12 & 0xf_ff00,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that are not zero, with where they stand.
    fn check(bytes: &[u8], length: usize, expected: &[(usize, &[u8])]) {
        let mut whole = vec![0; length];
        for (at, part) in expected {
            put(&mut whole, *at, part);
        }
        assert_eq!(bytes, whole);
    }

    #[test]
    fn requests_are_what_a_c_compiler_makes_of_the_header() {
        // Printed by a C program that fills in the structures of <linux/dm-ioctl.h>.
        check(
            &request("root", None).unwrap(),
            312,
            &[
                (0, &[4]),
                (12, &[0x38, 1]),
                (16, &[0x38, 1]),
                (28, &[1]),
                (48, b"root"),
            ],
        );
        let target = Target {
            kind: "verity",
            sectors: 0x0102_0304_0506_0708,
            parameters: "1 a b",
        };
        check(
            &request("root", Some(target)).unwrap(),
            360,
            &[
                (0, &[4]),
                (12, &[0x68, 1]),
                (16, &[0x38, 1]),
                (20, &[1]),
                (28, &[1]),
                (48, b"root"),
                (320, &[8, 7, 6, 5, 4, 3, 2, 1]),
                (332, &[0x30]),
                (336, b"verity"),
                (352, b"1 a b"),
            ],
        );
        assert_eq!(Command::Create.code(), 0xc138_fd03);
        assert_eq!(Command::Remove.code(), 0xc138_fd04);
        assert_eq!(Command::Resume.code(), 0xc138_fd06);
        assert_eq!(Command::Load.code(), 0xc138_fd09);
    }

    #[test]
    fn the_parameters_always_end_with_a_zero_inside_the_buffer() {
        for length in 0..20 {
            let parameters = "p".repeat(length);
            let target = Target {
                kind: "verity",
                sectors: 8,
                parameters: &parameters,
            };
            let bytes = request("root", Some(target)).unwrap();
            assert_eq!(bytes.len() % 8, 0);
            assert_eq!(bytes.last(), Some(&0), "{length}");
            assert_eq!(bytes[12..16], (bytes.len() as u32).to_le_bytes());
        }
    }

    #[test]
    fn a_text_that_does_not_fit_makes_no_request() {
        let check = |name: &str, kind: &str, parameters: &str| {
            let target = Target {
                kind,
                sectors: 8,
                parameters,
            };
            request(name, Some(target)).is_some()
        };
        let (name, kind) = ("n".repeat(NAME_BYTES - 1), "k".repeat(TYPE_BYTES - 1));
        assert!(check(&name, &kind, "p"));
        assert!(!check(&format!("{name}n"), &kind, "p"));
        assert!(!check(&name, &format!("{kind}k"), "p"));
        assert!(!check("a\0b", &kind, "p"));
        assert!(!check(&name, &kind, "p\0q"));
    }

    #[test]
    fn device_numbers_are_unpacked() {
        let check = |packed: u64, major, minor| {
            let mut answer = vec![0; HEADER_BYTES];
            put(&mut answer, DEVICE, &packed.to_le_bytes());
            assert_eq!(device(&answer), Some(Device { major, minor }));
        };
        // (minor & 0xff) | major << 8 | (minor & ~0xff) << 12
        check(0xfd00, 253, 0);
        check(0xfe01, 254, 1);
        check(0x0010_fd02, 253, 0x102);
        check(0xffff_ffff, 0xfff, 0xf_ffff);
        assert_eq!(device(&[0; 47]), None);
    }
}
