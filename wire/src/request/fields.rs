//! A header is read field by field.

/// The header's fields, one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .expect("the fields together are shorter than the header");
        self.0 = rest;
        *taken
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(super) fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.bytes())
    }
}
