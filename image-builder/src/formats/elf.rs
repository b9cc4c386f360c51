//! What a loader reads of a program or shared library: its name, and what it asks for.

use std::io::{Read, Seek};

use object::LittleEndian;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRTAB, DynamicTag, ET_DYN, ET_EXEC,
    FileHeader64, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};

use crate::limits::LIBRARIES_ASKED_MAX;

/// The longest name that is read; a file name has 255 bytes.
const SONAME_BYTES_MAX: u64 = 255;
/// The longest list of directories.
const DIRECTORIES_BYTES_MAX: u64 = 4096;

/// The table for the loader of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dynamic {
    /// Whether it is a shared object; some programs are.
    shared: bool,
    /// `DT_SONAME`; none when it has none, an inner none when it is no plain name.
    soname: Option<Option<String>>,
    /// `DT_NEEDED`: names of libraries, or paths.
    pub needed: Vec<String>,
    /// `DT_RUNPATH` or `DT_RPATH`: directories, in which `$ORIGIN` is the file's own.
    pub directories: Vec<String>,
    /// Whether there is such a list, be it one that names none.
    pub has_directories: bool,
    /// `PT_INTERP`: the loader that a program asks for.
    pub interpreter: Option<String>,
}

impl Dynamic {
    /// What others ask for when they want it: the name that it gives itself, or that of its file.
    pub fn name<'a>(&'a self, file: &'a str) -> Option<&'a str> {
        match &self.soname {
            None => Some(file),
            Some(own) => own.as_deref(),
        }
    }
}

/// The name that a library gives itself; its file's name stands for a library that says none. `None` when `file` is no shared
/// object of 64 bits for this machine. Only the parts that are asked for are read, however long the file is.
pub fn soname(file: impl Read + Seek, name: &str) -> Option<String> {
    let dynamic = dynamic(file).ok().flatten()?;
    match dynamic.soname {
        _ if !dynamic.shared => None,
        None => Some(name.to_owned()),
        Some(own) => own,
    }
}

/// The table of `file`, or `None` when it is no program or library of 64 bits for this machine, or needs no loader. An error when
/// it is one, and its table cannot be read.
pub fn dynamic(file: impl Read + Seek) -> Result<Option<Dynamic>, &'static str> {
    let cache = ReadCache::new(file);
    let data = &cache;
    let Ok(header) = FileHeader64::<LittleEndian>::parse(data) else {
        return Ok(None);
    };
    let broken = "has a table for the loader that cannot be read";
    let Ok(endian) = header.endian() else {
        return Ok(None);
    };
    let kind = header.e_type(endian);
    if ![ET_DYN, ET_EXEC].contains(&kind) || header.e_machine(endian) != object::elf::EM_X86_64 {
        return Ok(None);
    }
    let segments = header.program_headers(endian, data).map_err(|_| broken)?;
    let dynamic = segments
        .iter()
        .find_map(|segment| segment.dynamic(endian, data).transpose());
    let Some(dynamic) = dynamic.transpose().map_err(|_| broken)? else {
        return Ok(None);
    };
    let table: Vec<_> = dynamic
        .iter()
        .map(|one| (one.d_tag(endian), one.d_val(endian)))
        .take_while(|(tag, _)| *tag != DT_NULL)
        .collect();
    let values = |wanted: DynamicTag| table.iter().filter(move |(tag, _)| *tag == wanted);
    let value = |tag| values(tag).map(|(_, value)| *value).next();
    let strings = value(DT_STRTAB).and_then(|strings| {
        let load = segments.iter().find(|segment| {
            let start = segment.p_vaddr(endian);
            let end = start.saturating_add(segment.p_filesz(endian));
            segment.p_type(endian) == PT_LOAD && (start..end).contains(&strings)
        })?;
        (strings - load.p_vaddr(endian)).checked_add(load.p_offset(endian))
    });
    let text = |offset: u64, bytes_max: u64| {
        let start = strings?.checked_add(offset)?;
        let end = start.checked_add(bytes_max + 1)?.min(data.len().ok()?);
        let bytes = data.read_bytes_at_until(start..end, 0).ok()?;
        let text = std::str::from_utf8(bytes).ok()?;
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| text.to_owned())
    };
    if values(DT_NEEDED).count() > LIBRARIES_ASKED_MAX {
        return Err("asks for too many libraries");
    }
    let needed = values(DT_NEEDED).map(|(_, offset)| text(*offset, SONAME_BYTES_MAX));
    let needed: Option<Vec<_>> = needed.collect();
    // Of both the loader takes DT_RUNPATH (ld.so(8)).
    let directories = value(DT_RUNPATH).or_else(|| value(DT_RPATH));
    let has_directories = directories.is_some();
    let directories = directories.map(|offset| text(offset, DIRECTORIES_BYTES_MAX).ok_or(broken));
    let directories = directories.transpose()?.unwrap_or_default();
    let directories = directories
        .split(':')
        .filter(|directory| !directory.is_empty());
    let interpreter = segments.iter().find(|one| one.p_type(endian) == PT_INTERP);
    let interpreter = interpreter.map(|segment| {
        let bytes = segment.data(endian, data).ok()?;
        let text = std::str::from_utf8(bytes.strip_suffix(b"\0")?).ok()?;
        (text.len() as u64 <= SONAME_BYTES_MAX).then(|| text.to_owned())
    });
    let own = |offset| text(offset, SONAME_BYTES_MAX).filter(|name| !name.contains('/'));
    Ok(Some(Dynamic {
        shared: kind == ET_DYN,
        soname: value(DT_SONAME).map(own),
        needed: needed.ok_or(broken)?,
        directories: directories.map(str::to_owned).collect(),
        has_directories,
        interpreter: interpreter.map(|path| path.ok_or(broken)).transpose()?,
    }))
}
