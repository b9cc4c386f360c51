//! Which programs a launch may start, and how: the description that `image-builder tools` writes.
//!
//! A program with an empty `run` list is started directly and sees the host's paths. Any other is started by the words of
//! its list, `image-builder run` with a tree, and sees the image at `/image` and the run directory at `/run/chrysalis`, so
//! that its arguments are the same on every host.

use crate::limits::{TOOL_WORDS_MAX, TOOLS_BYTES_MAX};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The programs of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub(super) qemu: Tool,
    pub(super) swtpm: Option<Tool>,
    pub(super) vhost_device_vsock: Option<Tool>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    run: Vec<String>,
    program: String,
}

/// What a program may see of the host, when something stands between the two.
pub(super) struct Room<'a> {
    /// Readable.
    pub(super) image: Option<&'a Path>,
    /// A file, readable.
    pub(super) model: Option<&'a Path>,
    /// Writable.
    pub(super) run: &'a Path,
    /// Devices.
    pub(super) devices: &'a [&'a str],
}

/// Where a program finds the two directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) image: String,
    pub(super) run: String,
}

/// Why a description of tools is of no use. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// Cannot be read.
    #[error("cannot read the description of tools {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Longer than any of ours.
    #[error("the description of tools is longer than {TOOLS_BYTES_MAX} bytes")]
    TooLong,
    /// Not the JSON it should be.
    #[error("the description of tools is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// A program without a name, or one behind too many words.
    #[error("the description of tools names no usable program for {0}")]
    Words(String),
    /// Not listed.
    #[error("the description of tools lists no {0}; `image-builder tools` writes one that does")]
    Missing(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    programs: BTreeMap<String, Tool>,
}

impl Tools {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ToolsError> {
        let refuse = |source| ToolsError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(refuse)?;
        let mut json = Vec::new();
        let read = file.take(TOOLS_BYTES_MAX + 1).read_to_end(&mut json);
        if read.map_err(refuse)? as u64 > TOOLS_BYTES_MAX {
            return Err(ToolsError::TooLong);
        }
        Self::from_json(&json)
    }

    /// Parses a file's bytes. Programs that a launch has no use for are left aside.
    pub fn from_json(json: &[u8]) -> Result<Self, ToolsError> {
        let File { mut programs } = serde_json::from_slice(json)?;
        for (name, tool) in &programs {
            let words = || tool.run.iter().chain([&tool.program]);
            let bad = |word: &String| word.is_empty() || word.contains('\0');
            if tool.run.len() > TOOL_WORDS_MAX || words().any(bad) {
                return Err(ToolsError::Words(name.clone()));
            }
        }
        Ok(Tools {
            qemu: programs.remove("qemu").ok_or(ToolsError::Missing("qemu"))?,
            swtpm: programs.remove("swtpm"),
            vhost_device_vsock: programs.remove("vhost-device-vsock"),
        })
    }

    /// The QEMU of this description.
    pub fn qemu(&self) -> &Tool {
        &self.qemu
    }
}

impl Tool {
    /// A program of the host, started directly.
    pub fn of_the_host(program: impl Into<String>) -> Self {
        Tool {
            run: Vec::new(),
            program: program.into(),
        }
    }

    /// The words that name this program, whatever it is asked to do.
    pub(crate) fn identity(&self) -> String {
        let words = self.run.iter().chain([&self.program]);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Where the program finds the image and the run directory.
    pub(super) fn places(&self, image: &Path, run: &Path) -> Places {
        match self.run.is_empty() {
            true => Places {
                image: image.to_string_lossy().into_owned(),
                run: run.to_string_lossy().into_owned(),
            },
            false => Places {
                image: IMAGE.into(),
                run: RUN.into(),
            },
        }
    }

    /// Where it finds the model's volume.
    pub(super) fn model_place(&self, model: &Path) -> String {
        match self.run.is_empty() {
            true => model.to_string_lossy().into_owned(),
            false => MODEL.into(),
        }
    }

    /// The words to start it with, and what it may see.
    pub(super) fn words(&self, room: &Room, arguments: Vec<String>) -> Vec<String> {
        let mut binds = Vec::new();
        if let Some(image) = room.image {
            binds.extend(["--read".into(), format!("{}={IMAGE}", image.display())]);
        }
        if let Some(model) = room.model {
            binds.extend(["--read".into(), format!("{}={MODEL}", model.display())]);
        }
        binds.extend(["--write".into(), format!("{}={RUN}", room.run.display())]);
        for device in room.devices {
            binds.extend(["--device".into(), (*device).into()]);
        }
        self.bound(binds, arguments)
    }

    /// The words to start it with when it needs no file of the host.
    pub(crate) fn alone(&self, arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(|&word| word.into()).collect();
        self.bound(Vec::new(), arguments)
    }

    fn bound(&self, binds: Vec<String>, arguments: Vec<String>) -> Vec<String> {
        let mut words = self.run.clone();
        if !words.is_empty() {
            words.extend(binds);
            words.push("--".into());
        }
        words.push(self.program.clone());
        words.extend(arguments);
        words
    }
}

const IMAGE: &str = "/image";
const MODEL: &str = "/model.img";
const RUN: &str = "/run/chrysalis";

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room<'static> {
        Room {
            image: Some(Path::new("/srv/image")),
            model: None,
            run: Path::new("/srv/run"),
            devices: &["/dev/kvm"],
        }
    }

    #[test]
    fn a_program_of_a_tree_sees_two_directories_and_the_named_devices() {
        let json = br#"{"programs":{
            "qemu":{"run":["/b/image-builder","run","--tree","/t"],"program":"/usr/bin/qemu"},
            "swtpm":{"run":[],"program":"/usr/bin/swtpm"},
            "mkfs.erofs":{"run":[],"program":"mkfs.erofs"}}}"#;
        let tools = Tools::from_json(json).expect("a description");
        assert_eq!(
            tools
                .qemu
                .words(&room(), vec!["-m".into(), "1".into()])
                .join(" "),
            "/b/image-builder run --tree /t --read /srv/image=/image --write /srv/run=/run/chrysalis --device /dev/kvm \
             -- /usr/bin/qemu -m 1"
        );
        let with_model = Room {
            model: Some(Path::new("/srv/model.img")),
            ..room()
        };
        assert_eq!(
            tools.qemu.words(&with_model, Vec::new()).join(" "),
            "/b/image-builder run --tree /t --read /srv/image=/image --read /srv/model.img=/model.img \
             --write /srv/run=/run/chrysalis --device /dev/kvm -- /usr/bin/qemu"
        );
        assert_eq!(tools.qemu.model_place(Path::new("/srv/model.img")), MODEL);
        let places = tools
            .qemu
            .places(Path::new("/srv/image"), Path::new("/srv/run"));
        assert_eq!((places.image.as_str(), places.run.as_str()), (IMAGE, RUN));
        assert_eq!(
            tools.qemu.alone(&["--version"]).join(" "),
            "/b/image-builder run --tree /t -- /usr/bin/qemu --version"
        );
        let swtpm = tools.swtpm.expect("listed");
        assert_eq!(
            swtpm.words(&room(), vec!["a".into()]),
            ["/usr/bin/swtpm", "a"]
        );
        let places = swtpm.places(Path::new("/srv/image"), Path::new("/srv/run"));
        assert_eq!(places.run, "/srv/run");
        assert_eq!(tools.vhost_device_vsock, None);
    }

    #[test]
    fn a_description_without_a_usable_qemu_is_refused() {
        let check = |json: &str, expected: &str| {
            let error = Tools::from_json(json.as_bytes())
                .expect_err(json)
                .to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{}", "missing field");
        check(r#"{"programs":{}}"#, "lists no qemu");
        check(
            r#"{"programs":{"qemu":{"run":[],"program":""}}}"#,
            "no usable program",
        );
        check(
            r#"{"programs":{"qemu":{"run":["a\u0000b"],"program":"c"}}}"#,
            "no usable program",
        );
        check(
            r#"{"programs":{"qemu":{"run":[],"program":"q","shell":true}}}"#,
            "unknown field",
        );
        check(r#"{"programs":{"qemu":{"program":"q"}}}"#, "missing field");
        let many = format!(
            r#"{{"programs":{{"qemu":{{"run":[{}"x"],"program":"q"}}}}}}"#,
            r#""x","#.repeat(64)
        );
        check(&many, "no usable program");
    }
}
