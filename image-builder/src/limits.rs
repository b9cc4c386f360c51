//! Limits of the builder, each with the reason for its value.

use std::time::Duration;

/// A lock is written by hand and reviewed; 64 KiB holds some two hundred models.
pub const LOCK_BYTES_MAX: u64 = 64 * 1024;
/// Models in one lock.
pub const MODELS_MAX: usize = 256;
/// Files taken from one archive. A sharded 70B model has about forty.
pub const FILES_PER_MODEL_MAX: usize = 256;
/// One archive or file: 64 GiB, above any single shard in use and far below a disk.
pub const FILE_BYTES_MAX: u64 = 64 << 30;
/// A name in the lock: the shortest limit among common file systems, less room for our suffixes.
pub const NAME_BYTES_MAX: usize = 200;
/// A path in the lock, of an archive on a mirror or a member in an archive.
pub const PATH_BYTES_MAX: usize = 1024;
/// How often a download that makes progress is resumed after the connection breaks.
pub const RESUMES_MAX: u32 = 4;
/// Bytes read and written at a time.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// To reach the mirror.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the mirror's first byte. A caching mirror may fetch a whole file itself before it answers.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(180);
/// Between two reads of a body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A recipe is a page that people write.
pub const RECIPE_BYTES_MAX: u64 = 64 * 1024;
/// Names in one list of a recipe: packages, modules, models, words of the command line.
pub const RECIPE_LIST_MAX: usize = 64;
/// The kernel's own limit on its command line (x86: `COMMAND_LINE_SIZE`), less room for the root's hash that the builder appends.
pub const CMDLINE_BYTES_MAX: usize = 2048 - 256;
/// Processors of a machine that an image is measured for.
pub const VCPUS_MAX: u32 = 512;
/// Memory of such a machine, 16 TiB.
pub const MEMORY_MIB_MAX: u32 = 16 << 20;

/// A package lock: 140 packages take 40 KiB.
pub const PACKAGE_LOCK_BYTES_MAX: u64 = 4 << 20;
/// Packages in one lock. The closure of a desktop has three thousand.
pub const PACKAGES_MAX: usize = 4096;
/// Packages that a solver holds at a version other than the preferred one. Each makes it begin again.
pub const HELD_PACKAGES_MAX: usize = 64;
/// One `.deb` of a lock. Trixie's largest has 3.2 GB and is a game's; a compiler has 40 MB.
pub const PACKAGE_BYTES_MAX: u64 = 2 << 30;
/// `InRelease` of a suite: 140 KB for trixie.
pub const RELEASE_BYTES_MAX: u64 = 4 << 20;
/// The block of signatures of an `InRelease`: three of them have 1.6 KB.
pub const SIGNATURE_BYTES_MAX: usize = 64 << 10;
/// Signatures of one `InRelease`. Debian's have up to four, while keys change.
pub const SIGNATURES_MAX: usize = 16;
/// One certificate that may sign a suite: Debian's have 12 KB, most of it signatures of its keepers.
pub const CERTIFICATE_BYTES_MAX: usize = 256 << 10;
/// How far the clock of who signs a suite may be ahead of ours.
pub const CLOCK_SKEW_S_MAX: i64 = 60;
/// `Packages.xz` as it is downloaded: 9.7 MB for trixie's main.
pub const INDEX_BYTES_MAX: u64 = 64 << 20;
/// The same unpacked: 57 MB. More is a bomb.
pub const INDEX_UNPACKED_BYTES_MAX: u64 = 512 << 20;
/// Paragraphs of an index: trixie's main has 69 thousand.
pub const INDEX_PACKAGES_MAX: usize = 1 << 20;
/// A field of an index that is kept, its continuation lines included: the longest of trixie's main has 76 KB.
pub const INDEX_FIELD_BYTES_MAX: usize = 256 << 10;
/// Packages and alternatives that one field names: the most in trixie's main are 1,603.
pub const RELATIONS_MAX: usize = 4096;
/// Names that the packages of an index provide, in all: trixie's main has 69 thousand.
pub const INDEX_PROVIDES_MAX: usize = 1 << 20;
/// Paragraphs of an index that cannot be read: the lists of third parties have a few. More of them, and the index is something else.
pub const INDEX_ODD_MAX: usize = 4096;
/// One line of an index: the longest of trixie's main has 76 KB, a list of what a package was built with.
pub const INDEX_LINE_BYTES_MAX: usize = 1 << 20;
/// Memory for one xz decoder, in KiB: the dictionary of `xz -9` and some. A header that asks for more is refused.
pub const XZ_MEMORY_KIB_MAX: u32 = 80 * 1024;
/// The window of one zstd decoder, in bytes: the level that dpkg takes, 19, asks for 8 MiB.
pub const ZSTD_WINDOW_BYTES_MAX: u64 = 64 << 20;
/// Members of a `.deb`, which has three.
pub const DEB_MEMBERS_MAX: usize = 16;
/// The data of one `.deb` unpacked, as a tar archive. A kernel has 150 MB, a compiler 200 MB.
pub const DEB_UNPACKED_BYTES_MAX: u64 = 2 << 30;
/// Entries of one `.deb`. Kernel headers have some twenty thousand.
pub const DEB_ENTRIES_MAX: usize = 200_000;
/// A path or a link's target in a `.deb`; `PATH_MAX` is 4096 and the tree itself lies somewhere. Debian's longest have 300.
pub const DEB_PATH_BYTES_MAX: usize = 1024;
/// Parts of such a path. Each may be a directory that is made on the way.
pub const DEB_DEPTH_MAX: usize = 64;
/// One component of such a path: the limit of common file systems.
pub const DEB_COMPONENT_BYTES_MAX: usize = 255;
/// Extended attributes of one entry. Debian's packages have none, and a capability is one.
pub const DEB_ATTRIBUTES_MAX: usize = 16;
/// The value of one of them: a block of the file system.
pub const DEB_ATTRIBUTE_BYTES_MAX: usize = 4096;
/// The extended header that carries them.
pub const DEB_EXTENDED_BYTES_MAX: u64 = 128 << 10;
/// The control archive of a `.deb` unpacked: sums of 20,000 files have 2 MB.
pub const DEB_CONTROL_BYTES_MAX: u64 = 64 << 20;
/// One maintainer script: the longest of a C library's packages has 40 KB.
pub const DEB_SCRIPT_BYTES_MAX: u64 = 1 << 20;
/// Bytes of files in one tree. QEMU with its libraries has 170 MB, a compiler 230 MB.
pub const TREE_BYTES_MAX: u64 = 8 << 30;
/// Entries in one tree, whose paths are in memory while it is made. A compiler's has four thousand.
pub const TREE_ENTRIES_MAX: usize = 1 << 18;
/// Packages unpacked at a time; decoding is what takes the time, and each decoder may take [`XZ_MEMORY_KIB_MAX`]. A root's packages
/// are unpacked beside the tools', so there may be twice as many decoders.
pub const UNPACKERS: usize = 2;

// The kernel of an image.

/// Files and directories of one kernel package. Debian's full kernel has some 5,000.
pub const KERNEL_FILES_MAX: usize = 64 * 1024;
/// Directories below `kernel/`. Debian's go nine deep.
pub const KERNEL_DIRECTORY_DEPTH_MAX: usize = 32;
/// One kernel module, not compressed. The largest of Debian's full kernel (amdgpu) has about 30 MiB.
pub const MODULE_BYTES_MAX: u64 = 128 << 20;
/// How long a chain of modules that need each other may be.
pub const MODULE_DEPTH_MAX: usize = 32;
/// Memory of the decompressor: the kernel's build uses a dictionary of at most 32 MiB (`xz --lzma2=dict=…`).
pub const MODULE_XZ_MEMORY_KIB_MAX: u32 = 64 * 1024;
/// `modules.builtin`: Debian's has 6 KB.
pub const MODULES_BUILTIN_BYTES_MAX: u64 = 1 << 20;

// Kernel modules that are compiled.

/// A text that a recipe has changed in the sources. A page; what is longer is a patch and belongs upstream.
pub const EDIT_BYTES_MAX: usize = 4 * 1024;
/// Files and directories of the sources. NVIDIA's have some 800.
pub const MODULE_SOURCES_MAX: usize = 64 * 1024;
/// `Module.symvers` of a kernel or of modules: Debian's has 1.2 MB.
pub const SYMVERS_BYTES_MAX: u64 = 32 << 20;

/// Files of one wheel. NVIDIA's of CUDA headers have some 2,000.
pub const WHEEL_ENTRIES_MAX: usize = 100_000;
/// The files of one wheel together. NVRTC has 60 MB, a wheel of PyTorch 2 GB.
pub const WHEEL_UNPACKED_BYTES_MAX: u64 = 4 << 30;
/// Libraries that one program or library asks for. Firefox asks for fifty.
pub const LIBRARIES_ASKED_MAX: usize = 1024;

// The root of an image.

/// `list.json` of an unpacked user space: 200 bytes for each of [`TREE_ENTRIES_MAX`] entries, and the scripts.
pub const USERLAND_LIST_BYTES_MAX: u64 = 256 << 20;
/// A file of `ld.so.conf.d`, which names a directory or two.
pub const LOADER_CONFIG_BYTES_MAX: u64 = 64 << 10;
/// `passwd`, `group` or a file of `sysusers.d`.
pub const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;
/// What a failing tool says of itself is kept up to this length.
pub const TOOL_STDERR_BYTES_MAX: u64 = 16 * 1024;
/// Machine code for a GPU. A file of ours has some 50 KiB.
pub const CUBIN_BYTES_MAX: u64 = 16 << 20;
/// The agent, or the first program of the initrd. With CPU kernels for many processors it has some 40 MiB.
pub const PROGRAM_BYTES_MAX: usize = 1 << 30;

/// A unified kernel image. Its sections say where they are in 32 bits, and `measurements` reads no longer ones.
pub const UKI_BYTES_MAX: u64 = 1 << 30;
/// Files of a disk's boot partition. A unified kernel image is by far the largest.
pub const BOOT_PARTITION_BYTES_MAX: u64 = UKI_BYTES_MAX + (64 << 20);

// The second build of a check.

/// What is copied of a checkout: this repository has some 20 MiB.
pub const REPRO_SOURCES_BYTES_MAX: u64 = 1 << 30;

// What is compiled.

/// One file of the sources. The longest that a source includes has 1 MB.
pub const SOURCE_BYTES_MAX: u64 = 64 << 20;
/// Files of the sources: the repository has some 400 of them.
pub const SOURCE_FILES_MAX: usize = 16 * 1024;
/// Directories below a package's `src`.
pub const SOURCE_DIRECTORY_DEPTH_MAX: usize = 32;
/// One archive of a crate. The crate registry takes none above 10 MiB.
pub const CRATE_BYTES_MAX: u64 = 256 << 20;

// Inputs beside Debian's packages.

/// Files of one directory beside a recipe. Sources have thousands.
pub const INPUT_FILES_MAX: usize = 64 * 1024;
/// What PyPI says about a project: the largest have some MB.
pub const PYPI_PAGE_BYTES_MAX: u64 = 32 << 20;

// Provenance of an image.

/// A file with a key: one of OpenSSL's has 119 bytes, and some put words around it.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// A signed statement: with four hundred packages and their purls 120 KiB, a third more in base64.
pub const ENVELOPE_BYTES_MAX: usize = 8 << 20;
/// Signatures of one envelope; a release has one, and each costs a check.
pub const ENVELOPE_SIGNATURES_MAX: usize = 16;
/// Files that a statement lists; an image has some ten.
pub const SUBJECTS_MAX: usize = 64;
/// Inputs that a statement lists: packages, models and what else was locked.
pub const DEPENDENCIES_MAX: usize = 2 * PACKAGES_MAX;
/// A name, URL or version in a statement.
pub const STATEMENT_TEXT_BYTES_MAX: usize = 2048;
/// An SBOM: each of the crates, packages and files takes some 700 bytes of it.
pub const SBOM_BYTES_MAX: usize = 64 << 20;
// A model's volume.

/// Bytes of one model. The largest with open weights have some 700 GB; a verified root may have one TiB.
pub const MODEL_BYTES_MAX: u64 = 1 << 40;
/// Files and directories of one model. The largest have some two hundred.
pub const MODEL_ENTRIES_MAX: u64 = 4096;
/// Directories below each other in a model. Hugging Face's have one or two.
pub const MODEL_DEPTH_MAX: usize = 8;
/// A file of a model that is text: tokenizers have up to 35 MB.
pub const MODEL_TEXT_BYTES_MAX: u64 = 256 << 20;
/// The name of a model: what the wire format has room for.
pub const MODEL_ID_BYTES_MAX: usize = 64;
/// Files and directories inside of one file of an image. A root with a driver and its libraries has some thousands.
pub const INSIDE_ITEMS_MAX: usize = 1 << 18;
/// Names in one directory of a root. A thousand long ones take 64 KiB.
pub const INSIDE_DIRECTORY_BYTES_MAX: u64 = 16 << 20;
/// Differences between two images that are told one by one.
pub const DIFFERENCES_MAX: usize = 200;
