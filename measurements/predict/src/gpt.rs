//! The partition table that firmware measures when it starts a program from a disk.
//!
//! EFI_GPT_DATA (TCG PC Client Platform Firmware Profile, section 10.2.7; edk2, `DxeTpm2MeasureBootLib`): the header,
//! the number of partitions in use as u64, their entries. The GUIDs of disk and partitions are in it, so two disks made
//! at random measure differently. A table that the firmware would repair first (UEFI 2.10, section 5.3.2) is refused.

use sha2::{Digest, Sha384};

use super::bytes::{array_at, u32_at, u64_at};
use crate::limits;
use registers::Digest48;

/// Why a disk's partition table cannot be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum GptError {
    #[error("the disk has no partition table (GPT) in its second block of 512 bytes")]
    Absent,
    #[error(
        "the disk's partition table ends at byte {needs}, and only {got} bytes of the disk were given"
    )]
    Cut { got: usize, needs: u64 },
    #[error("the disk's partition table is not one that firmware measures as it is: {what}")]
    Malformed { what: &'static str },
}

/// The digest of the table on a disk with blocks of 512 bytes, of which the first were given.
pub(super) fn digest(disk: &[u8]) -> Result<Digest48, GptError> {
    let malformed = |what| GptError::Malformed { what };
    let header: [u8; HEADER_BYTES] = array_at(disk, BLOCK_BYTES)
        .filter(|header: &[u8; HEADER_BYTES]| header.starts_with(b"EFI PART"))
        .ok_or(GptError::Absent)?;
    let u32_of = |at| u32_at(&header, at).unwrap_or(0);
    let u64_of = |at| u64_at(&header, at).unwrap_or(0);
    if u32_of(8) != 0x1_0000 || u32_of(12) as usize != HEADER_BYTES {
        return Err(malformed("its header is not of revision 1.0 with 92 bytes"));
    }
    let mut without_sum = header;
    without_sum[16..20].fill(0);
    if u32_of(16) != crc32(&without_sum) {
        return Err(malformed("the header's checksum is wrong"));
    }
    if u64_of(24) != 1 || u64_of(72) < 2 {
        return Err(malformed("it places itself elsewhere"));
    }
    let (count, entry_bytes) = (u32_of(80) as usize, u32_of(84) as usize);
    if count == 0 || count > limits::GPT_ENTRIES_MAX || entry_bytes != ENTRY_BYTES {
        return Err(malformed(
            "it has no entries, too many, or entries of another size than 128 bytes",
        ));
    }
    let bytes = (count * ENTRY_BYTES) as u64;
    let start = u64_of(72).saturating_mul(BLOCK_BYTES as u64);
    let needs = start.saturating_add(bytes);
    let entries = usize::try_from(start)
        .ok()
        .zip(usize::try_from(needs).ok())
        .and_then(|(start, end)| disk.get(start..end))
        .ok_or(GptError::Cut {
            got: disk.len(),
            needs,
        })?;
    if u32_of(88) != crc32(entries) {
        return Err(malformed("the entries' checksum is wrong"));
    }
    let in_use = || {
        let entries = entries.chunks_exact(ENTRY_BYTES);
        entries.filter(|entry| entry[..16] != [0; 16])
    };
    let mut hash = Sha384::new();
    hash.update(header);
    hash.update((in_use().count() as u64).to_le_bytes());
    in_use().for_each(|entry| hash.update(entry));
    Ok(Digest48(hash.finalize().into()))
}

/// CRC-32 of IEEE 802.3, bit by bit: a table has a few thousand bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

const BLOCK_BYTES: usize = 512;
const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::crc32;

    /// The check value of the catalogue of CRC algorithms.
    #[test]
    fn crc32_is_that_of_ethernet() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
