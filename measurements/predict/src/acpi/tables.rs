//! The tables that are data: ACPI 6.5, section 5.2, with the values of QEMU's `hw/i386/acpi-build.c`.

use super::{shape::Shape, windows::CONFIGURATION};

/// Offsets and widths of a FADT's pointers: FACS, DSDT, and DSDT in 64 bits.
pub const FADT_FACS: (usize, usize) = (36, 4);
/// See [`FADT_FACS`].
pub const FADT_DSDT: (usize, usize) = (40, 4);
/// See [`FADT_FACS`].
pub const FADT_DSDT_LONG: (usize, usize) = (140, 8);
/// Offset and width of a TPM2's pointer to the event log.
pub const TPM2_LOG: (usize, usize) = (68, 8);
/// The event log, which is empty until firmware writes it.
pub const TPM_LOG_BYTES: usize = 64 * 1024;

/// A whole FACS: its header is its own, and it is for the system to write.
pub fn facs() -> Vec<u8> {
    let mut bytes = b"FACS\x40\0\0\0".to_vec();
    bytes.resize(64, 0);
    bytes
}

/// FADT, version 3. Its pointers are zero.
pub fn fadt(shape: &Shape) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.u32(0).u32(0); // FACS, DSDT
    fields.u8(1).u8(0).u16(9); // interrupt model, profile, SCI
    match shape.smm {
        // The port to write to, and what turns ACPI on and off.
        true => fields.u32(0xb2).u8(2).u8(3).u16(0),
        false => fields.u32(0).u32(0),
    };
    fields.u32(PM_EVENT).u32(0).u32(PM_CONTROL).u32(0);
    fields.u32(0).u32(PM_TIMER).u32(GENERAL_EVENT).u32(0);
    fields.u8(4).u8(2).u8(0).u8(4).u8(16).u8(0).u16(0); // lengths of these registers
    fields.u16(0xfff).u16(0xfff).u64(0); // no C2 and C3, no flushing, no duty, no alarms
    fields.u8(0x32).u16(2).u8(0); // century, keyboard controller
    fields.u32(fadt_flags(shape));
    fields.register(1, 8, 0xcf9).u8(0xf).u8(0).u16(0); // reset
    fields.u64(0).u64(0); // FACS, DSDT
    fields.register(1, 32, PM_EVENT).nowhere();
    fields.register(1, 16, PM_CONTROL).nowhere().nowhere();
    fields
        .register(1, 32, PM_TIMER)
        .register(1, 128, GENERAL_EVENT)
        .nowhere();
    fields.0
}

fn fadt_flags(shape: &Shape) -> u32 {
    // WBINVD, C1 on all processors, no sleep button, clock wakes from S4, reset register, platform clock.
    let common = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 10 | 1 << 15;
    // Flat interrupt addressing ends at eight processors; beyond, clusters.
    let clusters = u32::from(shape.vcpus_max > 8) << 18;
    common | clusters
}

/// MADT: every processor there can be, the I/O APIC, the interrupts that differ from a PC's.
pub fn madt(shape: &Shape) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.u32(0xfee0_0000).u32(shape.pic.into());
    for id in 0..shape.vcpus_max as u8 {
        let present = u32::from(id) < shape.vcpus;
        fields.bytes(&local_apic(id, present));
    }
    fields.u8(1).u8(12).u8(0).u8(0).u32(0xfec0_0000).u32(0);
    for (interrupt, input, flags) in [
        (0, 2, 0),
        (5, 5, 0xd),
        (9, 9, 0xd),
        (10, 10, 0xd),
        (11, 11, 0xd),
    ] {
        fields
            .u8(2)
            .u8(10)
            .u8(0)
            .u8(interrupt)
            .u32(input)
            .u16(flags);
    }
    fields.u8(4).u8(6).u8(0xff).u16(0).u8(1); // NMI of all
    fields.0
}

/// The entry of one processor, which its device in the DSDT repeats.
pub fn local_apic(id: u8, enabled: bool) -> [u8; 8] {
    [0, 8, id, id, enabled.into(), 0, 0, 0]
}

/// HPET: what its first register says, and where it is.
pub fn hpet() -> Vec<u8> {
    let mut fields = Fields::default();
    fields
        .u32(0x8086_a201)
        .u32(0)
        .u64(0xfed0_0000)
        .u8(0)
        .u16(0)
        .u8(0);
    fields.0
}

/// TPM2: a client's TPM behind a CRB, with a log.
pub fn tpm2() -> Vec<u8> {
    let mut fields = Fields::default();
    fields.u32(0).u64(0xfed4_0040).u32(7).u32(0).u64(0);
    fields.u32(TPM_LOG_BYTES as u32).u64(0);
    fields.0
}

/// MCFG: the configuration of buses 0 to 255.
pub fn mcfg() -> Vec<u8> {
    let mut fields = Fields::default();
    fields
        .u64(0)
        .u64(CONFIGURATION.0)
        .u16(0)
        .u8(0)
        .u8(0xff)
        .u32(0);
    fields.0
}

/// WAET: reading the timer once is enough.
pub fn waet() -> Vec<u8> {
    2u32.to_le_bytes().to_vec()
}

/// Numbers, one after another, low byte first.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Fields {
        self.0.extend(bytes);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Fields {
        self.bytes(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Fields {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Fields {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Fields {
        self.bytes(&value.to_le_bytes())
    }

    /// A generic address: space (1 is ports), bits, offset, width of access, address.
    fn register(&mut self, space: u8, bits: u8, address: u32) -> &mut Fields {
        self.u8(space).u8(bits).u16(0).u64(address.into())
    }

    /// The address of a register that is not there.
    fn nowhere(&mut self) -> &mut Fields {
        self.register(0, 0, 0)
    }
}

/// Where OVMF puts the power management registers.
const PM_EVENT: u32 = 0x600;
const PM_CONTROL: u32 = 0x604;
const PM_TIMER: u32 = 0x608;
const GENERAL_EVENT: u32 = 0x620;
