//! Settings that QEMU hands over through fw_cfg, and that firmware from edk2-stable202505 on measures before it uses them
//! (OvmfPkg's `QemuFwCfgLib`). Each that exists is one event; its name is not measured.

/// The settings that a machine can have without options that this program has no shape for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FwCfg<'a> {
    /// `bootorder`: QEMU's names of what has a boot index, each with a final zero. Empty if nothing has one.
    pub boot_order: &'a [u8],
    /// `opt/ovmf/X-PciMmio64Mb`: how many MiB of addresses OVMF keeps for large BARs, as the command line has it. Machines
    /// with passed-through GPUs have it.
    pub pci_mmio64_mib: Option<&'a str>,
}

impl<'a> FwCfg<'a> {
    /// A direct boot of a machine on which no device has a boot index: QEMU's own loader has the first.
    pub const DIRECT_BOOT: FwCfg<'static> = FwCfg {
        boot_order: b"/rom@genroms/linuxboot_dma.bin\0",
        pci_mmio64_mib: None,
    };

    /// What is measured, in order, with a name for people. `etc/extra-pci-roots`, `etc/boot-menu-wait` and
    /// `etc/reserved-memory-end` would be measured too; they come from options that give a machine no shape.
    pub(super) fn measured(&self) -> impl Iterator<Item = (&'static str, &'a [u8])> + use<'a> {
        // No -boot menu=on.
        const MENU_OFF: &[u8] = &[0, 0];
        let mmio = self.pci_mmio64_mib.map(str::as_bytes);
        [
            ("fw_cfg BootMenu", Some(MENU_OFF)),
            ("fw_cfg opt/ovmf/X-PciMmio64Mb", mmio),
            ("fw_cfg bootorder", Some(self.boot_order)),
        ]
        .into_iter()
        .filter_map(|(name, data)| data.map(|data| (name, data)))
        .filter(|(_, data)| !data.is_empty())
    }
}
