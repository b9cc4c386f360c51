//! `/etc/ld.so.cache`, as `ldconfig` of the C library 2.41 would write it, byte for byte.
//!
//! ```text
//! header        48 bytes: "glibc-ld.so.cache1.1", number of entries, length of strings, 2 for little endian, place of the extensions
//! entries       24 bytes each: flags 0x303 (C library 6, x86-64), name, path, 0, 0
//! strings       each once, a string that another one ends with inside that one
//! extensions    a magic number, 1, and the one section that names the writer
//! ```
//! Source of the format: `sysdeps/generic/dl-cache.h`; of the order: `elf/cache.c` and `elf/stringtable.c`; of what is looked at:
//! `elf/ldconfig.c`, all of glibc 2.41. A test holds it against the real program.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use super::view::View;
use super::{MAKER, unmakeable};
use crate::error::Error;
use crate::files;
use crate::formats::elf;
use crate::formats::entry::{Entry, Source, What};
use crate::limits::LOADER_CONFIG_BYTES_MAX;

/// Adds the cache, and the links to libraries by their own names that a package left out, to a root whose C library is configured.
/// Without `/etc/ld.so.conf` there is nothing to add: the loader looks into its own directories.
pub fn add(entries: &mut Vec<Entry>) -> Result<(), Error> {
    let made = {
        let view = View::of(entries);
        let Some(config) = view.resolve(CONFIG) else {
            return Ok(());
        };
        let libraries = all(&view, config)?;
        let writer = writer(&view);
        let mut made = missing_links(&view, &libraries);
        let bytes = cache(&libraries, &writer);
        made.push(Entry::memory(CACHE, 0o644, bytes, MAKER.into()));
        made
    };
    entries.extend(made);
    Ok(())
}

/// The names in the cache of a root; none when it has none.
pub fn names(view: &View<'_>) -> Result<BTreeSet<String>, Error> {
    let Some(config) = view.resolve(CONFIG) else {
        return Ok(BTreeSet::new());
    };
    let all = all(view, config)?.into_iter();
    Ok(all.map(|library| library.soname).collect())
}

fn all(view: &View<'_>, config: &Entry) -> Result<Vec<Library>, Error> {
    let mut directories = Vec::new();
    read_config(view, config, 0, &mut directories)?;
    directories.extend(BUILTIN.map(String::from));
    libraries(view, &directories)
}

/// One library of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// What programs ask for.
    pub soname: String,
    /// The directory as the configuration has it.
    pub directory: String,
    /// The file there that it is.
    pub file: String,
}

impl Library {
    fn path(&self) -> String {
        format!("{}/{}", self.directory, self.soname)
    }
}

/// The lines of a configuration file, and of those that it includes: directories in order.
fn read_config(
    view: &View<'_>,
    config: &Entry,
    depth: usize,
    directories: &mut Vec<String>,
) -> Result<(), Error> {
    if depth > INCLUDES_MAX {
        return Err(unmakeable(config, "includes files that include each other"));
    }
    for line in text(config)?.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let include = line
            .strip_prefix("include")
            .filter(|rest| rest.starts_with([' ', '\t']));
        if let Some(patterns) = include {
            for pattern in patterns.split_ascii_whitespace() {
                for found in matches(view, config, pattern)? {
                    read_config(view, found, depth + 1, directories)?;
                }
            }
        } else if line.contains('=') || (line.starts_with("hwcap") && line.contains(' ')) {
            return Err(unmakeable(
                config,
                format!("has a line that this version does not know: {line}"),
            ));
        } else if !line.is_empty() {
            directories.push(line.trim_end_matches('/').to_owned());
        }
    }
    Ok(())
}

/// The files that `DIRECTORY/*SUFFIX` stands for; Debian's configuration has no other pattern.
fn matches<'a>(view: &View<'a>, config: &Entry, pattern: &str) -> Result<Vec<&'a Entry>, Error> {
    let unknown = || {
        unmakeable(
            config,
            format!("has a pattern that this version does not know: {pattern}"),
        )
    };
    let special = |text: &str| text.contains(['*', '?', '[', '\\']);
    if pattern.starts_with('/') && !special(pattern) {
        return Ok(view.resolve(pattern).into_iter().collect());
    }
    let (directory, suffix) = pattern.split_once("/*").ok_or_else(unknown)?;
    if !directory.starts_with('/') || special(directory) || special(suffix) || suffix.contains('/')
    {
        return Err(unknown());
    }
    let Some(directory) = view.resolve(directory) else {
        return Ok(Vec::new());
    };
    let children = view.children(&directory.path).into_iter();
    let names = children.map(|(name, _)| name);
    let names = names.filter(|name| !name.starts_with('.') && name.ends_with(suffix));
    let found = names.filter_map(|name| view.resolve(&format!("{}/{name}", directory.path)));
    Ok(found.collect())
}

/// The libraries of the directories, each directory once, in the order of the cache.
fn libraries(view: &View<'_>, directories: &[String]) -> Result<Vec<Library>, Error> {
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for directory in directories {
        let Some(real) = view.resolve(directory) else {
            continue;
        };
        if !matches!(real.what, What::Directory) || !seen.insert(&real.path) {
            continue;
        }
        let special = format!("{}/glibc-hwcaps", real.path);
        if let Some(entry) = view.resolve(&special)
            && !view.children(&entry.path).is_empty()
        {
            return Err(unmakeable(
                entry,
                "has libraries for particular processors, which this version does not put into the loader's cache",
            ));
        }
        found.extend(libraries_in(view, directory, real)?);
    }
    // Stable: of two with one name the one of the earlier directory comes first.
    found.sort_by(|one, other| compare(&other.soname, &one.soname));
    Ok(found)
}

fn libraries_in(view: &View<'_>, directory: &str, real: &Entry) -> Result<Vec<Library>, Error> {
    // By the name that programs ask for: the file that it is, and whether that is a link.
    let mut chosen: BTreeMap<String, (&str, bool)> = BTreeMap::new();
    for (name, entry) in view.children(&real.path) {
        if !is_library_name(name) {
            continue;
        }
        let link = matches!(entry.what, What::Link { .. });
        let Some(file) = view.resolve(&entry.path) else {
            continue;
        };
        let Some(own) = soname(file, name)? else {
            continue;
        };
        // `libx.so`, a link for compilers, and a link with the library's own name stand for themselves.
        let link = link && (own == name || (name.ends_with(".so") && own.starts_with(name)));
        let soname = if link { name.to_owned() } else { own };
        let better = chosen.get(&soname).is_none_or(|(other, other_link)| {
            (!link && *other_link)
                || (link == *other_link && compare(other, name) == Ordering::Less)
        });
        if better {
            chosen.insert(soname, (name, link));
        }
    }
    let library = |(soname, (file, _)): (String, (&str, bool))| Library {
        soname,
        directory: directory.to_owned(),
        file: file.to_owned(),
    };
    Ok(chosen.into_iter().map(library).collect())
}

/// `elf/dl-is_dso.h`, less names that only a package manager at work leaves behind.
fn is_library_name(name: &str) -> bool {
    let begins = name.starts_with("lib") || name.starts_with("ld-");
    let library = begins && name.contains(".so");
    let loader = name == "ld.so" || name.starts_with("ld64.so.");
    (library || loader) && !name.ends_with(".dpkg-new") && !name.ends_with(".dpkg-tmp")
}

fn soname(file: &Entry, name: &str) -> Result<Option<String>, Error> {
    let What::File { source, .. } = &file.what else {
        return Ok(None);
    };
    Ok(match source {
        Source::Memory(bytes) => elf::soname(Cursor::new(bytes), name),
        Source::Disk(path) => elf::soname(files::open(path)?, name),
    })
}

/// Links that `ldconfig` would make: by a library's own name, where the package has only the file.
fn missing_links(view: &View<'_>, libraries: &[Library]) -> Vec<Entry> {
    let mut made = Vec::new();
    for library in libraries {
        let Some(directory) = view.resolve(&library.directory) else {
            continue;
        };
        let path = format!("{}/{}", directory.path, library.soname);
        if library.file != library.soname && view.get(&path).is_none() {
            made.push(Entry::link(path, library.file.clone(), MAKER.into()));
        }
    }
    made
}

/// The file.
fn cache(libraries: &[Library], writer: &str) -> Vec<u8> {
    let paths: Vec<String> = libraries.iter().map(Library::path).collect();
    let sonames = libraries.iter().map(|library| library.soname.as_str());
    let strings = Strings::of(sonames.chain(paths.iter().map(String::as_str)));
    let begin = HEADER_BYTES + ENTRY_BYTES * libraries.len();
    let extensions = (begin + strings.bytes.len()).next_multiple_of(4);

    let mut out = MAGIC.to_vec();
    let number = |out: &mut Vec<u8>, number: usize| {
        let number = u32::try_from(number).expect("the sizes of a root's names fit into 32 bits");
        out.extend(number.to_le_bytes());
    };
    number(&mut out, libraries.len());
    number(&mut out, strings.bytes.len());
    out.extend([LITTLE_ENDIAN, 0, 0, 0]);
    number(&mut out, extensions);
    out.resize(HEADER_BYTES, 0);
    for (library, path) in libraries.iter().zip(&paths) {
        out.extend(FLAGS.to_le_bytes());
        number(&mut out, begin + strings.at[library.soname.as_str()]);
        number(&mut out, begin + strings.at[path.as_str()]);
        out.extend([0; 12]);
    }
    out.extend(&strings.bytes);
    out.resize(extensions, 0);
    out.extend(EXTENSIONS_MAGIC.to_le_bytes());
    // One section of kind 0, "generator", behind this list.
    for value in [1, 0, 0, extensions + 24, writer.len()] {
        number(&mut out, value);
    }
    out.extend(writer.bytes());
    out
}

/// A table of strings in which one that another ends with takes no room of its own.
struct Strings<'a> {
    bytes: Vec<u8>,
    at: BTreeMap<&'a str, usize>,
}

impl<'a> Strings<'a> {
    fn of(strings: impl Iterator<Item = &'a str>) -> Self {
        let unique: BTreeSet<&str> = strings.collect();
        let mut sorted: Vec<&str> = unique.into_iter().collect();
        // From the end, greater bytes first, and a string after those that end with it.
        sorted.sort_by(|one, other| other.bytes().rev().cmp(one.bytes().rev()));
        let (mut bytes, mut at) = (Vec::new(), BTreeMap::new());
        let mut before: Option<(&str, usize)> = None;
        for string in sorted {
            let place = match before {
                Some((longer, place)) if longer.ends_with(string) => {
                    place + longer.len() - string.len()
                }
                _ => {
                    let place = bytes.len();
                    bytes.extend(string.bytes());
                    bytes.push(0);
                    place
                }
            };
            at.insert(string, place);
            before = Some((string, place));
        }
        Self { bytes, at }
    }
}

/// The loader's own order of names (`_dl_cache_libcmp`): runs of digits by their value, after all else.
fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let digit = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        match (one.split_first(), other.split_first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) if digit(other) => return Ordering::Less,
            _ if digit(one) && digit(other) => {
                let (first, rest) = number(one);
                let (second, other_rest) = number(other);
                if first != second {
                    return first.cmp(&second);
                }
                (one, other) = (rest, other_rest);
            }
            _ if digit(one) => return Ordering::Greater,
            _ if digit(other) => return Ordering::Less,
            (Some((a, rest)), Some((b, other_rest))) if a == b => {
                (one, other) = (rest, other_rest);
            }
            (a, b) => return a.map(|(a, _)| a).cmp(&b.map(|(b, _)| b)),
        }
    }
}

/// The number that `text` begins with, as a C `int` would hold it, and the rest.
fn number(text: &[u8]) -> (i32, &[u8]) {
    let end = text
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let add = |value: i32, digit: &u8| value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
    (digits.iter().fold(0, add), rest)
}

/// What `ldconfig` of the root's own C library writes about itself. The loader reads no meaning into it.
fn writer(view: &View<'_>) -> String {
    let libc = view.resolve("/usr/sbin/ldconfig").and_then(Entry::from);
    let version = libc
        .and_then(|from| from.strip_prefix("libc-bin "))
        .unwrap_or("");
    let upstream = version.split('-').next().unwrap_or_default();
    format!("ldconfig (Debian GLIBC {version}) stable release version {upstream}")
}

fn text(entry: &Entry) -> Result<String, Error> {
    super::text(entry, LOADER_CONFIG_BYTES_MAX)
}

const CONFIG: &str = "/etc/ld.so.conf";
const CACHE: &str = "/etc/ld.so.cache";
/// Looked into after those of the configuration.
const BUILTIN: [&str; 2] = ["/lib", "/usr/lib"];
const INCLUDES_MAX: usize = 8;
const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// `cache_file_new_flags_endian_little`.
const LITTLE_ENDIAN: u8 = 2;
/// `FLAG_X8664_LIB64 | FLAG_ELF_LIBC6`.
const FLAGS: u32 = 0x303;
/// `cache_extension_magic`.
const EXTENSIONS_MAGIC: u32 = 0xeaa4_2174;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_loaders_order() {
        let sorted = [
            "",
            "lib.so",
            "libabc.so",
            "liba1.so",
            "liba2.so",
            "liba10.so",
        ];
        for (at, one) in sorted.iter().enumerate() {
            for (other_at, other) in sorted.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&other_at), "{one} {other}");
            }
        }
        assert_eq!(compare("a01", "a1"), Ordering::Equal);
        assert_eq!(compare("a1b", "a1a"), Ordering::Greater);
        assert_eq!(compare("a", "a9"), Ordering::Less);
        assert_eq!(compare("a.", "a9"), Ordering::Less);
        // More than a C int holds wraps, and is compared all the same.
        assert_ne!(compare("a4294967297", "a2"), Ordering::Equal);
    }

    #[test]
    fn a_string_inside_another_one_takes_no_room() {
        let strings = Strings::of(["c.so", "/lib/c.so", "b", "/lib/c.so"].into_iter());
        assert_eq!(strings.bytes, b"/lib/c.so\0b\0");
        assert_eq!((strings.at["c.so"], strings.at["b"]), (5, 10));
    }

    #[test]
    fn a_cache_says_where_its_strings_are() {
        let library = Library {
            soname: "liba.so.1".into(),
            directory: "/lib".into(),
            file: "liba.so.1.2".into(),
        };
        let bytes = cache(&[library], "w");
        assert_eq!(&bytes[..20], MAGIC);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        assert_eq!((word(20), word(24), bytes[28]), (1, 15, 2));
        let string = |at: u32| bytes[at as usize..].split(|b| *b == 0).next();
        assert_eq!(word(48), FLAGS);
        assert_eq!(string(word(52)), Some(&b"liba.so.1"[..]));
        assert_eq!(string(word(56)), Some(&b"/lib/liba.so.1"[..]));
        let extensions = word(32) as usize;
        assert_eq!(extensions % 4, 0);
        assert_eq!(word(extensions), EXTENSIONS_MAGIC);
        assert_eq!(word(extensions + 16) as usize, extensions + 24);
        assert_eq!(&bytes[extensions + 24..], b"w");
    }
}
