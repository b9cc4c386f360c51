//! The root that a guest accepts, and its dm-verity table.
//!
//! Source: the kernel's `Documentation/admin-guide/device-mapper/verity.rst`.

use crate::limits::DATA_BLOCKS_MAX;

/// The root disk: the first virtio disk. It may be any disk; its content is checked.
pub(crate) const DISK: &str = "/dev/vda";
/// The root and its hash tree on a disk that firmware boots from. The first partition is the firmware's.
pub(crate) const PARTITIONS: [&str; 2] = ["/dev/vda2", "/dev/vda3"];
const BLOCK_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;

/// The root hash of a dm-verity tree, its salt, and how many blocks of 4096 bytes it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerityRoot {
    hash: [u8; 32],
    salt: [u8; 32],
    data_blocks: u64,
}

/// Where data and hash tree are. This is not trusted: the hash decides whether it was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskLayout {
    /// One after the other on a whole disk.
    Disk,
    /// On two partitions, which the kernel found.
    Partitions,
}

impl VerityRoot {
    /// `None` if a volume of so many blocks is not allowed.
    pub fn new(hash: [u8; 32], salt: [u8; 32], data_blocks: u64) -> Option<Self> {
        let whole = (1..=DATA_BLOCKS_MAX).contains(&data_blocks);
        whole.then_some(VerityRoot {
            hash,
            salt,
            data_blocks,
        })
    }

    /// `<hash>,<salt>,<blocks>`: 64 lower-case hex digits each, then a decimal number.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let root = VerityRoot {
            hash: hex32(parts.next()?)?,
            salt: hex32(parts.next()?)?,
            data_blocks: decimal(parts.next()?, DATA_BLOCKS_MAX)?,
        };
        parts.next().is_none().then_some(root)
    }

    /// Blocks of 4096 bytes that the tree covers.
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Length of the verified device in sectors of 512 bytes, as tables of the device mapper count.
    pub fn sectors(&self) -> u64 {
        self.data_blocks * (BLOCK_BYTES / SECTOR_BYTES)
    }

    /// The parameters of the `verity` target.
    ///
    /// Before the tree is one block with veritysetup's superblock, which is not read: all of it is on the measured command
    /// line. A block that does not match its hash stops the machine at once
    /// (`panic_on_corruption`); every read is checked, also a repeated one. A disk that fails to answer is an I/O error
    /// of the read instead.
    pub fn parameters(&self, layout: DiskLayout) -> String {
        let (disks, start) = match layout {
            DiskLayout::Disk => ([DISK; 2], self.data_blocks + 1),
            DiskLayout::Partitions => (PARTITIONS, 1),
        };
        self.line(disks, start) + " 1 panic_on_corruption"
    }

    /// The same for a whole disk that is read once, from its first byte to its last, by a program that ends with the first error:
    /// a block that does not match is one, and the program can report which disk it is on.
    pub fn parameters_to_read(&self, disk: &str) -> String {
        self.line([disk; 2], self.data_blocks + 1)
    }

    fn line(&self, [data, tree]: [&str; 2], start: u64) -> String {
        let (blocks, hash, salt) = (self.data_blocks, Hex(&self.hash), Hex(&self.salt));
        format!("1 {data} {tree} {BLOCK_BYTES} {BLOCK_BYTES} {blocks} {start} sha256 {hash} {salt}")
    }
}

struct Hex<'a>(&'a [u8; 32]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[u8; 2]; 32] = pairs.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

/// A decimal number from 1 to `max`, without sign or leading zeros.
pub(crate) fn decimal(text: &str, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = text.parse().ok()?;
    (digits && !text.starts_with('0') && number <= max).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076";
    const SALT: &str = "1234000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn the_table_line_is_the_one_of_the_kernels_documentation() {
        let root = VerityRoot::parse(&format!("{HASH},{SALT},262144")).unwrap();
        // verity.rst, "Example": `0 2097152 verity 1 /dev/sda1 /dev/sda2 4096 4096 262144 1 sha256 4392… 1234…`, here
        // with one option, and on a whole disk with the tree behind the data and its superblock.
        assert_eq!(root.sectors(), 2_097_152);
        assert_eq!(
            root.parameters(DiskLayout::Partitions),
            format!(
                "1 /dev/vda2 /dev/vda3 4096 4096 262144 1 sha256 {HASH} {SALT} 1 panic_on_corruption"
            )
        );
        assert_eq!(
            root.parameters_to_read("/dev/vdb"),
            format!("1 /dev/vdb /dev/vdb 4096 4096 262144 262145 sha256 {HASH} {SALT}")
        );
        assert_eq!(
            root.parameters(DiskLayout::Disk),
            format!(
                "1 /dev/vda /dev/vda 4096 4096 262144 262145 sha256 {HASH} {SALT} 1 panic_on_corruption"
            )
        );
    }

    #[test]
    fn a_volume_of_no_blocks_or_too_many_is_none() {
        let check = |blocks| VerityRoot::new([1; 32], [2; 32], blocks).map(|root| root.sectors());
        assert_eq!(check(1), Some(8));
        assert_eq!(check(DATA_BLOCKS_MAX), Some(DATA_BLOCKS_MAX * 8));
        assert_eq!(check(0), None);
        assert_eq!(check(DATA_BLOCKS_MAX + 1), None);
        assert_eq!(check(u64::MAX), None);
    }

    #[test]
    fn a_root_has_one_spelling() {
        let check = |text: &str| VerityRoot::parse(text).map(|root| root.data_blocks);
        assert_eq!(check(&format!("{HASH},{SALT},1")), Some(1));
        assert_eq!(
            check(&format!("{HASH},{SALT},{DATA_BLOCKS_MAX}")),
            Some(DATA_BLOCKS_MAX)
        );
        for bad in [
            String::new(),
            ",,".into(),
            format!("{HASH},{SALT}"),
            format!("{HASH},{SALT},"),
            format!("{HASH},{SALT},0"),
            format!("{HASH},{SALT},01"),
            format!("{HASH},{SALT},+1"),
            format!("{HASH},{SALT},-1"),
            format!("{HASH},{SALT},1,"),
            format!("{HASH},{SALT},1,1"),
            format!("{HASH},{SALT},0x1"),
            format!("{HASH},{SALT},{}", DATA_BLOCKS_MAX + 1),
            format!("{HASH},{SALT},99999999999999999999999"),
            format!("{},{SALT},1", HASH.to_uppercase()),
            format!("{HASH},{SALT}00,1"),
            format!("{HASH},,1"),
            format!("{},{SALT},1", &HASH[1..]),
            format!("{},{SALT},1", &HASH[2..]),
            format!("{HASH},{},1", SALT.replace('1', "g")),
            format!("{HASH}, {},1", &SALT[1..]),
        ] {
            assert_eq!(check(&bad), None, "{bad}");
        }
    }
}
