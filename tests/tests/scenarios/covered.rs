//! Which bytes of an image a hash covers: all of kernel, initrd, command line and unified kernel image but the ranges that
//! Authenticode leaves out; of the root, data and tree but not the superblock; of the disk, its partition table. Flipping one
//! of them changes what is predicted, or the block is not read. docs/image.md has the list of the others.

use crate::common;
use image_builder::formats::verity::{Reader, Root, VerityFault};
use predict::image::ImageManifest;
use predict::{
    Boot, BootMethod, Edk2Release, PredictError, PredictedEvent, authenticode::authenticode, direct,
};
use registers::Digest48;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where a test looks beside the places that its seed chose.
#[derive(Clone, Copy, PartialEq)]
enum Tier {
    /// Twenty places, and some of the first and the last block.
    Short,
    /// Two hundred places, and every byte of the first and the last block.
    Long,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_that_a_hash_covers_changes_what_is_predicted() {
    let Some(lab) = Lab::new().await else { return };
    lab.authenticode_leaves_out_three_ranges_and_nothing_else();
    lab.flips_change_what_is_predicted(Tier::Short);
    lab.flips_of_the_root_are_not_read(Tier::Short);
    lab.of_the_disk_its_table_is_measured();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long tier: tens of thousands of predictions"]
async fn every_byte_of_the_first_and_last_blocks_does_too() {
    let Some(lab) = Lab::new().await else { return };
    lab.flips_change_what_is_predicted(Tier::Long);
    lab.flips_of_the_root_are_not_read(Tier::Long);
}

/// An image, and the seed of the places.
struct Lab {
    directory: PathBuf,
    manifest: ImageManifest,
    seed: u64,
}

impl Lab {
    async fn new() -> Option<Lab> {
        let image = common::sim().await?;
        let seed = std::env::var("CHRYSALIS_SEED");
        let seed = seed.map_or(20_261_124, |seed| seed.parse().expect("a number"));
        println!("CHRYSALIS_SEED={seed}");
        Some(Lab {
            directory: image.dir,
            manifest: image.manifest,
            seed,
        })
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Not by flipping, but of every byte at once: the digest is the hash of exactly the others, in their order.
    fn authenticode_leaves_out_three_ranges_and_nothing_else(&self) {
        for name in ["kernel", "image.efi"] {
            let program = self.read(name);
            let mut rest = program.clone();
            let left_out = left_out(&program);
            println!(
                "{name}: Authenticode leaves out {left_out:?} of {}",
                program.len()
            );
            for range in left_out.into_iter().rev() {
                rest.drain(range);
            }
            assert_eq!(authenticode(&program), Ok(Digest48::of(&rest)), "{name}");
        }
    }

    fn flips_change_what_is_predicted(&self, tier: Tier) {
        let kernel = self.read("kernel");
        let initrd = self.read("initrd");
        let cmdline = self.manifest.cmdline.clone();
        self.flips("kernel", &kernel, &left_out(&kernel), tier, |kernel| {
            direct::rtmr1(kernel, Edk2Release::STABLE202502)
        });
        self.flips("initrd", &initrd, &[], tier, |initrd| {
            direct::rtmr2(&cmdline, Some(initrd))
        });
        let line = cmdline.as_bytes();
        self.flips("cmdline", line, &[], Tier::Long, |line| {
            direct::rtmr2(&String::from_utf8_lossy(line), Some(b"an initrd"))
        });
        let uki = self.read("image.efi");
        self.flips("image.efi", &uki, &left_out(&uki), tier, |uki| {
            let method = BootMethod::Kernel { append: None };
            Boot::Uki { uki, method }.events(Edk2Release::STABLE202502)
        });
    }

    /// Flips a bit at each place. Outside of `left_out` an event changes, or what comes out is no program. Inside of it one may:
    /// the length of the certificates says where the hash ends.
    fn flips(
        &self,
        name: &str,
        bytes: &[u8],
        left_out: &[Range<usize>],
        tier: Tier,
        predict: impl Fn(&[u8]) -> Result<Vec<PredictedEvent>, PredictError> + Sync,
    ) {
        let whole = predict(bytes).expect("the image can be predicted");
        let digests =
            |events: &[PredictedEvent]| events.iter().map(|e| e.digest).collect::<Vec<_>>();
        let places = places(bytes.len(), self.seed, tier);
        let check = |places: &[usize]| {
            let mut flipped = bytes.to_vec();
            for at in places {
                flipped[*at] ^= 1;
                let covered = !left_out.iter().any(|range| range.contains(at));
                // What cannot be predicted is no boot with these registers.
                if let Ok(events) = predict(&flipped) {
                    let same = digests(&events) == digests(&whole);
                    assert!(!(covered && same), "{name}, byte {at}");
                }
                flipped[*at] ^= 1;
            }
        };
        let half = places.len().div_ceil(2);
        std::thread::scope(|scope| {
            for places in places.chunks(half) {
                scope.spawn(|| check(places));
            }
        });
    }

    fn flips_of_the_root_are_not_read(&self, tier: Tier) {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("root.img");
        fs::copy(self.directory.join("root.img"), &copy).unwrap();
        let file = File::options().read(true).write(true).open(&copy).unwrap();
        let root = Root {
            hash: self.manifest.root.verity_hash.0,
            salt: self.manifest.root.salt.0,
            data_blocks: self.manifest.root.data_blocks,
        };
        let reader = Reader::new(&file, root);
        // A block of data below each block of the tree, and all blocks as they are.
        let mut below = BTreeMap::new();
        for block in 0..root.data_blocks {
            assert!(reader.block(block).is_ok(), "block {block}");
            for tree in reader.path(block) {
                below.entry(tree).or_insert(block);
            }
        }
        let flip = |at: u64| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        };
        let data_bytes = root.data_blocks * 4096;
        for at in places(data_bytes as usize, self.seed, tier) {
            let block = at as u64 / 4096;
            flip(at as u64);
            let read = reader.block(block);
            assert!(matches!(read, Err(VerityFault::Data { block: b }) if b == block));
            flip(at as u64);
        }
        let tree = data_bytes + 4096;
        let tree_bytes = file.metadata().unwrap().len() - tree;
        assert_eq!(below.len() as u64, tree_bytes / 4096, "every block is used");
        for at in places(tree_bytes as usize, self.seed, tier) {
            let at = tree + at as u64;
            flip(at);
            let read = reader.block(below[&(at / 4096)]);
            assert!(matches!(read, Err(VerityFault::Tree { block }) if block == at / 4096));
            flip(at);
        }
        // Nobody reads the superblock: what it says is on the command line.
        for at in 0..4096 {
            flip(data_bytes + at);
        }
        assert!(reader.block(0).is_ok() && reader.block(root.data_blocks - 1).is_ok());
    }

    /// Of the disk's first MiB the header of the table and the entries of its three partitions, and nothing else.
    fn of_the_disk_its_table_is_measured(&self) {
        let uki = self.read("image.efi");
        let head = head(&self.directory.join("disk.img"));
        let events = |table: &[u8]| {
            let loader = None;
            let method = BootMethod::Disk { table, loader };
            Boot::Uki { uki: &uki, method }.events(Edk2Release::STABLE202502)
        };
        let whole = events(&head).expect("predicted");
        let measured = [512..512 + 92, 1024..1024 + 3 * 128];
        let mut flipped = head.clone();
        for (range, same) in [
            (0..512, true),
            (512..512 + 92, false),
            (512 + 92..1024, true),
            (1024..1024 + 3 * 128, false),
            (34 * 512..head.len(), true),
        ] {
            let step = range.len().div_ceil(4);
            for at in range.step_by(step.max(1)) {
                flipped[at] ^= 1;
                let predicted = events(&flipped);
                assert_eq!(predicted.as_ref() == Ok(&whole), same, "byte {at}");
                flipped[at] ^= 1;
            }
        }
        println!("disk.img: of its first MiB, {measured:?} are measured; so is image.efi on it");
    }
}

/// What the Authenticode specification leaves out of a program: the checksum, the entry that places the certificates, and those.
fn left_out(program: &[u8]) -> Vec<Range<usize>> {
    let number = |at: usize| {
        let bytes = program[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    };
    let optional = number(0x3c) + 24;
    let (checksum, entry) = (optional + 64, optional + 112 + 4 * 8);
    let (start, bytes) = (number(entry), number(entry + 4));
    let mut ranges = vec![checksum..checksum + 4, entry..entry + 8];
    if bytes > 0 {
        assert_eq!(start + bytes, program.len(), "certificates are at the end");
        ranges.push(start..start + bytes);
    }
    ranges
}

/// Places chosen by the seed, then the first and the last block of 4096 bytes, or some of their bytes.
fn places(bytes: usize, seed: u64, tier: Tier) -> Vec<usize> {
    let (count, step) = match tier {
        Tier::Short => (20, 409),
        Tier::Long => (200, 1),
    };
    let mut state = seed;
    let mut places: Vec<usize> = (0..count)
        .map(|_| {
            // SplitMix64 (Steele, Lea and Flood, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ mixed >> 31) % bytes as u64) as usize
        })
        .collect();
    let block = bytes.min(4096);
    places.extend((0..block).step_by(step));
    places.extend((bytes - block..bytes).step_by(step));
    places.push(bytes - 1);
    places
}

fn head(path: &Path) -> Vec<u8> {
    let mut head = vec![0; 1 << 20];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut head, 0)
        .unwrap();
    head
}
