//! The exact machine of a guest, as arguments of QEMU.
//!
//! Everything that a register depends on is here and nowhere else: machine type, memory, vCPUs, devices and their slots.
//! Who launches a guest and who predicts its registers use the same list, so they cannot drift apart. What stands behind
//! a device (a file, a socket) is a [`Backends`] and changes no register.

use std::collections::BTreeMap;

use attest::Profile;
use serde::{Deserialize, Serialize};

use crate::acpi::{AddressWidth, Qemu, Serial, Shape, Slot};

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's own translator. Nothing is protected.
    Tcg,
    /// The host's KVM, without TDX. Nothing is protected.
    Kvm,
    /// A trust domain. Not run on hardware by us yet.
    Tdx,
}

/// The machine, in the two numbers that a provider chooses; the rest is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSize {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// What stands behind the machine's devices. Paths are as QEMU sees them.
#[derive(Clone, Copy, Debug)]
pub struct Backends<'a> {
    /// The firmware.
    pub firmware: &'a str,
    /// Kernel, initrd and command line; without them the firmware is alone.
    pub boot: Option<Boot<'a>>,
    /// The root image on the disk; without it the disk is there and reads as zeros.
    pub root: Option<&'a str>,
    /// The volume of a model on the second disk, which every machine has too, so that no register tells which model is there: that
    /// is in the guest's configuration.
    pub model: Option<&'a str>,
    /// The guest's only connection.
    pub vsock: Vsock<'a>,
    /// The host's address of a GPU that is passed to the guest: `0000:17:00.0`. Unverified on hardware.
    pub gpu: Option<&'a str>,
    /// The control socket of a software TPM. Only simulated machines have one: its log stands in for TDX's registers.
    pub tpm: Option<&'a str>,
    /// A file for the serial port, which every machine has; without it what is written there is lost.
    pub serial: Option<&'a str>,
    /// Sockets that QEMU listens on for QMP; each serves one program at a time.
    pub qmp: &'a [&'a str],
}

/// What the firmware starts.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The kernel.
    pub kernel: &'a str,
    /// The initrd.
    pub initrd: Option<&'a str>,
    /// The command line.
    pub cmdline: &'a str,
}

/// Behind the vsock device. The three look the same to ACPI.
#[derive(Clone, Copy, Debug)]
pub enum Vsock<'a> {
    /// The socket of a vhost-user process.
    VhostUser(&'a str),
    /// The host kernel's vhost-vsock, with this guest number.
    Kernel(u32),
    /// Another virtio device in its place, for machines that are only looked at.
    StandIn,
}

/// The arguments, without the name of the program.
pub fn qemu_arguments(
    size: MachineSize,
    accelerator: Accelerator,
    backends: &Backends,
) -> Vec<String> {
    let mut line = Line(Vec::new());
    line.flags("-nodefaults -no-user-config -no-reboot -display none -vga none");
    processor(&mut line, size, accelerator);
    memory(&mut line, size, accelerator);
    line.option("-bios", backends.firmware);
    if let Some(boot) = &backends.boot {
        line.option("-kernel", boot.kernel);
        line.0.extend(
            boot.initrd
                .into_iter()
                .flat_map(|initrd| ["-initrd".into(), initrd.into()]),
        );
        line.option("-append", boot.cmdline);
    }
    devices(&mut line, accelerator, backends);
    for socket in backends.qmp {
        line.option(
            "-qmp",
            format!("unix:{},server=on,wait=off", escaped(socket)),
        );
    }
    line.0
}

/// The same machine as its ACPI tables show it, for who predicts them. Only a machine with a TPM has the table of one.
pub fn guest_shape(size: MachineSize, qemu: Qemu, tpm: bool) -> Shape {
    Shape {
        smm: false,
        pic: false,
        serial: Serial::Added,
        tpm,
        slots: BTreeMap::from([2, 3, MODEL_SLOT].map(|slot| (slot, Slot::Virtio))),
        address_width: AddressWidth::Bits46,
        ..Shape::new(qemu, size.vcpus, size.memory_mib)
    }
}

/// The machine of an image of this profile, as `host-proxy launch` starts it: a simulated one has a TPM, and one for an H100 has that,
/// alone behind a root port.
pub fn launched_shape(profile: Profile, size: MachineSize, qemu: Qemu) -> Shape {
    let mut shape = guest_shape(size, qemu, profile == Profile::Sim);
    if profile == Profile::H100 {
        shape.slots.insert(GPU_SLOT, H100);
    }
    shape
}

fn processor(line: &mut Line, size: MachineSize, accelerator: Accelerator) {
    match accelerator {
        Accelerator::Tcg => line.option("-accel", "tcg"),
        Accelerator::Kvm | Accelerator::Tdx => line.option("-accel", "kvm"),
    }
    // The firmware places 64-bit BARs by the width of physical addresses, and ACPI says where they are.
    let cpu = match accelerator {
        Accelerator::Tcg | Accelerator::Kvm => "max,phys-bits=46",
        Accelerator::Tdx => "host",
    };
    line.option("-cpu", cpu);
    line.option("-smp", size.vcpus.to_string());
}

fn memory(line: &mut Line, size: MachineSize, accelerator: Accelerator) {
    let mib = size.memory_mib;
    let machine = "q35,kernel-irqchip=split,smm=off,pic=off,memory-backend=mem0";
    line.option("-m", format!("{mib}M"));
    match accelerator {
        Accelerator::Tcg | Accelerator::Kvm => line.option("-machine", machine),
        Accelerator::Tdx => {
            line.option(
                "-machine",
                format!("{machine},confidential-guest-support=tdx0"),
            );
            line.option("-object", TDX_GUEST);
        }
    }
    // Shared, because a vhost-user process reads the queues of its device.
    line.option(
        "-object",
        format!("memory-backend-memfd,id=mem0,size={mib}M,share=on"),
    );
}

fn devices(line: &mut Line, accelerator: Accelerator, backends: &Backends) {
    // A trust domain's devices reach only memory that the guest shares with them on purpose.
    let dma = match accelerator {
        Accelerator::Tdx => ",iommu_platform=on",
        Accelerator::Tcg | Accelerator::Kvm => "",
    };
    let pci = format!("romfile=,disable-legacy=on{dma}");
    disk(line, "root", 2, backends.root, &pci);
    disk(line, "model", MODEL_SLOT, backends.model, &pci);
    match backends.vsock {
        Vsock::VhostUser(socket) => {
            line.option(
                "-chardev",
                format!("socket,id=vsock0,path={}", escaped(socket)),
            );
            line.option(
                "-device",
                format!("vhost-user-vsock-pci,chardev=vsock0,addr=0x3,{pci}"),
            );
        }
        Vsock::Kernel(cid) => {
            line.option(
                "-device",
                format!("vhost-vsock-pci,guest-cid={cid},addr=0x3,{pci}"),
            );
        }
        Vsock::StandIn => line.option("-device", format!("virtio-rng-pci,addr=0x3,{pci}")),
    }
    if let Some(gpu) = backends.gpu {
        // By iommufd, which a trust domain's private memory needs. No X-PciMmio64Mb: OVMF's window is an eighth of the addresses, and that
        // option would move it to where no table was compared.
        line.option("-object", "iommufd,id=iommufd0");
        line.option(
            "-device",
            format!("pcie-root-port,id=gpu0,bus=pcie.0,chassis=0,addr={GPU_SLOT:#x}"),
        );
        line.option(
            "-device",
            format!("vfio-pci,host={gpu},bus=gpu0,iommufd=iommufd0,romfile="),
        );
    }
    let serial = match backends.serial {
        Some(path) => format!("file,id=serial0,path={}", escaped(path)),
        None => "null,id=serial0".into(),
    };
    line.option("-chardev", serial);
    line.option("-device", "isa-serial,chardev=serial0");
    if let Some(socket) = backends.tpm {
        line.option(
            "-chardev",
            format!("socket,id=tpm0,path={}", escaped(socket)),
        );
        line.option("-tpmdev", "emulator,id=tpm0,chardev=tpm0");
        line.option("-device", "tpm-crb,tpmdev=tpm0");
    }
}

/// A disk that the guest cannot write to.
fn disk(line: &mut Line, name: &str, slot: u8, file: Option<&str>, pci: &str) {
    let behind = match file {
        Some(path) => format!(
            "driver=file,filename={},node-name={name},read-only=on,locking=off",
            escaped(path)
        ),
        None => format!("driver=null-co,node-name={name},size=1048576,read-zeroes=on,read-only=on"),
    };
    line.option("-blockdev", behind);
    line.option(
        "-device",
        format!("virtio-blk-pci,drive={name},addr={slot:#x},{pci}"),
    );
}

struct Line(Vec<String>);

impl Line {
    fn flags(&mut self, flags: &str) {
        self.0.extend(flags.split(' ').map(str::to_owned));
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.extend([name.into(), value.into()]);
    }
}

/// QEMU splits option values at commas; a doubled comma is one that it keeps.
fn escaped(path: &str) -> String {
    path.replace(',', ",,")
}

/// The BARs of an H100, all of them 64-bit and prefetchable: 128 GiB, 32 MiB and 16 MiB. Its SR-IOV BARs are none: QEMU's
/// `hw/vfio/pci.c` hides that capability from the guest.
const H100: Slot = Slot::PortWith {
    bar_gib: 128,
    more_mib: 48,
};
const GPU_SLOT: u8 = 4;
/// Of the disk for a model: behind those of eight GPUs.
const MODEL_SLOT: u8 = 12;
/// The quoting service of a TDX host listens on vsock port 4050 (Intel's QGS, its default).
const TDX_GUEST: &str = r#"{"qom-type":"tdx-guest","id":"tdx0","quote-generation-socket":{"type":"vsock","cid":"2","port":"4050"}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::acpi_files;

    const SIZE: MachineSize = MachineSize {
        vcpus: 2,
        memory_mib: 2048,
    };

    fn backends() -> Backends<'static> {
        Backends {
            firmware: "/image/firmware.fd",
            boot: Some(Boot {
                kernel: "/image/kernel",
                initrd: Some("/image/initrd"),
                cmdline: "panic=-1",
            }),
            root: Some("/a,b/root.img"),
            model: Some("/models/one.img"),
            vsock: Vsock::VhostUser("/run/vhost.sock"),
            gpu: None,
            tpm: Some("/run/tpm.sock"),
            serial: None,
            qmp: &[],
        }
    }

    /// Values of `-device`, without what stands behind them.
    fn slots(arguments: &[String]) -> Vec<&str> {
        let values = arguments.windows(2).filter(|pair| pair[0] == "-device");
        values
            .map(|pair| pair[1].split("addr=").nth(1).unwrap_or(&pair[1]))
            .map(|value| value.split(',').next().unwrap_or(value))
            .collect()
    }

    #[test]
    fn what_stands_behind_a_device_moves_no_device() {
        let real = qemu_arguments(SIZE, Accelerator::Tcg, &backends());
        let looked_at = Backends {
            boot: None,
            root: None,
            model: None,
            vsock: Vsock::StandIn,
            ..backends()
        };
        let looked_at = qemu_arguments(SIZE, Accelerator::Tcg, &looked_at);
        assert_eq!(slots(&real), ["0x2", "0xc", "0x3", "isa-serial", "tpm-crb"]);
        assert_eq!(slots(&real), slots(&looked_at));
    }

    #[test]
    fn the_machine_with_a_gpu_is_the_one_whose_tables_are_made() {
        let with = Backends {
            tpm: None,
            gpu: Some("0000:17:00.0"),
            ..backends()
        };
        let arguments = qemu_arguments(SIZE, Accelerator::Tdx, &with);
        let mut read = Shape::from_arguments(Qemu::V11_1_3, &arguments).expect("a machine");
        // A command line says that something is passed, and not how large its BARs are.
        let passed = read.slots.insert(GPU_SLOT, H100);
        assert_eq!(passed, Some(Slot::PortWithPassed { reserved_gib: 0 }));
        assert_eq!(read, launched_shape(Profile::H100, SIZE, Qemu::V11_1_3));
        for qemu in [Qemu::V10_0_13, Qemu::V11_1_3] {
            let size = MachineSize {
                vcpus: 16,
                memory_mib: 131_072,
            };
            let shape = launched_shape(Profile::H100, size, qemu);
            acpi_files(&shape).expect("tables were compared of a stand-in with its BARs");
        }
        // Without it nothing of it is there, and nothing else moves.
        let without = Backends { gpu: None, ..with };
        let without = qemu_arguments(SIZE, Accelerator::Tdx, &without);
        let more: Vec<_> = arguments
            .iter()
            .filter(|word| !without.contains(word))
            .collect();
        assert_eq!(
            more,
            [
                "iommufd,id=iommufd0",
                "pcie-root-port,id=gpu0,bus=pcie.0,chassis=0,addr=0x4",
                "vfio-pci,host=0000:17:00.0,bus=gpu0,iommufd=iommufd0,romfile="
            ]
        );
    }

    #[test]
    fn a_comma_in_a_path_adds_no_option() {
        let arguments = qemu_arguments(SIZE, Accelerator::Tcg, &backends());
        assert!(
            arguments
                .iter()
                .any(|a| a.contains("filename=/a,,b/root.img,node-name"))
        );
    }

    #[test]
    fn only_a_trust_domain_is_told_to_be_one() {
        let has = |accelerator| {
            let arguments = qemu_arguments(SIZE, accelerator, &backends());
            arguments.iter().any(|a| a.contains("tdx-guest"))
        };
        assert!(has(Accelerator::Tdx) && !has(Accelerator::Kvm) && !has(Accelerator::Tcg));
    }
}
