//! Limits of what is sent to the socket, and of the files of a boot.

use std::time::Duration;

/// The payload of a request: the largest is report data.
pub const REQUEST_BYTES_MAX: usize = 64;
/// The payload of an answer, for its readers: a quote.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Concurrent connections; each has a thread.
pub const CONNECTIONS_MAX: usize = 32;

/// How long a request waits for the description of the machine to be written.
pub const LAUNCHED_WAIT: Duration = Duration::from_secs(5);
/// The description of the machine: a few paths and a command line.
pub const LAUNCHED_BYTES_MAX: usize = 64 * 1024;
/// A firmware file. OVMF has 4 MiB.
pub const FIRMWARE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Sections in a firmware's metadata. OVMF has six.
pub const FIRMWARE_SECTIONS_MAX: usize = 32;
/// Memory that all those sections describe together; every page of it is hashed.
pub const FIRMWARE_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Memory of a machine in MiB: 16 TiB.
pub const MEMORY_MIB_MAX: u64 = 16 * 1024 * 1024;
/// A kernel file. Debian's has 12 MiB.
pub const KERNEL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Sections of a kernel file. Linux has five.
pub const KERNEL_SECTIONS_MAX: usize = 96;
/// An initrd, which is read as a stream.
pub const INITRD_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The TPM's log. A boot writes 70 KiB; a kernel that asks its TPM for randomness goes on writing.
pub const TPM_LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A line of it. Sixteen bytes as hex make 49 characters; messages are longer.
pub const TPM_LOG_LINE_BYTES_MAX: usize = 4096;
/// A command to the TPM or its answer: swtpm's buffer.
pub const TPM_COMMAND_BYTES_MAX: usize = 4096;
/// Extends in the log. A boot has thirty.
pub const TPM_EXTENDS_MAX: usize = 4096;
