//! A disk that firmware starts from: a partition table with one partition, and files on it in FAT16.
//!
//! UEFI 2.10, sections 5.3 and 13.3; Microsoft, "FAT: General Overview of On-Disk Format". Only what the test needs: names
//! of eight and three letters, folders of one cluster.

use std::collections::BTreeMap;

const SECTOR: usize = 512;
const CLUSTER: usize = 8 * SECTOR;
const FIRST: usize = 2048;
const PARTITION_SECTORS: usize = 100 * 2048;
const DISK_SECTORS: usize = FIRST + PARTITION_SECTORS + 2048;
const FAT_SECTORS: usize = 256;
const ROOT_ENTRIES: usize = 512;
const ENTRIES: usize = 128;
const EFI_SYSTEM: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// The whole disk.
pub fn with_files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut disk = vec![0; DISK_SECTORS * SECTOR];
    let mut entries = vec![0; ENTRIES * 128];
    entries[..16].copy_from_slice(&EFI_SYSTEM);
    entries[16..32].fill(0x11);
    put64(&mut entries, 32, FIRST);
    put64(&mut entries, 40, FIRST + PARTITION_SECTORS - 1);
    let last = DISK_SECTORS - 1;
    let entries_at_end = last - ENTRIES * 128 / SECTOR;
    for (own, other, at) in [(1, last, 2), (last, 1, entries_at_end)] {
        let header = table_header(own, other, at, &entries);
        disk[own * SECTOR..][..92].copy_from_slice(&header);
        disk[at * SECTOR..][..entries.len()].copy_from_slice(&entries);
    }
    // The old table, which says that the disk has a new one.
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12..446 + 16].copy_from_slice(&(last as u32).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    Fat::write(
        files,
        &mut disk[FIRST * SECTOR..][..PARTITION_SECTORS * SECTOR],
    );
    disk
}

fn table_header(own: usize, other: usize, entries_at: usize, entries: &[u8]) -> [u8; 92] {
    let mut header = [0; 92];
    header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
    put64(&mut header, 24, own);
    put64(&mut header, 32, other);
    put64(&mut header, 40, 34);
    put64(&mut header, 48, DISK_SECTORS - 34);
    header[56..72].fill(0x22);
    put64(&mut header, 72, entries_at);
    header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
    let sum = crc32(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// A file system being filled.
struct Fat<'a> {
    bytes: &'a mut [u8],
    next_cluster: usize,
}

impl Fat<'_> {
    const RESERVED: usize = 4;
    const ROOT: usize = Self::RESERVED + 2 * FAT_SECTORS;
    const DATA: usize = Self::ROOT + ROOT_ENTRIES * 32 / SECTOR;

    fn write(files: &[(&str, &[u8])], bytes: &mut [u8]) {
        bytes[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        bytes[3..11].copy_from_slice(b"MSWIN4.1");
        let sectors = (bytes.len() / SECTOR) as u32;
        for (at, value) in [
            (11, SECTOR),
            (14, Self::RESERVED),
            (17, ROOT_ENTRIES),
            (22, FAT_SECTORS),
        ] {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        (bytes[13], bytes[16], bytes[21]) = ((CLUSTER / SECTOR) as u8, 2, 0xf8);
        bytes[32..36].copy_from_slice(&sectors.to_le_bytes());
        (bytes[36], bytes[38]) = (0x80, 0x29);
        bytes[43..62].copy_from_slice(b"ESP        FAT16   ");
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let mut fat = Fat {
            bytes,
            next_cluster: 2,
        };
        fat.link(0, 0xfff8);
        fat.link(1, 0xffff);
        // Folder by its path: where its next entry goes, and its cluster.
        let mut folders = BTreeMap::from([(String::new(), (Self::ROOT * SECTOR, 0))]);
        for (path, contents) in files {
            let (folder, name) = path.rsplit_once('/').unwrap();
            let mut parent = String::new();
            for part in folder.split('/') {
                let path = format!("{parent}/{part}");
                if !folders.contains_key(&path) {
                    let cluster = fat.store(&[0; CLUSTER]);
                    let at = (Self::DATA * SECTOR) + (cluster - 2) * CLUSTER;
                    let above = folders[&parent].1;
                    fat.entry(at, b".          ", 0x10, cluster, 0);
                    fat.entry(at + 32, b"..         ", 0x10, above, 0);
                    fat.list(&mut folders, &parent, part, 0x10, cluster, 0);
                    folders.insert(path.clone(), (at + 64, cluster));
                }
                parent = path;
            }
            let cluster = fat.store(contents);
            fat.list(&mut folders, &parent, name, 0x20, cluster, contents.len());
        }
    }

    fn list(
        &mut self,
        folders: &mut BTreeMap<String, (usize, usize)>,
        folder: &str,
        name: &str,
        kind: u8,
        cluster: usize,
        bytes: usize,
    ) {
        let at = &mut folders.get_mut(folder).unwrap().0;
        let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
        let short = format!("{stem:8}{extension:3}");
        self.entry(*at, short.as_bytes(), kind, cluster, bytes);
        *at += 32;
    }

    fn entry(&mut self, at: usize, name: &[u8], kind: u8, cluster: usize, bytes: usize) {
        let entry = &mut self.bytes[at..at + 32];
        entry[..11].copy_from_slice(name);
        entry[11] = kind;
        entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
        entry[28..32].copy_from_slice(&(bytes as u32).to_le_bytes());
    }

    /// Puts a file into the next clusters and gives the first.
    fn store(&mut self, contents: &[u8]) -> usize {
        let first = self.next_cluster;
        let count = contents.len().div_ceil(CLUSTER).max(1);
        let at = Self::DATA * SECTOR + (first - 2) * CLUSTER;
        self.bytes[at..at + contents.len()].copy_from_slice(contents);
        for cluster in first..first + count - 1 {
            self.link(cluster, (cluster + 1) as u16);
        }
        self.link(first + count - 1, 0xffff);
        self.next_cluster += count;
        first
    }

    fn link(&mut self, cluster: usize, to: u16) {
        for table in 0..2 {
            let at = (Self::RESERVED + table * FAT_SECTORS) * SECTOR + 2 * cluster;
            self.bytes[at..at + 2].copy_from_slice(&to.to_le_bytes());
        }
    }
}

fn put64(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
}

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}
