//! How much of each thing an untrusted party may send before it is refused unread.

/// A report of a GPU. Real ones have up to 4274 bytes.
pub const GPU_REPORT_BYTES_MAX: usize = 16 * 1024;
/// The certificates of a GPU as text. Real ones have 5 KiB.
pub const GPU_CHAIN_BYTES_MAX: usize = 32 * 1024;
/// Certificates in such a text. A GPU has five.
pub const GPU_CHAIN_CERTIFICATES_MAX: usize = 8;
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
/// Good signatures that are remembered at once, 32 bytes each; when there is one more, all are forgotten. A GPU with its RIMs has about
/// twenty.
pub const GPU_SIGNATURES_MAX: usize = 4096;
/// One OCSP response.
pub const GPU_OCSP_BYTES_MAX: usize = 16 * 1024;
/// OCSP responses that are given at once.
pub const GPU_OCSP_RESPONSES_MAX: usize = 64;
