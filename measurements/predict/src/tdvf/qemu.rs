//! Where QEMU does otherwise than the design guide (`hw/i386/tdvf.c` and `target/i386/kvm/tdx.c` of QEMU 10.1 to 11.1, and
//! KVM's `KVM_TDX_INIT_MEM_REGION`). A wrong MRTD would be the result, or a guest that does not start.

use super::{PAGE_BYTES, Pages, Section, SectionKind, Tdvf, TdvfError};

impl Tdvf<'_> {
    /// Whether QEMU starts this firmware and adds the pages that [`mrtd`](crate::mrtd) counts.
    pub fn check_qemu(&self) -> Result<(), TdvfError> {
        self.only(SectionKind::TdHob)?;
        for (index, section) in self.sections.iter().enumerate() {
            if let Some(what) = otherwise(section) {
                let kind = section.kind;
                return Err(TdvfError::NotAsQemu { index, kind, what });
            }
        }
        Ok(())
    }
}

fn otherwise(section: &Section) -> Option<&'static str> {
    let Section {
        kind,
        data,
        memory,
        pages,
    } = section;
    if let SectionKind::PermMem | SectionKind::Payload | SectionKind::PayloadParam = kind {
        return Some("QEMU refuses sections of this kind");
    }
    if *pages == Pages::Later {
        return Some("QEMU passes over PAGE.AUG and adds its pages before the start");
    }
    if data.is_empty() {
        return None;
    }
    // Not zeros, as in the guide: QEMU hands KVM as many bytes of the file as the section has memory.
    if (data.end - data.start) as u64 != memory.end - memory.start {
        return Some("QEMU fills its memory with what follows in the file");
    }
    let on_a_page = (data.start as u64).is_multiple_of(PAGE_BYTES);
    (!on_a_page).then_some("KVM refuses bytes that begin within a page")
}
