//! FAT32 (Microsoft, "FAT: General Overview of On-Disk Format", version 1.03), as far as firmware needs it: names of eight and
//! three letters, directories of one cluster, everything in a row and in the order of its path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use super::gpt::{SECTOR_BYTES, put};
use crate::limits::BOOT_PARTITION_BYTES_MAX;

/// Why the files cannot be on such a file system.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum FatError {
    #[error("the boot partition can have no file {path}: {why}")]
    Path { path: String, why: &'static str },
    #[error("the boot partition's files have {got} bytes; {BOOT_PARTITION_BYTES_MAX} are allowed")]
    TooLong { got: u64 },
}

/// Plans the file system.
pub(crate) fn lay_out<'a>(files: &[(&'a str, &'a [u8])]) -> Result<Volume<'a>, FatError> {
    let got = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if got > BOOT_PARTITION_BYTES_MAX {
        return Err(FatError::TooLong { got });
    }
    // The specification's sizes: the smallest clusters up to 260 MiB, then those of 4096 bytes.
    let cluster_sectors = if got <= SMALL_BYTES_MAX { 1 } else { 8 };
    let mut tree = Tree::default();
    for (path, contents) in files {
        tree.add(path, contents)?;
    }
    let mut volume = Volume {
        cluster_sectors,
        directories: Vec::new(),
        files: Vec::new(),
        chains: Vec::new(),
    };
    volume.place(tree)?;
    Ok(volume)
}

/// Directories and files by path; `""` is the root.
struct Tree<'a>(BTreeMap<String, Option<&'a [u8]>>);

impl Default for Tree<'_> {
    fn default() -> Self {
        Self(BTreeMap::from([(String::new(), None)]))
    }
}

impl<'a> Tree<'a> {
    fn add(&mut self, path: &str, contents: &'a [u8]) -> Result<(), FatError> {
        let wrong = |why| FatError::Path {
            path: path.to_owned(),
            why,
        };
        if contents.is_empty() {
            return Err(wrong("it is empty"));
        }
        if !path.split('/').all(is_short_name) {
            return Err(wrong("a name is not of eight and three capital letters"));
        }
        for (end, _) in path.match_indices('/') {
            let directory = self.0.entry(path[..end].to_owned()).or_insert(None);
            if directory.is_some() {
                return Err(wrong("a file is in the place of its directory"));
            }
        }
        match self.0.insert(path.to_owned(), Some(contents)) {
            None => Ok(()),
            Some(_) => Err(wrong("something is there")),
        }
    }
}

/// A file system, planned.
pub(crate) struct Volume<'a> {
    cluster_sectors: u64,
    /// Each with its first cluster.
    directories: Vec<(u32, Vec<u8>)>,
    files: Vec<(u32, &'a [u8])>,
    /// First cluster and length, from cluster 2 on without a gap.
    chains: Vec<(u32, u32)>,
}

impl<'a> Volume<'a> {
    fn place(&mut self, tree: Tree<'a>) -> Result<(), FatError> {
        // In the order of paths, the root first, which has to have cluster 2.
        let mut clusters = BTreeMap::new();
        for (path, contents) in &tree.0 {
            let bytes = contents.map_or(self.cluster_bytes(), |c| c.len() as u64);
            clusters.insert(path.as_str(), self.allocate(bytes));
        }
        for (path, contents) in &tree.0 {
            let own = clusters[path.as_str()];
            if let Some(contents) = contents {
                self.files.push((own, contents));
                continue;
            }
            let mut directory = Vec::new();
            if !path.is_empty() {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                // The root is called cluster 0 there.
                let above = if parent.is_empty() {
                    0
                } else {
                    clusters[parent]
                };
                directory.extend(entry(*b".          ", DIRECTORY, own, 0));
                directory.extend(entry(*b"..         ", DIRECTORY, above, 0));
            }
            let inside = |(other, _): &(&String, _)| {
                let parent = other.rsplit_once('/').map_or("", |(parent, _)| parent);
                !other.is_empty() && parent == path
            };
            for (other, contents) in tree.0.iter().filter(inside) {
                let name = other
                    .rsplit_once('/')
                    .map_or(other.as_str(), |(_, name)| name);
                let (kind, bytes) = match contents {
                    Some(contents) => (FILE, contents.len() as u32),
                    None => (DIRECTORY, 0),
                };
                directory.extend(entry(padded(name), kind, clusters[other.as_str()], bytes));
            }
            if directory.len() as u64 > self.cluster_bytes() {
                return Err(FatError::Path {
                    path: path.clone(),
                    why: "a directory has too many files",
                });
            }
            self.directories.push((own, directory));
        }
        Ok(())
    }

    /// The next clusters for so many bytes, which the limit keeps far from the format's.
    fn allocate(&mut self, bytes: u64) -> u32 {
        let first = self.chains.last().map_or(2, |(first, count)| first + count);
        let count = bytes.div_ceil(self.cluster_bytes()) as u32;
        self.chains.push((first, count));
        first
    }

    fn cluster_bytes(&self) -> u64 {
        self.cluster_sectors * SECTOR_BYTES
    }

    fn used(&self) -> u64 {
        self.chains.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// What tells FAT32 from FAT16 is the number of clusters and nothing else.
    fn clusters(&self) -> u64 {
        self.used().max(CLUSTERS_MIN)
    }

    fn table_sectors(&self) -> u64 {
        (4 * (2 + self.clusters())).div_ceil(SECTOR_BYTES)
    }

    fn data(&self) -> u64 {
        RESERVED + TABLES * self.table_sectors()
    }

    /// Its length.
    pub fn sectors(&self) -> u64 {
        self.data() + self.clusters() * self.cluster_sectors
    }

    /// Writes it from the sector `first` of the disk on, which is empty there.
    pub fn write(&self, first: u64, volume: [u8; 4], out: &File) -> io::Result<()> {
        for at in [0, BACKUP] {
            put(out, first + at, &self.boot_sector(first, volume))?;
            put(out, first + at + 1, &self.information())?;
        }
        let table = self.table();
        for number in 0..TABLES {
            put(
                out,
                first + RESERVED + number * self.table_sectors(),
                &table,
            )?;
        }
        let place =
            |cluster: u32| first + self.data() + (u64::from(cluster) - 2) * self.cluster_sectors;
        for (cluster, entries) in &self.directories {
            put(out, place(*cluster), entries)?;
        }
        for (cluster, contents) in &self.files {
            put(out, place(*cluster), contents)?;
        }
        Ok(())
    }

    fn boot_sector(&self, first: u64, volume: [u8; 4]) -> [u8; 512] {
        let mut sector = [0; 512];
        let mut set = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        // A jump over the numbers, to an instruction that waits.
        set(0, &[0xeb, 0x58, 0x90]);
        set(3, b"MSWIN4.1");
        set(11, &(SECTOR_BYTES as u16).to_le_bytes());
        set(13, &[self.cluster_sectors as u8]);
        set(14, &(RESERVED as u16).to_le_bytes());
        set(16, &[TABLES as u8]);
        set(21, &[0xf8]);
        // Sectors a track and heads, of which there are none.
        set(24, &[63, 0, 255, 0]);
        set(28, &(first as u32).to_le_bytes());
        set(32, &(self.sectors() as u32).to_le_bytes());
        set(36, &(self.table_sectors() as u32).to_le_bytes());
        set(44, &2u32.to_le_bytes());
        set(48, &[1, 0, BACKUP as u8, 0]);
        set(64, &[0x80, 0, 0x29]);
        set(67, &volume);
        set(71, b"NO NAME    FAT32   ");
        set(90, &[0xeb, 0xfe]);
        set(510, &[0x55, 0xaa]);
        sector
    }

    /// `FSInfo`: how much is free, and from where on.
    fn information(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        let mut set = |at: usize, value: u32| {
            sector[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        set(0, 0x4161_5252);
        set(484, 0x6141_7272);
        set(488, (self.clusters() - self.used()) as u32);
        set(492, 2 + self.used() as u32);
        set(508, 0xaa55_0000);
        sector
    }

    /// As much of the table as is in use.
    fn table(&self) -> Vec<u8> {
        let mut table = vec![0x0fff_fff8, END];
        for (first, count) in &self.chains {
            table.extend(first + 1..first + count);
            table.push(END);
        }
        table.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

fn entry(name: [u8; 11], kind: u8, cluster: u32, bytes: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(&name);
    entry[11] = kind;
    // Made, read and written on the format's first day.
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&0x21u16.to_le_bytes());
    }
    let [low, high] = [cluster as u16, (cluster >> 16) as u16];
    entry[20..22].copy_from_slice(&high.to_le_bytes());
    entry[26..28].copy_from_slice(&low.to_le_bytes());
    entry[28..].copy_from_slice(&bytes.to_le_bytes());
    entry
}

fn is_short_name(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, "A"));
    let plain = |text: &str, most: usize| {
        let letter = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_-".contains(&b);
        (1..=most).contains(&text.len()) && text.bytes().all(letter)
    };
    plain(stem, 8) && plain(extension, 3)
}

/// Eight letters and three, filled up.
fn padded(name: &str) -> [u8; 11] {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let mut padded = [b' '; 11];
    padded[..stem.len()].copy_from_slice(stem.as_bytes());
    padded[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    padded
}

const RESERVED: u64 = 32;
const TABLES: u64 = 2;
/// Where the boot sector lies once more.
const BACKUP: u64 = 6;
/// Fewer are FAT16 to some; the specification asks for sixteen more than its own 65525.
const CLUSTERS_MIN: u64 = 65_525 + 16;
const SMALL_BYTES_MAX: u64 = 256 << 20;
const DIRECTORY: u8 = 0x10;
const FILE: u8 = 0x20;
const END: u32 = 0x0fff_ffff;
