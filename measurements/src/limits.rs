//! How much of anything a stranger may send before it is refused unread.

/// A quote. Real TDX quotes of versions 4 and 5 are about 5 KiB.
pub const QUOTE_BYTES_MAX: usize = 16 * 1024;
/// Zero padding after the signature data; the kernel hands out a fixed buffer and real quotes carry about 70 bytes.
pub const QUOTE_PADDING_BYTES_MAX: usize = 8 * 1024;
/// A manifest as JSON.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Events in the RTMR3 list of a manifest.
pub const MANIFEST_EVENTS_MAX: usize = 64;
/// The name of one event.
pub const EVENT_NAME_BYTES_MAX: usize = 64;
/// The note of a manifest.
pub const MANIFEST_NOTE_BYTES_MAX: usize = 1024;
/// Collateral as JSON. Intel's is about 20 KiB; revocation lists may grow.
pub const COLLATERAL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A policy as JSON.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;
/// Guests that one policy lists.
pub const POLICY_REGISTERS_MAX: usize = 256;
/// Advisories that one policy names.
pub const POLICY_ADVISORIES_MAX: usize = 256;
/// The name of an advisory. Intel's have 14.
pub const ADVISORY_BYTES_MAX: usize = 64;
/// Days of grace that a policy file may grant: ten years, which is no grace any more.
pub const POLICY_GRACE_DAYS_MAX: usize = 3653;
/// A root certificate, PEM or DER.
pub const ROOT_BYTES_MAX: usize = 4 * 1024;

/// A firmware file. OVMF has 4 MiB.
pub const FIRMWARE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Sections in a firmware's TDVF metadata. OVMF has six.
pub const TDVF_SECTIONS_MAX: usize = 32;
/// Memory that the host adds for those sections before the guest starts; every page of it costs work.
pub const TDVF_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
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

/// A set of machines as JSON, where one machine takes some 220 bytes.
pub const MACHINE_SET_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Machines of one set.
pub const MACHINE_SET_MACHINES_MAX: usize = 4096;

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

/// An event log as firmware writes it. Areas of real guests have 64 KiB and 256 KiB.
pub const EVENT_LOG_BYTES_MAX: usize = 2 * 1024 * 1024;
/// An event log as JSON, where data takes two characters a byte.
pub const EVENT_LOG_JSON_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Events of one log. A boot through GRUB has about fifty.
pub const EVENT_LOG_EVENTS_MAX: usize = 4096;
/// Hash algorithms of one log. TPMs have up to four.
pub const EVENT_LOG_ALGORITHMS_MAX: u32 = 8;
/// One digest of a log: SHA-512 has 64 bytes.
pub const EVENT_LOG_DIGEST_BYTES_MAX: usize = 64;
/// The data of one event. Lists of revoked programs are the longest, with some 25 KiB.
pub const EVENT_DATA_BYTES_MAX: usize = 256 * 1024;
/// The name of a runtime event.
pub const EVENT_LOG_NAME_BYTES_MAX: usize = 1024;
/// Words about one event.
pub const EVENT_DESCRIPTION_CHARACTERS_MAX: usize = 240;
/// Nodes of a device path, partitions of a disk or tables that are shown.
pub const EVENT_PATH_NODES_MAX: usize = 32;

/// A report of a GPU. Real ones have up to 4274 bytes.
pub const GPU_REPORT_BYTES_MAX: usize = 16 * 1024;
/// The certificates of a GPU as text. Real ones have 5 KiB.
pub const GPU_CHAIN_BYTES_MAX: usize = 32 * 1024;
/// Certificates in such a text. A GPU has five.
pub const GPU_CHAIN_CERTIFICATES_MAX: usize = 8;
/// One certificate. Those of GPUs and RIMs have up to 900 bytes.
pub const GPU_CERTIFICATE_BYTES_MAX: usize = 4 * 1024;
/// Extensions of one certificate.
pub const GPU_CERTIFICATE_EXTENSIONS_MAX: usize = 24;
/// A name, version or label of a GPU or a RIM.
pub const GPU_TEXT_BYTES_MAX: usize = 128;
/// The evidence of a machine's GPUs as JSON, 13 KiB for each.
pub const GPU_BUNDLE_BYTES_MAX: usize = 512 * 1024;
/// GPUs of one machine. There are eight on a board.
pub const GPUS_MAX: usize = 16;
/// A RIM. Real ones have 21 KiB. XML costs more than its length where attributes are many, so not much more.
pub const GPU_RIM_BYTES_MAX: usize = 64 * 1024;
/// Elements and texts of a RIM. Real ones have 160.
pub const GPU_RIM_NODES_MAX: u32 = 2048;
/// Namespace declarations of a RIM. Real ones have six.
pub const GPU_RIM_NAMESPACES_MAX: usize = 32;
/// How deep the elements of a RIM are nested. Real ones have six levels.
pub const GPU_RIM_DEPTH_MAX: usize = 16;
/// Certificates in a RIM. Real ones have four.
pub const GPU_RIM_CERTIFICATES_MAX: usize = 6;
/// RIMs that are given at once.
pub const GPU_RIMS_MAX: usize = 256;
/// One OCSP response.
pub const GPU_OCSP_BYTES_MAX: usize = 16 * 1024;
/// OCSP responses that are given at once.
pub const GPU_OCSP_RESPONSES_MAX: usize = 64;
/// Answers in one response. A question has one.
pub const GPU_OCSP_ANSWERS_MAX: usize = 16;
/// Certificates that come with a response.
pub const GPU_OCSP_CERTIFICATES_MAX: usize = 4;

/// A bundle. One with four GPUs and their RIMs has some 200 KiB.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Event logs of one bundle. A guest has the firmware's and the application's.
pub const BUNDLE_EVENT_LOGS_MAX: usize = 4;
/// RIMs of one bundle: two for each GPU, and as many again that are passed over.
pub const BUNDLE_RIMS_MAX: usize = 4 * GPUS_MAX;
/// Registers that are computed again to explain one that differs. With the ACPI tables of a machine, one takes under a
/// millisecond.
pub const EXPLAIN_RECOMPUTATIONS_MAX: u32 = 4096;
/// Manifests that one explanation takes.
pub const EXPLAIN_MANIFESTS_MAX: usize = 8;
