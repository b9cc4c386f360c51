//! What `ldconfig` reads of a shared library: that it is one, and its `DT_SONAME`.

use std::io::{Read, Seek};

use object::LittleEndian;
use object::elf::{DT_SONAME, DT_STRTAB, DynamicTag, ET_DYN, FileHeader64, PT_LOAD};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};

/// The longest name that is read; a file name has 255 bytes.
const SONAME_BYTES_MAX: u64 = 255;

/// The name that a library gives itself; its file's name stands for a library that says none. `None` when `file` is no shared
/// object of 64 bits for this machine. Only the parts that are asked for are read, however long the file is.
pub fn soname(file: impl Read + Seek, name: &str) -> Option<String> {
    let cache = ReadCache::new(file);
    let data = &cache;
    let header: &FileHeader64<LittleEndian> = FileHeader64::parse(data).ok()?;
    let endian: LittleEndian = header.endian().ok()?;
    if header.e_type(endian) != ET_DYN || header.e_machine(endian) != object::elf::EM_X86_64 {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let dynamic = segments
        .iter()
        .find_map(|segment| segment.dynamic(endian, data).ok().flatten())?;
    let value = |tag: DynamicTag| {
        let mut found = dynamic.iter().filter(|one| one.d_tag(endian) == tag);
        found.next().map(|one| one.d_val(endian))
    };
    let strings = value(DT_STRTAB)?;
    let Some(offset) = value(DT_SONAME) else {
        return Some(name.to_owned());
    };
    let load = segments.iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        let end = start.saturating_add(segment.p_filesz(endian));
        segment.p_type(endian) == PT_LOAD && (start..end).contains(&strings)
    })?;
    let place = (strings - load.p_vaddr(endian)).checked_add(load.p_offset(endian))?;
    let start = place.checked_add(offset)?;
    let end = start
        .checked_add(SONAME_BYTES_MAX + 1)?
        .min(data.len().ok()?);
    let bytes = data.read_bytes_at_until(start..end, 0).ok()?;
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/');
    plain.then(|| text.to_owned())
}
