//! Limits of what is read, and numbers of attempts.

/// The kernel command line. The kernel itself takes 2048 bytes on x86.
pub const COMMAND_LINE_BYTES_MAX: usize = 4096;
/// Blocks of 4096 bytes on the root: one tebibyte.
pub const DATA_BLOCKS_MAX: u64 = 1 << 28;
/// Files in `/modules`.
pub const MODULES_MAX: usize = 64;
/// What is read of one of them to find what it needs: NVIDIA's largest has about 60 MB.
pub const MODULE_BYTES_MAX: u64 = 128 << 20;
/// The name of one of them.
pub const MODULE_NAME_BYTES_MAX: usize = 64;
/// The name of a clock: CS_NAME_LEN of the kernel is 32.
pub const CLOCK_BYTES_MAX: usize = 64;
/// The file `/devices`.
pub const DEVICES_BYTES_MAX: usize = 4096;
/// Drivers in it.
pub const DRIVERS_MAX: usize = 32;
/// Devices of one driver. A machine has at most eight GPUs and four switches.
pub const DEVICES_MAX: usize = 16;
/// The file `/start`.
pub const START_BYTES_MAX: usize = 4096;
/// Arguments in it.
pub const START_ARGUMENTS_MAX: usize = 32;
/// Checks for the disk, one every [`PAUSE_MS`]. Counted, because the host controls the guest's clock, which runs several
/// times too fast in an emulated machine: these take between ten seconds and a minute.
pub const DISK_TRIES: u32 = 1200;
/// Attempts to reach the host's vsock port. The kernel gives up each after two seconds of the guest's clock.
pub const CONNECT_TRIES: u32 = 40;
/// The pause between two attempts.
pub const PAUSE_MS: u64 = 50;
/// The most that the test guest may be asked to send.
pub const STREAM_BYTES_MAX: u64 = 4 << 30;
/// One write to a vsock stream. Writes of 64 KiB were seen to stall `vhost-device-vsock` 0.3.0; 16 KiB never did.
pub const WRITE_BYTES_MAX: usize = 16 * 1024;
