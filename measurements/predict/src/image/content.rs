//! What lies inside an image: every file, directory, link and device of its initrd and its root.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ImageError, check_count, check_text, text_error};
use crate::limits;
use registers::Digest32;

/// One file, directory, link or device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub struct Content {
    /// In which part of the image.
    pub part: ImagePart,
    /// Where it is in that part, from `/` on.
    pub path: String,
    /// Its permissions: four octal digits.
    pub mode: String,
    /// Its user's number.
    pub user: u32,
    /// Its group's number.
    pub group: u32,
    /// Extended attributes by their full names, values in hexadecimal.
    pub attributes: BTreeMap<String, String>,
    /// What it is.
    pub kind: ContentKind,
    /// Where it comes from: a package with its version, `compiled`, a model. Directories and devices that are only there to
    /// be used come from nowhere.
    pub from: Option<String>,
}

/// The parts of an image that hold files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePart {
    /// The initrd.
    Initrd,
    /// The root file system.
    Root,
}

/// What something inside an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// A file.
    File {
        /// Its length.
        bytes: u64,
        /// Its digest.
        sha256: Digest32,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// What it says.
        target: String,
    },
    /// Another name of a file that is listed before.
    Same {
        /// That file's path.
        target: String,
    },
    /// A character device.
    Device {
        /// Its driver.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
}

impl Content {
    /// The digest, of a file.
    pub fn sha256(&self) -> Option<Digest32> {
        match self.kind {
            ContentKind::File { sha256, .. } => Some(sha256),
            _ => None,
        }
    }
}

/// Sorted, each once, and all in plain text of the allowed length.
pub(super) fn check(contents: &[Content]) -> Result<(), ImageError> {
    for content in contents {
        check_text("path of a file inside", &content.path)?;
        if !content.path.starts_with('/') {
            return Err(text_error("path of a file inside", &content.path));
        }
        if let Some(from) = &content.from {
            check_text("origin of a file inside", from)?;
        }
        let mode = content.mode.as_bytes();
        if mode.len() != 4 || !mode.iter().all(|b| (b'0'..=b'7').contains(b)) {
            return Err(text_error("mode of a file inside", &content.mode));
        }
        if let ContentKind::Link { target } | ContentKind::Same { target } = &content.kind {
            check_text("target of a link inside", target)?;
        }
        let count = content.attributes.len();
        check_count("attributes of a file", count, limits::IMAGE_ATTRIBUTES_MAX)?;
        for (name, value) in &content.attributes {
            check_text("name of an attribute", name)?;
            let hex = value
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let whole = value.len().is_multiple_of(2);
            if !hex || !whole || value.len() > 2 * limits::IMAGE_ATTRIBUTE_BYTES_MAX {
                return Err(text_error("value of an attribute", value));
            }
        }
    }
    for pair in contents.windows(2) {
        if (pair[0].part, &pair[0].path) >= (pair[1].part, &pair[1].path) {
            let path = pair[1].path.clone();
            return Err(ImageError::Order { path });
        }
    }
    Ok(())
}

/// As a manifest writes it: what is usual is left out.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "in")]
    part: ImagePart,
    path: String,
    kind: Word,
    mode: String,
    #[serde(default, skip_serializing_if = "is_root")]
    user: u32,
    #[serde(default, skip_serializing_if = "is_root")]
    group: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    File,
    Directory,
    Link,
    Same,
    Device,
}

fn is_root(number: &u32) -> bool {
    *number == 0
}

impl TryFrom<Line> for Content {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Content, &'static str> {
        let kind = match (line.kind, line.bytes, line.sha256, line.target, line.device) {
            (Word::File, Some(bytes), Some(sha256), None, None) => {
                ContentKind::File { bytes, sha256 }
            }
            (Word::Directory, None, None, None, None) => ContentKind::Directory,
            (Word::Link, None, None, Some(target), None) => ContentKind::Link { target },
            (Word::Same, None, None, Some(target), None) => ContentKind::Same { target },
            (Word::Device, None, None, None, Some((major, minor))) => {
                ContentKind::Device { major, minor }
            }
            _ => return Err("something inside lacks a field of its kind, or has one of another"),
        };
        Ok(Content {
            part: line.part,
            path: line.path,
            mode: line.mode,
            user: line.user,
            group: line.group,
            attributes: line.attributes,
            kind,
            from: line.from,
        })
    }
}

impl From<Content> for Line {
    fn from(content: Content) -> Line {
        let mut line = Line {
            part: content.part,
            path: content.path,
            kind: Word::Directory,
            mode: content.mode,
            user: content.user,
            group: content.group,
            attributes: content.attributes,
            bytes: None,
            sha256: None,
            target: None,
            device: None,
            from: content.from,
        };
        match content.kind {
            ContentKind::File { bytes, sha256 } => {
                line.kind = Word::File;
                line.bytes = Some(bytes);
                line.sha256 = Some(sha256);
            }
            ContentKind::Directory => {}
            ContentKind::Link { target } => {
                line.kind = Word::Link;
                line.target = Some(target);
            }
            ContentKind::Same { target } => {
                line.kind = Word::Same;
                line.target = Some(target);
            }
            ContentKind::Device { major, minor } => {
                line.kind = Word::Device;
                line.device = Some((major, minor));
            }
        }
        line
    }
}
