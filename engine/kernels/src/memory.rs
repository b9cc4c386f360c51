//! Memory in cache lines: 64 bytes, aligned, so that one vector of 512 bits is one line.

use crate::error::KernelError;

/// 64 aligned bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; Line::BYTES]);

impl Line {
    pub const BYTES: usize = 64;
    pub const ZERO: Line = Line([0; Line::BYTES]);

    /// Its two halves, each sixteen numbers of 16 bits.
    #[inline(always)]
    pub fn halves(&self) -> &[[u8; 32]; 2] {
        match self.0.as_chunks::<32>().0.as_array::<2>() {
            Some(halves) => halves,
            None => &[[0; 32]; 2],
        }
    }
}

/// Lines of zeros, or an error where the memory is not to be had.
pub(crate) fn zeroed(lines: usize) -> Result<Vec<Line>, KernelError> {
    let bytes = lines.saturating_mul(Line::BYTES);
    let mut memory = Vec::new();
    memory
        .try_reserve_exact(lines)
        .map_err(|_| KernelError::Memory { bytes })?;
    memory.resize(lines, Line::ZERO);
    Ok(memory)
}

/// The bytes of lines.
#[expect(
    unsafe_code,
    reason = "the standard library has no safe view of aligned structs as bytes"
)]
pub(crate) fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a `Line` is 64 initialised bytes without padding, and the view lives as long as the borrow.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

/// The bytes of lines, to be written.
#[expect(
    unsafe_code,
    reason = "the standard library has no safe view of aligned structs as bytes"
)]
pub(crate) fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above; the borrow is exclusive, and every pattern of bytes is a `Line`.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

const _: () = assert!(size_of::<Line>() == Line::BYTES && align_of::<Line>() == Line::BYTES);
