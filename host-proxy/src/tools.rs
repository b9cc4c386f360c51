//! The programs that a launch may start, and how: the description that `image-builder tools` writes.
//!
//! A program with an empty `run` list is started directly and sees the host's paths. Any other is started by the command in
//! its list, `image-builder run` with a root, and sees the image at `/image` and the run directory at `/run/chrysalis`, so
//! that its arguments are the same on every host.

use crate::error::{Context, Error, Fault, read_file};
use crate::limits::{TOOL_ARGUMENTS_MAX, TOOLS_BYTES_MAX};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The programs of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub(crate) qemu: Tool,
    pub(crate) swtpm: Option<Tool>,
    pub(crate) vhost_device_vsock: Option<Tool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    run: Vec<String>,
    program: String,
}

/// What a program in a sandbox may see of the host.
pub(crate) struct Sandbox<'a> {
    /// Readable.
    pub(crate) image: Option<&'a Path>,
    /// A file, readable.
    pub(crate) model: Option<&'a Path>,
    /// Writable.
    pub(crate) run: &'a Path,
    pub(crate) devices: &'a [&'a str],
    /// Whether it sees the host's devices described, as a program does that takes one of them.
    pub(crate) sysfs: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    programs: BTreeMap<String, Tool>,
}

impl Tools {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let parsed = Self::from_json(&read_file(path, TOOLS_BYTES_MAX)?);
        parsed.context(Fault::Configuration, || path.display())
    }

    /// Refuses programs that are not there, by the name of the file that is missing: a host that was set up anew may
    /// have lost the builder that starts them.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        let named = [
            ("qemu", Some(&self.qemu)),
            ("swtpm", self.swtpm.as_ref()),
            ("vhost-device-vsock", self.vhost_device_vsock.as_ref()),
        ];
        for (name, tool) in named {
            let Some(tool) = tool else { continue };
            let first = tool.run.first().unwrap_or(&tool.program);
            // A bare name is searched in PATH when it is started.
            let no_program = first.contains('/') && !is_executable(Path::new(first));
            let problem = match tool.needs().find(|needed| !Path::new(needed).exists()) {
                _ if no_program => format!("{first} is not a program on this host (any more)"),
                Some(needed) => format!("{needed} is not on this host (any more)"),
                None => continue,
            };
            let words = format!(
                "{}: programs.{name}: {problem}; write the file again with `image-builder tools`",
                path.display()
            );
            return Err(Error::new(Fault::Configuration, words));
        }
        Ok(())
    }

    /// Parses a description. Programs that a launch does not need are ignored.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let configuration = Fault::Configuration;
        let parsed = serde_json::from_slice(json);
        let File { mut programs } = parsed.context(configuration, || "description of tools")?;
        for (name, tool) in &programs {
            let words = || tool.run.iter().chain([&tool.program]);
            let bad = |word: &String| word.is_empty() || word.contains('\0');
            if tool.run.len() > TOOL_ARGUMENTS_MAX || words().any(bad) {
                let words = format!(
                    "programs.{name}: no argument may be empty or contain NUL, and at most {TOOL_ARGUMENTS_MAX} are allowed"
                );
                return Err(Error::new(configuration, words));
            }
        }
        Ok(Tools {
            qemu: programs.remove("qemu").ok_or_else(|| missing("qemu"))?,
            swtpm: programs.remove("swtpm"),
            vhost_device_vsock: programs.remove("vhost-device-vsock"),
        })
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

pub(crate) fn missing(name: &str) -> Error {
    let words = format!("the description of tools has no {name}; `image-builder tools` writes one");
    Error::new(Fault::Configuration, words)
}

impl Tool {
    /// A program of the host, started directly.
    pub(crate) fn of_the_host(program: impl Into<String>) -> Self {
        Tool {
            run: Vec::new(),
            program: program.into(),
        }
    }

    /// What it sees of the host whatever it is started for: its root (`--tree`), and files (`--read HOST=INSIDE`).
    fn needs(&self) -> impl Iterator<Item = &str> {
        self.run.windows(2).filter_map(|words| match &*words[0] {
            "--tree" => Some(&*words[1]),
            "--read" => words[1].split('=').next(),
            _ => None,
        })
    }

    /// The same for every start of this program.
    pub(crate) fn identity(&self) -> String {
        let words = self.run.iter().chain([&self.program]);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Where the program finds the image's directory.
    pub(crate) fn image_path(&self, on_host: &Path) -> String {
        self.path(on_host, IMAGE)
    }

    /// Where it finds the model's volume.
    pub(crate) fn model_path(&self, on_host: &Path) -> String {
        self.path(on_host, MODEL)
    }

    /// Where it finds the run directory.
    pub(crate) fn run_path(&self, on_host: &Path) -> String {
        self.path(on_host, RUN)
    }

    fn path(&self, on_host: &Path, in_sandbox: &str) -> String {
        match self.run.is_empty() {
            true => on_host.to_string_lossy().into_owned(),
            false => in_sandbox.into(),
        }
    }

    /// The program and its arguments, behind what confines it to `sandbox`, or to no file of the host.
    pub(crate) fn command_line(
        &self,
        sandbox: Option<&Sandbox>,
        arguments: Vec<String>,
    ) -> Vec<String> {
        let mut words = self.run.clone();
        if !words.is_empty() {
            if let Some(sandbox) = sandbox {
                let mut bind = |option: &str, host: &Path, at: &str| {
                    words.extend([option.into(), format!("{}={at}", host.display())]);
                };
                if let Some(image) = sandbox.image {
                    bind("--read", image, IMAGE);
                }
                if let Some(model) = sandbox.model {
                    bind("--read", model, MODEL);
                }
                if sandbox.sysfs {
                    bind("--read", Path::new(SYSFS), SYSFS);
                }
                bind("--write", sandbox.run, RUN);
                for device in sandbox.devices {
                    words.extend(["--device".into(), (*device).into()]);
                }
            }
            words.push("--".into());
        }
        words.push(self.program.clone());
        words.extend(arguments);
        words
    }
}

const SYSFS: &str = "/sys";
const IMAGE: &str = "/image";
const MODEL: &str = "/model.img";
const RUN: &str = "/run/chrysalis";

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> Sandbox<'static> {
        Sandbox {
            image: Some(Path::new("/srv/image")),
            model: None,
            run: Path::new("/srv/run"),
            devices: &["/dev/kvm"],
            sysfs: false,
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
                .command_line(Some(&sandbox()), vec!["-m".into(), "1".into()])
                .join(" "),
            "/b/image-builder run --tree /t --read /srv/image=/image --write /srv/run=/run/chrysalis --device /dev/kvm \
             -- /usr/bin/qemu -m 1"
        );
        let with_model = Sandbox {
            model: Some(Path::new("/srv/model.img")),
            ..sandbox()
        };
        assert_eq!(
            tools
                .qemu
                .command_line(Some(&with_model), Vec::new())
                .join(" "),
            "/b/image-builder run --tree /t --read /srv/image=/image --read /srv/model.img=/model.img \
             --write /srv/run=/run/chrysalis --device /dev/kvm -- /usr/bin/qemu"
        );
        assert_eq!(tools.qemu.model_path(Path::new("/srv/model.img")), MODEL);
        assert_eq!(tools.qemu.image_path(Path::new("/srv/image")), IMAGE);
        assert_eq!(tools.qemu.run_path(Path::new("/srv/run")), RUN);
        assert_eq!(
            tools
                .qemu
                .command_line(None, vec!["--version".into()])
                .join(" "),
            "/b/image-builder run --tree /t -- /usr/bin/qemu --version"
        );
        let swtpm = tools.swtpm.expect("listed");
        assert_eq!(
            swtpm.command_line(Some(&sandbox()), vec!["a".into()]),
            ["/usr/bin/swtpm", "a"]
        );
        assert_eq!(swtpm.run_path(Path::new("/srv/run")), "/srv/run");
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
        check(r#"{"programs":{}}"#, "has no qemu");
        check(
            r#"{"programs":{"qemu":{"run":[],"program":""}}}"#,
            "no argument may be empty",
        );
        check(
            r#"{"programs":{"qemu":{"run":["a\u0000b"],"program":"c"}}}"#,
            "no argument may be empty",
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
        check(&many, "no argument may be empty");
    }
}
