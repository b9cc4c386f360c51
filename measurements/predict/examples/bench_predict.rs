//! How long a prediction takes, next to hashing the same bytes once.
//!
//! ```text
//! cargo run --release -p predict --example bench_predict -- [FIRMWARE] [rounds]
//! ```
//! The kernel (15 MB) and the initrd (50 MB) are made up; so is the firmware of 4 MiB, if none is given. In each round each
//! thing is timed once, so that all see the same machine.

#[path = "../tests/it/made.rs"]
mod made;

use std::{fs, hint::black_box, time::Instant};

use predict::{
    Boot, BootMethod, Firmware, FirmwareBuild, Inputs, KernelHeader, PageOrder, Platform,
    acpi::{Qemu, Serial, Shape, acpi_files},
    mrtd, predict,
};
use sha2::{Digest, Sha384};

const KERNEL_BYTES: usize = 15_000_000;
const INITRD_BYTES: usize = 50_000_000;
const CMDLINE: &str = "console=ttyS0 panic=-1";

/// What is timed: its name, one run, and the milliseconds of each run.
type Timed<'a> = (&'a str, Box<dyn FnMut() + 'a>, Vec<f64>);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let firmware = match arguments.next() {
        Some(path) => fs::read(path).expect("the firmware can be read"),
        None => firmware(),
    };
    let rounds: usize = arguments
        .next()
        .map_or(21, |rounds| rounds.parse().expect("a number of rounds"));
    let kernel = program(&[(".text", noise(KERNEL_BYTES))]);
    let initrd = noise(INITRD_BYTES);
    let uki = unified(&kernel, &initrd);
    let shape = Shape {
        smm: false,
        pic: false,
        serial: Serial::Board,
        ..Shape::new(Qemu::V10_0_13, 4, 2048)
    };
    let acpi = acpi_files(&shape).expect("a proven machine");
    let inputs = |boot| Inputs {
        platform: Platform::new(
            Firmware::new(&firmware, FirmwareBuild::STABLE202502).expect("it measures"),
            2048,
        ),
        page_order: PageOrder::SinglePass,
        acpi: &acpi,
        boot,
    };
    let direct = inputs(Boot::Direct {
        kernel: &kernel,
        initrd: Some(&initrd),
        cmdline: CMDLINE,
        header: KernelHeader::AsOnDisk,
    });
    let unified = inputs(Boot::Uki {
        uki: &uki,
        method: BootMethod::Kernel { append: None },
    });
    let files = [&firmware[..], &kernel, &initrd];
    let image = [&firmware[..], &uki];
    let single = PageOrder::SinglePass;
    let medians = medians(
        rounds,
        [
            timed("SHA-384 once, sha2", || with_sha2(&files)),
            timed("SHA-384 once, ring", || with_ring(&files)),
            timed("prediction, direct boot", || predicted(&direct)),
            timed("the image once, sha2", || with_sha2(&image)),
            timed("the image once, ring", || with_ring(&image)),
            timed("prediction, unified kernel image", || predicted(&unified)),
            timed("of these, MRTD", || {
                drop(black_box(mrtd(&firmware, single)))
            }),
            timed("of these, ACPI files from a shape", || {
                drop(black_box(acpi_files(&shape)));
            }),
        ],
    );
    let ratio =
        |prediction: f64, bare: &[f64]| prediction / bare.iter().copied().fold(f64::MAX, f64::min);
    println!(
        "direct boot: {:.2} times the faster hash; unified kernel image: {:.2} times",
        ratio(medians[2], &medians[..2]),
        ratio(medians[5], &medians[3..5])
    );
}

fn timed<'a>(what: &'a str, run: impl FnMut() + 'a) -> Timed<'a> {
    (what, Box::new(run), Vec::new())
}

/// In each round each thing is timed once. What they took in the middle, in milliseconds.
fn medians<const N: usize>(rounds: usize, mut runs: [Timed<'_>; N]) -> [f64; N] {
    for _ in 0..rounds {
        for (_, run, times_ms) in &mut runs {
            let start = Instant::now();
            run();
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    runs.map(|(what, _, mut times_ms)| report(what, &mut times_ms))
}

/// The same kernel and initrd in one image.
fn unified(kernel: &[u8], initrd: &[u8]) -> Vec<u8> {
    program(&[
        (
            ".sdmagic",
            b"#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####".to_vec(),
        ),
        (".osrel", b"ID=test\n".to_vec()),
        (".cmdline", CMDLINE.into()),
        (".initrd", initrd.to_vec()),
        (".linux", kernel.to_vec()),
    ])
}

fn predicted(inputs: &Inputs<'_>) {
    black_box(predict(inputs).expect("a prediction"));
}

fn with_sha2(parts: &[&[u8]]) {
    let hash = parts.iter().fold(Sha384::new(), Sha384::chain_update);
    black_box(hash.finalize());
}

fn with_ring(parts: &[&[u8]]) {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA384);
    parts.iter().for_each(|part| hash.update(part));
    black_box(hash.finish());
}

fn report(what: &str, times_ms: &mut [f64]) -> f64 {
    times_ms.sort_by(f64::total_cmp);
    let median = times_ms[times_ms.len() / 2];
    let (min, max) = (times_ms[0], times_ms[times_ms.len() - 1]);
    println!(
        "{what:34} median {median:8.3} ms, {min:.3} to {max:.3} ms, {} rounds",
        times_ms.len()
    );
    median
}

/// Bytes that do not repeat soon.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// A PE32+ of these sections, which says that it takes an initrd from the firmware.
fn program(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0; 0x400];
    let mut memory = 0x1000;
    for (index, (name, contents)) in sections.iter().enumerate() {
        let (start, filled) = (file.len(), contents.len().next_multiple_of(0x200));
        let header = 0x58 + 152 + 40 * index;
        file[header..header + name.len()].copy_from_slice(name.as_bytes());
        for (at, field) in [(8, contents.len()), (12, memory), (16, filled), (20, start)] {
            file[header + at..header + at + 4].copy_from_slice(&(field as u32).to_le_bytes());
        }
        file.extend_from_slice(contents);
        file.resize(start + filled, 0);
        memory += contents.len().next_multiple_of(0x1000);
    }
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0\x64\x86");
    put(0x46, &[sections.len() as u8]);
    put(0x54, &152u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 44, &[1]);
    put(0x58 + 56, &(memory as u32).to_le_bytes());
    put(0x58 + 60, &0x400u32.to_le_bytes());
    put(0x58 + 108, &5u32.to_le_bytes());
    file
}

/// 4 MiB with the sections of Debian's OVMF: an empty variable store, code, and memory for the firmware's own use.
fn firmware() -> Vec<u8> {
    const STORE: usize = 0x8_4000;
    const ALL: usize = 0x40_0000;
    let mut file = vec![0xff; STORE];
    file[..0x48].fill(0);
    file[40..44].copy_from_slice(b"_FVH");
    file[48..50].copy_from_slice(&72u16.to_le_bytes());
    file[72..88].copy_from_slice(&[
        0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77,
        0x92,
    ]);
    file.extend(noise(ALL - STORE));
    let volume = made::volume(&[made::driver_file()]);
    file[STORE..STORE + volume.len()].copy_from_slice(&volume);
    let code = ALL - STORE;
    let sections: [[u64; 6]; 4] = [
        [STORE as u64, code as u64, 0xffc8_4000, code as u64, 0, 1],
        [0, STORE as u64, 0xffc0_0000, STORE as u64, 1, 0],
        [0, 0, 0x80_9000, 0x2000, 2, 0],
        [0, 0, 0x80_b000, 0x2000, 3, 0],
    ];
    let mut metadata = b"TDVF".to_vec();
    metadata.extend([16 + 32 * 4, 1, 4].map(u32::to_le_bytes).concat());
    for [offset, raw, address, memory, kind, attributes] in sections {
        metadata.extend([offset as u32, raw as u32].map(u32::to_le_bytes).concat());
        metadata.extend([address, memory].map(u64::to_le_bytes).concat());
        metadata.extend(
            [kind as u32, attributes as u32]
                .map(u32::to_le_bytes)
                .concat(),
        );
    }
    let at = ALL - 0x1000;
    file[at..at + metadata.len()].copy_from_slice(&metadata);
    let guid = |text: u128| text.to_le_bytes();
    let table = [
        &0x1000u32.to_le_bytes()[..],
        &22u16.to_le_bytes(),
        &guid(0xc28e_bfa7_8546_5e86_4798_984a_e47a_6535),
        &40u16.to_le_bytes(),
        &guid(0x2d08_5ac5_66a3_eaba_45f7_1fb2_96b5_82de),
    ]
    .concat();
    let end = ALL - 32;
    file[end - table.len()..end].copy_from_slice(&table);
    file
}
