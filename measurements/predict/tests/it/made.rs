//! Small files in the formats of firmware, kernel and ACPI tables, for tests that need no real ones.

#![allow(dead_code, reason = "each test program uses its part")]

use predict::acpi::files::AcpiFiles;

/// One section of a made firmware: offset and length in the file, address and length in memory, type, attributes.
pub type Section = [u64; 6];

/// Those of [`firmware`].
pub const SECTIONS: [Section; 4] = [
    [0x1000, 0x3000, 0xffff_d000, 0x3000, 0, 1],
    [0, 0x1000, 0xffff_c000, 0x1000, 1, 0],
    [0, 0, 0x80_9000, 0x2000, 2, 0],
    [0, 0, 0x80_b000, 0x2000, 3, 0],
];

/// 16 KiB: an empty variable store of one page, three pages of code, and memory for the firmware's own use.
pub fn firmware() -> Vec<u8> {
    firmware_of(&SECTIONS)
}

/// The same file with other sections, at most 59 of them.
pub fn firmware_of(sections: &[Section]) -> Vec<u8> {
    let mut file = vec![0; 0x1000];
    file[40..44].copy_from_slice(b"_FVH");
    file[48..50].copy_from_slice(&72u16.to_le_bytes());
    let authenticated = "782cf3aa7b949a43a1802e144ec37792";
    file[72..88].copy_from_slice(&hex::decode(authenticated).unwrap());
    file[100..].fill(0xff);
    file.extend((0..0x3000u32).map(|at| (at % 251) as u8));
    let driver = volume(&[driver_file()]);
    file[0x1000..0x1000 + driver.len()].copy_from_slice(&driver);

    let mut descriptor = b"TDVF".to_vec();
    for field in [16 + 32 * sections.len() as u32, 1, sections.len() as u32] {
        descriptor.extend(field.to_le_bytes());
    }
    for &[offset, raw, address, memory, kind, attributes] in sections {
        descriptor.extend((offset as u32).to_le_bytes());
        descriptor.extend((raw as u32).to_le_bytes());
        descriptor.extend(address.to_le_bytes());
        descriptor.extend(memory.to_le_bytes());
        descriptor.extend((kind as u32).to_le_bytes());
        descriptor.extend((attributes as u32).to_le_bytes());
    }
    let descriptor_at = 0x3000;
    file[descriptor_at..descriptor_at + descriptor.len()].copy_from_slice(&descriptor);

    // Backwards from the reset vector: the footer, our entry, an entry of somebody else.
    let mut table = vec![1, 2, 3, 4, 22, 0];
    table.extend([0x77; 16]);
    table.extend(((file.len() - descriptor_at) as u32).to_le_bytes());
    table.extend(22u16.to_le_bytes());
    table.extend(hex::decode("35657ae44a989847865e4685a7bf8ec2").unwrap());
    let whole = table.len() as u16 + 18;
    table.extend(whole.to_le_bytes());
    table.extend(hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());
    let end = file.len() - 32;
    file[end - table.len()..end].copy_from_slice(&table);
    file
}

/// A firmware volume of these files, without checksums and a map of blocks.
pub fn volume(files: &[Vec<u8>]) -> Vec<u8> {
    let mut volume = vec![0; 56];
    for file in files {
        volume.extend(file);
        volume.resize(volume.len().next_multiple_of(8), 0xff);
    }
    volume.extend([0xff; 24]);
    let bytes = (volume.len() as u64).to_le_bytes();
    volume[32..40].copy_from_slice(&bytes);
    volume[40..44].copy_from_slice(b"_FVH");
    volume[48] = 56;
    volume
}

/// A file of a volume: its name, its type, and what it consists of.
pub fn volume_file(name: &str, kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut file = hex::decode(name).unwrap();
    let bytes = (24 + contents.len() as u32).to_le_bytes();
    file.extend([0, 0, kind, 0, bytes[0], bytes[1], bytes[2], 0]);
    file.extend(contents);
    file
}

/// The driver that measures, F062221E-C607-44C2-B0B4-C3886331D351, without its program.
pub fn driver_file() -> Vec<u8> {
    volume_file("1e2262f007c6c244b0b4c3886331d351", 7, &[])
}

/// Layouts that the design guide allows, and no OVMF has.
pub fn layouts() -> Vec<(&'static str, Vec<Section>)> {
    let [bfv, cfv, hob, temporary] = SECTIONS;
    let with = |more: &[Section]| [&SECTIONS[..], more].concat();
    let first = [0x1000, 0x1000, 0xffff_d000, 0x1000, 0, 1];
    let second = [0x2000, 0x2000, 0xffff_e000, 0x2000, 0, 1];
    let unmeasured = [0x2000, 0x2000, 0xffff_e000, 0x2000, 0, 0];
    let padded = [0x1000, 0x2f00, 0xffff_d000, 0x3000, 0, 1];
    let measured_cfv = [0, 0x1000, 0xffff_c000, 0x1000, 1, 1];
    let measured_memory = [0, 0, 0x80_b000, 0x2000, 3, 1];
    let later_memory = [0, 0, 0x80_b000, 0x2000, 3, 2];
    let permanent = [0, 0, 0x1000_0000, 0x3000, 4, 0];
    let permanent_later = [0, 0, 0x1000_0000, 0x4000_0000, 4, 2];
    let payload = [0x2000, 0x1000, 0x20_0000, 0x2000, 5, 1];
    let payload_of_host = [0, 0, 0x20_0000, 0x2000, 5, 0];
    let parameters = [0, 0, 0x30_0000, 0x1000, 6, 0];
    vec![
        ("sorted by nothing", vec![temporary, hob, bfv, cfv]),
        ("two of code", vec![first, second, cfv, hob, temporary]),
        ("two, turned", vec![second, first, cfv, hob, temporary]),
        ("one measured", vec![first, unmeasured, cfv, hob, temporary]),
        ("zeros behind", vec![padded, cfv, hob, temporary]),
        ("store measured", vec![bfv, measured_cfv, hob, temporary]),
        ("zeros measured", vec![bfv, cfv, hob, measured_memory]),
        ("memory later", vec![bfv, cfv, hob, later_memory]),
        ("code alone", vec![bfv]),
        ("permanent", with(&[permanent])),
        ("permanent, later", with(&[permanent_later])),
        ("payload", with(&[payload, parameters])),
        ("payload of the host", with(&[payload_of_host, parameters])),
    ]
}

/// A PE32+ with two sections that lie in the file in the other order, bytes after them, and a certificate; 0x380 bytes.
pub fn kernel() -> Vec<u8> {
    let mut file: Vec<u8> = (0..0x380u32).map(|at| (at % 253) as u8).collect();
    file[..0x200].fill(0);
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &2u16.to_le_bytes());
    put(0x54, &152u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 60, &0x200u32.to_le_bytes());
    put(0x58 + 64, &0xdead_beefu32.to_le_bytes());
    put(0x58 + 108, &5u32.to_le_bytes());
    put(0x58 + 144, &0x360u32.to_le_bytes());
    put(0x58 + 148, &0x20u32.to_le_bytes());
    for (index, (bytes, start)) in [(0x80u32, 0x280u32), (0x80, 0x200)].into_iter().enumerate() {
        let header = 0x58 + 152 + 40 * index;
        put(header, b".text");
        put(header + 16, &bytes.to_le_bytes());
        put(header + 20, &start.to_le_bytes());
    }
    file
}

/// A kernel as a stub loads it: [`kernel`] with the version that says it takes an initrd from the firmware.
pub fn modern_kernel() -> Vec<u8> {
    let mut file = kernel();
    file[0x58 + 44] = 1;
    file
}

/// How the only known stub names itself.
pub const SDMAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####";

/// systemd's stub, as little of it as its readers allow: one section, with room in its headers for `room` sections more.
pub fn stub(room: usize) -> Vec<u8> {
    let headers = (0x188 + 40 * (1 + room)).next_multiple_of(0x200);
    // Filled up from the other side, so that the room is exact.
    let table = headers - 40 * (1 + room);
    let mut file = vec![0; headers + 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86\x01\0");
    put(0x54, &((table - 0x58) as u16).to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    for (at, value) in [
        (32, 0x1000),
        (36, 0x200),
        (56, 0x2000),
        (60, headers),
        (64, 7),
        (108, 16),
    ] {
        put(0x58 + at, &(value as u32).to_le_bytes());
    }
    put(table, b".sdmagic");
    for (at, value) in [(8, SDMAGIC.len()), (12, 0x1000), (16, 0x200), (20, headers)] {
        put(table + at, &(value as u32).to_le_bytes());
    }
    put(headers, SDMAGIC);
    file
}

/// A unified kernel image without a stub's code: these sections, one after the other, in the file by 0x200 and in memory by
/// 0x1000 bytes.
pub fn uki(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 0x600];
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
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &(sections.len() as u16).to_le_bytes());
    put(0x54, &152u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 56, &(memory as u32).to_le_bytes());
    put(0x58 + 60, &0x600u32.to_le_bytes());
    put(0x58 + 108, &5u32.to_le_bytes());
    file
}

/// The first blocks of a disk with one partition.
pub fn partition_table() -> Vec<u8> {
    let mut disk = vec![0; 4 * 512];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    // A partition in use, a free entry, another in use.
    put(1024, &[0xc1; 128]);
    put(1024 + 256, &[0xc2; 128]);
    put(512, b"EFI PART\0\0\x01\0\x5c");
    put(512 + 24, &[1]);
    put(512 + 72, &[2]);
    put(512 + 80, &[8, 0, 0, 0, 128]);
    sum_up(&mut disk);
    disk
}

/// Puts the checksums of [`partition_table`] right, entries first.
pub fn sum_up(disk: &mut [u8]) {
    let entries = crc32(&disk[1024..4 * 512]);
    disk[512 + 88..512 + 92].copy_from_slice(&entries.to_le_bytes());
    disk[512 + 16..512 + 20].fill(0);
    let header = crc32(&disk[512..512 + 92]);
    disk[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// What QEMU offers without a TPM.
pub fn acpi() -> AcpiFiles {
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    AcpiFiles::from([
        file(
            "etc/table-loader",
            &table_loader(&["etc/acpi/rsdp", "etc/acpi/tables"]),
        ),
        file("etc/acpi/rsdp", b"RSD PTR \0BOCHS \0\x2e\x23\0\0"),
        file("etc/acpi/tables", &[0x5a; 4096]),
    ])
}

/// A script that allocates these files, adds a pointer and a checksum, and is filled up to a page.
pub fn table_loader(names: &[&str]) -> Vec<u8> {
    let command = |kind: u32, name: &str, rest: &[u8]| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.resize(60, 0);
        bytes.extend(rest);
        bytes.resize(128, 0);
        bytes
    };
    let mut loader: Vec<u8> = Vec::new();
    for name in names {
        loader.extend(command(1, name, &[16, 0, 0, 0, 2]));
    }
    loader.extend(command(2, names[0], names[0].as_bytes()));
    loader.extend(command(3, names[0], &[8, 0, 0, 0, 0, 0, 0, 0, 20]));
    loader.resize(4096, 0);
    loader
}

/// The same firmware with another variable store.
pub fn firmware_with_store(store: &[u8]) -> Vec<u8> {
    let mut file = [store, &firmware()[0x1000..]].concat();
    let length = (store.len() as u32).to_le_bytes();
    let sections = store.len() + 0x2000 + 16;
    let mut put = |at: usize, bytes: &[u8]| {
        file[sections + at..sections + at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &length);
    put(32 + 4, &length);
    put(32 + 8, &0xff00_0000u64.to_le_bytes());
    put(32 + 16, &(store.len() as u64).to_le_bytes());
    file
}

/// The variables of a store in a page.
pub fn small_store(mut store: Vec<u8>) -> Vec<u8> {
    store.truncate(0x1000);
    store[32..40].copy_from_slice(&0x1000u64.to_le_bytes());
    store[0x58..0x5c].copy_from_slice(&(0x1000u32 - 0x48).to_le_bytes());
    store[50..52].fill(0);
    let words = store[..0x48].chunks(2);
    let sum = words.fold(0u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    store[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    store
}
