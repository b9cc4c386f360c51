//! SMBIOS as QEMU makes it, without a QEMU.
//!
//! **What it is.** The contents of fw_cfg's `etc/smbios/smbios-tables` for a q35 machine, as a function of machine type, processor,
//! number of vCPUs and memory (QEMU's `hw/smbios/smbios.c` and `hw/i386/fw_cfg.c`). Devices, accelerator and the version of
//! QEMU change nothing but the machine type's name. Firmware measures a part of it; see [`crate`].
//!
//! **Promises.** It answers only within what was compared with QEMU's own files (`measurements/predict/tests/it/smbios.rs`).
//!
//! **Lacks.** What `-smbios` options change; several sockets; more processors than were compared.

pub(crate) mod measured;

use crate::acpi::Qemu;

/// A machine, as far as SMBIOS shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmbiosMachine<'a> {
    /// The full name of the machine type, for example `pc-q35-10.0`: what `-machine q35` stands for, see [`q35_of`].
    pub machine_type: &'a str,
    /// The processor's names for itself.
    pub processor: ProcessorId,
    /// Processors that there can be, in one socket.
    pub vcpus_max: u32,
    /// Memory.
    pub memory_mib: u64,
}

/// What the first vCPU answers to CPUID leaf 1. With `-cpu host` it is the host's, so that a trust domain's RTMR0 tells one
/// processor model from another where SMBIOS is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorId {
    /// EAX: family, model, stepping.
    pub signature: u32,
    /// EDX: features. Bit 28 (HTT) is set by QEMU if there can be more than one vCPU, and is not read here.
    pub features: u32,
}

/// Why there are no structures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SmbiosMachineError {
    #[error(
        "SMBIOS of a machine with {0} was never compared with QEMU's; read etc/smbios/smbios-tables from QEMU"
    )]
    Unproven(&'static str),
    #[error("there is no machine with {0}")]
    Impossible(&'static str),
    #[error("{got:?} is no machine type from pc-q35-8.2 to pc-q35-11.1")]
    MachineType { got: String },
}

/// What `-machine q35` means to a version of QEMU.
pub fn q35_of(qemu: Qemu) -> &'static str {
    match qemu {
        Qemu::V9_2_1 => "pc-q35-9.2",
        Qemu::V10_0_13 => "pc-q35-10.0",
        Qemu::V10_1_0 => "pc-q35-10.1",
        Qemu::V10_2_1 => "pc-q35-10.2",
        Qemu::V11_1_3 => "pc-q35-11.1",
    }
}

/// The bytes of `etc/smbios/smbios-tables`.
pub fn smbios_tables(machine: &SmbiosMachine<'_>) -> Result<Vec<u8>, SmbiosMachineError> {
    let device_mib = machine.device_mib()?;
    machine.check()?;
    let mut tables = Vec::new();
    tables.extend(system(machine));
    tables.extend(chassis(machine));
    tables.extend(processor(machine));
    let devices = machine.memory_mib.div_ceil(device_mib);
    tables.extend(memory_array(machine.memory_mib, devices));
    for device in 0..devices {
        let mib = device_mib.min(machine.memory_mib - device * device_mib);
        tables.extend(memory_device(device, mib));
    }
    for (index, (start, bytes)) in machine.areas().into_iter().enumerate() {
        tables.extend(memory_area(index as u16, start, bytes));
    }
    // System boot information: no errors.
    tables.extend(structure(32, 0x2000, &[0; 7], &[]));
    tables.extend(structure(127, 0x7f00, &[], &[]));
    Ok(tables)
}

impl SmbiosMachine<'_> {
    /// Into what size QEMU cuts memory: types before 9.1 into 16 GiB, later ones not at all.
    fn device_mib(&self) -> Result<u64, SmbiosMachineError> {
        let version = self.machine_type.strip_prefix("pc-q35-");
        match version {
            Some("8.2" | "9.0") => Ok(16 << 10),
            Some("9.1" | "9.2" | "10.0" | "10.1" | "10.2" | "11.0" | "11.1") => Ok(2047 << 20),
            _ => Err(SmbiosMachineError::MachineType {
                got: self
                    .machine_type
                    .chars()
                    .take(MACHINE_TYPE_CHARACTERS_MAX)
                    .collect(),
            }),
        }
    }

    fn check(&self) -> Result<(), SmbiosMachineError> {
        if self.vcpus_max == 0 {
            return Err(SmbiosMachineError::Impossible("no processor"));
        }
        if self.memory_mib == 0 {
            return Err(SmbiosMachineError::Impossible("no memory"));
        }
        if self.vcpus_max > VCPUS_MAX {
            return Err(SmbiosMachineError::Unproven("more than 200 processors"));
        }
        if self.memory_mib > MEMORY_MIB_MAX {
            return Err(SmbiosMachineError::Unproven("more than 512 GiB of memory"));
        }
        Ok(())
    }

    /// Ranges of memory, start and length in bytes, as QEMU's q35 cuts them at 4 GiB.
    fn areas(&self) -> Vec<(u64, u64)> {
        let memory = self.memory_mib << 20;
        if memory < LOW_MEMORY_ALL {
            return vec![(0, memory)];
        }
        let high = (FOUR_GIB, memory - LOW_MEMORY_SPLIT);
        vec![(0, LOW_MEMORY_SPLIT), high]
    }
}

fn system(machine: &SmbiosMachine<'_>) -> Vec<u8> {
    let mut fields = vec![1, 2, 3, 0];
    fields.extend([0; 16]); // UUID
    fields.extend([6, 0, 0]); // woken by its switch
    let strings = [
        "QEMU",
        "Standard PC (Q35 + ICH9, 2009)",
        machine.machine_type,
    ];
    structure(1, 0x100, &fields, &strings)
}

fn chassis(machine: &SmbiosMachine<'_>) -> Vec<u8> {
    let mut fields = vec![1, 1, 2, 0, 0]; // of kind "other"
    fields.extend([3, 3, 3, 2]); // all safe; security unknown
    fields.extend([0; 9]);
    structure(3, 0x300, &fields, &["QEMU", machine.machine_type])
}

fn processor(machine: &SmbiosMachine<'_>) -> Vec<u8> {
    let ProcessorId {
        signature,
        features,
    } = machine.processor;
    let hyper_threading = if machine.vcpus_max > 1 { HTT } else { 0 };
    // Checked to be at most 200.
    let cores = machine.vcpus_max as u8;
    let mut fields = vec![1, 3, 0xfe, 2]; // socket, a CPU, family below, manufacturer
    fields.extend(signature.to_le_bytes());
    fields.extend((features & !HTT | hyper_threading).to_le_bytes());
    fields.extend([3, 0]); // version; voltage
    fields.extend(0u16.to_le_bytes()); // clock
    fields.extend(2000u16.to_le_bytes()); // MHz at most
    fields.extend(2000u16.to_le_bytes()); // MHz now
    fields.extend([0x41, 1]); // populated and enabled; upgrade "other"
    fields.extend([0xff; 6]); // no caches
    fields.extend([0, 0, 0]); // serial number, asset tag, part number
    fields.extend([cores; 3]); // cores, enabled ones, threads
    fields.extend(2u16.to_le_bytes()); // characteristics unknown
    fields.extend(1u16.to_le_bytes()); // family "other"
    if machine.machine_type == WITH_64_BIT_ENTRY_POINT {
        fields.extend([cores, 0].repeat(3)); // the three numbers in the longer form
    }
    structure(4, 0x400, &fields, &["CPU 0", "QEMU", machine.machine_type])
}

fn memory_array(memory_mib: u64, devices: u64) -> Vec<u8> {
    let mut fields = vec![1, 3, 6]; // elsewhere; system memory; multi-bit error correction
    fields.extend(((memory_mib << 10) as u32).to_le_bytes()); // KiB, less than 2^31 as checked
    fields.extend(NO_HANDLE.to_le_bytes());
    fields.extend((devices as u16).to_le_bytes());
    fields.extend([0; 8]); // capacity once more
    structure(16, MEMORY_ARRAY, &fields, &[])
}

fn memory_device(index: u64, mib: u64) -> Vec<u8> {
    let (short, long) = if mib < DEVICE_MIB_SHORT {
        (mib, 0)
    } else {
        (DEVICE_MIB_SHORT, mib)
    };
    let mut fields = MEMORY_ARRAY.to_le_bytes().to_vec();
    fields.extend(NO_HANDLE.to_le_bytes());
    fields.extend([0xff; 4]); // widths unknown
    fields.extend((short as u16).to_le_bytes());
    fields.extend([9, 0, 1, 0, 7]); // a DIMM, in no set; place; RAM
    fields.extend(2u16.to_le_bytes()); // of kind "other"
    fields.extend(0u16.to_le_bytes()); // speed
    fields.extend([2, 0, 0, 0, 0]); // manufacturer; serial number, asset tag, part number; attributes
    fields.extend((long as u32).to_le_bytes());
    fields.extend([0; 8]); // speed and voltages
    let place = format!("DIMM {index}");
    structure(17, 0x1100 + index as u16, &fields, &[&place, "QEMU"])
}

fn memory_area(index: u16, start: u64, bytes: u64) -> Vec<u8> {
    let kib = |address: u64| ((address >> 10) as u32).to_le_bytes();
    let mut fields = kib(start).to_vec();
    fields.extend(kib(start + bytes - 1));
    fields.extend(MEMORY_ARRAY.to_le_bytes());
    fields.push(1); // devices in a row
    fields.extend([0; 16]); // addresses once more
    structure(19, 0x1300 + index, &fields, &[])
}

/// u8 type, u8 length, u16 handle, fields, strings with a final zero each, and one zero more; two where no string is.
fn structure(kind: u8, handle: u16, fields: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut bytes = vec![kind, 4 + fields.len() as u8];
    bytes.extend(handle.to_le_bytes());
    bytes.extend(fields);
    for string in strings {
        bytes.extend(string.bytes().chain([0]));
    }
    if strings.is_empty() {
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// Later types take the 64-bit entry point only where they must.
const WITH_64_BIT_ENTRY_POINT: &str = "pc-q35-8.2";
const VCPUS_MAX: u32 = 200;
const MEMORY_MIB_MAX: u64 = 512 * 1024;
const MACHINE_TYPE_CHARACTERS_MAX: usize = 32;
/// The bit of CPUID leaf 1, EDX, that says there is more than one logical processor.
const HTT: u32 = 1 << 28;
const MEMORY_ARRAY: u16 = 0x1000;
const NO_HANDLE: u16 = 0xfffe;
/// What a device says that has too many MiB for 15 bits.
const DEVICE_MIB_SHORT: u64 = 0x7fff;
/// QEMU's q35 keeps all memory below 4 GiB if there is less than this, and otherwise the next number of bytes.
const LOW_MEMORY_ALL: u64 = 0xb000_0000;
const LOW_MEMORY_SPLIT: u64 = 0x8000_0000;
const FOUR_GIB: u64 = 1 << 32;
