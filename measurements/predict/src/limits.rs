//! How much of each thing an untrusted party may send before it is refused unread.

/// A firmware file. OVMF has 4 MiB.
pub const FIRMWARE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Sections in a firmware's TDVF metadata. OVMF has six.
pub const TDVF_SECTIONS_MAX: usize = 32;
/// Memory that the host adds for those sections before the guest starts; every page of it costs work.
pub const TDVF_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What a firmware's volumes may unpack to, all together. OVMF's have 17 MiB.
pub const VOLUMES_UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Sections of them that are packed: each costs the decompressor's memory. OVMF has one or two.
pub const VOLUMES_PACKED_MAX: usize = 16;
/// Memory of the decompressor: OVMF's volumes have a dictionary of 16 MiB.
pub const VOLUMES_DICTIONARY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Files in sections in volumes in files. OVMF has four.
pub const VOLUMES_DEPTH_MAX: usize = 8;
/// A firmware's variable store that holds variables. OVMF's has 528 KiB.
pub const VARIABLE_STORE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Variables in it, deleted ones among them. A store that was used for years has some hundred.
pub const VARIABLES_MAX: usize = 1024;
/// QEMU's SMBIOS structures. A machine has half a KiB of them, and 64 bytes more for each 16 GiB of memory.
pub const SMBIOS_BYTES_MAX: usize = 256 * 1024;
/// Memory of a guest in MiB: 16 TiB.
pub const MEMORY_MIB_MAX: u64 = 16 * 1024 * 1024;
/// A kernel file. Debian's has 12 MiB.
pub const KERNEL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Sections of a kernel file or a unified kernel image. Linux has five, an image some fifteen.
pub const PE_SECTIONS_MAX: usize = 96;
/// A unified kernel image: a kernel, an initrd, and room for the rest.
pub const UKI_BYTES_MAX: usize = KERNEL_BYTES_MAX + INITRD_BYTES_MAX + 16 * 1024 * 1024;
/// How a stub names itself. Debian's takes thirty bytes.
pub const STUB_NAME_BYTES_MAX: usize = 128;
/// A boot loader. Those known have less than 1 MiB.
pub const LOADER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of a partition table. It has 128, used or not.
pub const GPT_ENTRIES_MAX: usize = 1024;
/// The first blocks of a disk, which have its partition table.
pub const DISK_HEAD_BYTES_MAX: usize = 1024 * 1024;
/// An initrd.
pub const INITRD_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// A command line: what remains of the kernel's 2048 bytes after the final zero and the firmware's ` initrd=initrd`.
pub const CMDLINE_BYTES_MAX: usize = 2048 - 1 - 14;
/// QEMU's `etc/table-loader`. It has 4 KiB, and grows in steps of that.
pub const TABLE_LOADER_BYTES_MAX: usize = 64 * 1024;
/// One file that the table loader names. QEMU's `etc/acpi/tables` has 128 KiB.
pub const ACPI_BLOB_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A shape of a machine as JSON. One with every slot taken has 3 KiB.
pub const SHAPE_BYTES_MAX: usize = 16 * 1024;
/// A command line of QEMU. Those of real guests have 1 to 4 KiB.
pub const QEMU_COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Words of such a command line.
pub const QEMU_COMMAND_WORDS_MAX: usize = 1024;
/// An image manifest as JSON. A file inside takes some 250 bytes.
pub const IMAGE_MANIFEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Files, directories, links and devices listed in an image manifest.
pub const IMAGE_CONTENTS_MAX: usize = 16 * 1024;
/// Extended attributes of one of them.
pub const IMAGE_ATTRIBUTES_MAX: usize = 16;
/// The value of one of those. A file's capabilities have 24 bytes at most.
pub const IMAGE_ATTRIBUTE_BYTES_MAX: usize = 256;
/// Packages listed in an image manifest.
pub const IMAGE_PACKAGES_MAX: usize = 4096;
/// Boot events in an image manifest. A direct boot has about twenty.
pub const IMAGE_EVENTS_MAX: usize = 256;
/// A path, version or other text in an image manifest.
pub const IMAGE_TEXT_BYTES_MAX: usize = 512;
/// The name of an image's file.
pub const IMAGE_FILE_NAME_BYTES_MAX: usize = 64;
/// Processors of a guest.
pub const VCPUS_MAX: u32 = 1024;
/// An event log as JSON, where data takes two characters a byte.
pub const EVENT_LOG_JSON_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Events of one log. A boot through GRUB has about fifty.
pub const EVENT_LOG_EVENTS_MAX: usize = 4096;
/// The name of a runtime event.
pub const EVENT_LOG_NAME_BYTES_MAX: usize = 1024;
