//! Where the bytes of two images differ: which artifact, which file inside it, who brought that, and the first byte.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use predict::image::{Content, ImageFile, ImageManifest, ImagePart, Role};
use serde::Serialize;

use super::directory::Directory;
use crate::error::Error;
use crate::files;
use crate::formats::bytes::{Part, ReadError};
use crate::formats::{Item, ItemKind, Listing, list};
use crate::image::CMDLINE;
use crate::image::repro::first_byte;
use crate::limits::DIFFERENCES_MAX;

/// One place in which the second image is not the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which file beside the manifest.
    pub artifact: String,
    /// What inside of it, the outermost first; empty when it is the artifact itself.
    pub inside: Vec<String>,
    /// Who brought it: a package with its version, `compiled`, a model. None if nobody is named.
    pub from: Option<String>,
    /// What is different about it.
    pub what: String,
    /// The first byte that differs, counted from zero in the innermost thing named. None if the bytes of one side are not there.
    pub byte: Option<u64>,
    /// The same byte, counted in the artifact.
    pub offset: Option<u64>,
}

/// Everything in which the bytes of two images differ, up to a limit. Files of the second that are not there are held against the
/// first by their digests.
pub fn differences(first: &Directory, second: &Directory) -> Result<Vec<Difference>, Error> {
    let mut found = Vec::new();
    let theirs: BTreeMap<_, _> = second.manifest.files.all().collect();
    for (what, mine) in first.manifest.files.all() {
        let Some(other) = theirs.get(what) else {
            found.push(whole(&mine.name, "is in the first image alone"));
            continue;
        };
        let pair = (first.file(&mine.name), second.file(&other.name));
        let pair = (&*pair.0, &*pair.1);
        found.extend(artifact(first, second, (what, mine, other), pair)?);
    }
    let mine: Vec<_> = first.manifest.files.all().map(|(what, _)| what).collect();
    for (_, file) in theirs.iter().filter(|(what, _)| !mine.contains(what)) {
        found.push(whole(&file.name, "is in the second image alone"));
    }
    if first.manifest.cmdline != second.manifest.cmdline {
        let (one, two) = (
            first.manifest.cmdline.as_bytes(),
            second.manifest.cmdline.as_bytes(),
        );
        let shared = one.iter().zip(two).take_while(|(a, b)| a == b).count() as u64;
        found.push(Difference {
            byte: Some(shared),
            offset: Some(shared),
            ..whole(CMDLINE, "has another text")
        });
    }
    found.truncate(DIFFERENCES_MAX);
    Ok(found)
}

fn artifact(
    first: &Directory,
    second: &Directory,
    (what, mine, other): (&str, &ImageFile, &ImageFile),
    (one, two): (&Path, &Path),
) -> Result<Vec<Difference>, Error> {
    if !two.exists() {
        let same = (mine.bytes, mine.sha256) == (other.bytes, other.sha256);
        let text = "has another digest; its bytes are not beside the manifest";
        return Ok(Vec::from_iter((!same).then(|| Difference {
            from: origin(&first.manifest, what),
            ..whole(&mine.name, text)
        })));
    }
    let offset = first_byte(one, two).map_err(Error::disk("reading", two))?;
    let Some(offset) = offset else {
        return Ok(Vec::new());
    };
    let (one, two) = (files::open(one)?, files::open(two)?);
    let looked = || {
        let (one, two) = (Part::whole(&one)?, Part::whole(&two)?);
        let mut found = Vec::new();
        let mut look = Look {
            first,
            second,
            artifact: &mine.name,
            what,
            found: &mut found,
        };
        look.compare(&[], part_of(what), (&one, &two), 0)?;
        if !found.iter().any(|one| one.offset == Some(offset)) {
            // The first byte is not in a file, but in what lies around them.
            let place = list(&one)?.place(&one, offset);
            found.push(Difference {
                artifact: mine.name.clone(),
                from: from_of(first, second, part_of(what), place.inside.last()),
                what: format!("differs in {}", place.part),
                byte: Some(place.at),
                offset: Some(offset),
                inside: place.inside,
            });
        }
        Ok::<_, ReadError>(found)
    };
    // What cannot be looked into differs as a whole.
    Ok(looked().unwrap_or_else(|_| {
        vec![Difference {
            from: origin(&first.manifest, what),
            byte: Some(offset),
            offset: Some(offset),
            ..whole(&mine.name, "has other bytes")
        }]
    }))
}

struct Look<'a> {
    first: &'a Directory,
    second: &'a Directory,
    artifact: &'a str,
    what: &'a str,
    found: &'a mut Vec<Difference>,
}

impl Look<'_> {
    /// Compares what lies in two parts thing by thing; sections and partitions are looked into. `start` is where the first lies in its artifact.
    fn compare(
        &mut self,
        around: &[String],
        part: Option<ImagePart>,
        (one, two): (&Part<'_>, &Part<'_>),
        start: u64,
    ) -> Result<(), ReadError> {
        let (mine, theirs) = (list(one)?, list(two)?);
        let (mine, theirs) = (by_name(&mine), by_name(&theirs));
        for (name, item) in &mine {
            if self.found.len() >= DIFFERENCES_MAX {
                return Ok(());
            }
            let Some(other) = theirs.get(name) else {
                self.push(
                    around,
                    part,
                    item,
                    "is in the first image alone",
                    None,
                    None,
                );
                continue;
            };
            if (item.kind, item.mode, item.owner) != (other.kind, other.mode, other.owner) {
                self.push(
                    around,
                    part,
                    item,
                    "has another kind, mode or owner",
                    None,
                    None,
                );
            }
            let Some(at) = first_difference((one, item), (two, other))? else {
                continue;
            };
            if self.deeper(around, (one, item), (two, other), start) {
                continue;
            }
            let offset = offset_of(item, at).map(|offset| start + offset);
            self.push(around, part, item, "has other content", Some(at), offset);
        }
        for (name, item) in &theirs {
            if !mine.contains_key(name) && self.found.len() < DIFFERENCES_MAX {
                self.push(
                    around,
                    part,
                    item,
                    "is in the second image alone",
                    None,
                    None,
                );
            }
        }
        Ok(())
    }

    /// Looks into a section or a partition. False when there is nothing to be seen, or no difference inside.
    fn deeper(
        &mut self,
        around: &[String],
        (one, item): (&Part<'_>, &Item),
        (two, other): (&Part<'_>, &Item),
        start: u64,
    ) -> bool {
        let ([mine], [theirs]) = (&item.extents[..], &other.extents[..]) else {
            return false;
        };
        let names_files = item.kind == ItemKind::Section;
        let length = |extent: &Range<u64>| extent.end - extent.start;
        let inner = one.part(mine.start, length(mine), "a part");
        let theirs = two.part(theirs.start, length(theirs), "a part");
        let (Ok(inner), Ok(theirs), true) = (inner, theirs, names_files) else {
            return false;
        };
        let mut around = around.to_vec();
        around.push(item.path.clone());
        let inside = match item.path.as_str() {
            ".initrd" => Some(ImagePart::Initrd),
            ".linux" | ".cmdline" => None,
            _ => Some(ImagePart::Root),
        };
        let before = self.found.len();
        let looked = self.compare(&around, inside, (&inner, &theirs), start + mine.start);
        looked.is_ok() && self.found.len() > before
    }

    fn push(
        &mut self,
        around: &[String],
        part: Option<ImagePart>,
        item: &Item,
        what: &str,
        byte: Option<u64>,
        offset: Option<u64>,
    ) {
        let mut inside = around.to_vec();
        inside.push(item.path.clone());
        let from = from_of(self.first, self.second, part, Some(&item.path));
        self.found.push(Difference {
            artifact: self.artifact.to_owned(),
            inside,
            from: from.or_else(|| origin(&self.first.manifest, self.what)),
            what: what.into(),
            byte,
            offset,
        });
    }
}

/// Things by name; of those that share one, the first, the second and so on.
fn by_name(listing: &Listing) -> BTreeMap<(&str, usize), &Item> {
    let mut found = BTreeMap::new();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for item in &listing.items {
        let time = times.entry(&item.path).or_default();
        found.insert((item.path.as_str(), *time), item);
        *time += 1;
    }
    found
}

/// The first byte in which the contents of two things differ; where the shorter one ends, if that is all.
fn first_difference(
    (one, item): (&Part<'_>, &Item),
    (two, other): (&Part<'_>, &Item),
) -> Result<Option<u64>, ReadError> {
    let mut mine = Stream::of(one, item);
    let mut theirs = Stream::of(two, other);
    let mut at = 0;
    loop {
        let (a, b) = (mine.next()?, theirs.next()?);
        let shared = a.len().min(b.len());
        if let Some(place) = (0..shared).find(|place| a[*place] != b[*place]) {
            return Ok(Some(at + place as u64));
        }
        if a.len() != b.len() {
            return Ok(Some(at + shared as u64));
        }
        if a.is_empty() {
            return Ok(None);
        }
        at += shared as u64;
    }
}

/// The content of a thing in pieces of one length.
struct Stream<'a> {
    from: &'a Part<'a>,
    extents: Vec<Range<u64>>,
}

impl<'a> Stream<'a> {
    fn of(from: &'a Part<'a>, item: &Item) -> Self {
        let mut extents = item.extents.clone();
        extents.reverse();
        Self { from, extents }
    }

    fn next(&mut self) -> Result<Vec<u8>, ReadError> {
        const PIECE: u64 = 64 * 1024;
        let mut piece = Vec::new();
        while let Some(extent) = self.extents.last_mut()
            && (piece.len() as u64) < PIECE
        {
            let length = (extent.end - extent.start).min(PIECE - piece.len() as u64);
            piece.extend(
                self.from
                    .vec(extent.start, length as usize, "a file's content")?,
            );
            extent.start += length;
            if extent.start == extent.end {
                self.extents.pop();
            }
        }
        Ok(piece)
    }
}

fn offset_of(item: &Item, mut at: u64) -> Option<u64> {
    for extent in &item.extents {
        let length = extent.end - extent.start;
        if at < length {
            return Some(extent.start + at);
        }
        at -= length;
    }
    None
}

fn part_of(what: &str) -> Option<ImagePart> {
    match what {
        "initrd" => Some(ImagePart::Initrd),
        "root" => Some(ImagePart::Root),
        _ => None,
    }
}

/// Who brought a file inside, as either manifest says.
fn from_of(
    first: &Directory,
    second: &Directory,
    part: Option<ImagePart>,
    path: Option<&String>,
) -> Option<String> {
    let is = |content: &&Content| Some(content.part) == part && Some(&content.path) == path;
    let find = |directory: &Directory| {
        let content = directory.manifest.contents.iter().find(is);
        content.and_then(|content| content.from.clone())
    };
    find(first).or_else(|| find(second))
}

/// Who brought an artifact that is taken from a package as it is.
fn origin(manifest: &ImageManifest, what: &str) -> Option<String> {
    let role = match what {
        "firmware" => Role::Firmware,
        "kernel" => Role::Kernel,
        _ => return None,
    };
    let package = manifest
        .packages
        .iter()
        .find(|package| package.role == role);
    package.map(|package| format!("{} {}", package.name, package.version))
}

fn whole(artifact: &str, what: &str) -> Difference {
    Difference {
        artifact: artifact.into(),
        inside: Vec::new(),
        from: None,
        what: what.into(),
        byte: None,
        offset: None,
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.artifact)?;
        for inside in &self.inside {
            write!(f, " {inside}")?;
        }
        if let Some(from) = &self.from {
            write!(f, " (from {from})")?;
        }
        write!(f, " {}", self.what)?;
        if let Some(byte) = self.byte {
            write!(f, ", first at byte {byte}")?;
        }
        match (self.offset, self.byte) {
            (Some(offset), byte) if Some(offset) != byte => {
                write!(f, " (byte {offset} of {})", self.artifact)
            }
            _ => Ok(()),
        }
    }
}
