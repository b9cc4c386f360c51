//! The recipe: what an image is made of, by name. People write it; `image-builder lock` turns its names into digests.
//!
//! Trusts its author about what belongs into an image. Promises that a [`Recipe`] has no bad value: every name is of the
//! form that its kind has, every list is within [`crate::limits`], nothing appears twice, and a key that this version does
//! not know was refused, because an ignored line would be a line of the image that is missing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::debian::is_package_name;
use crate::limits::{
    CMDLINE_BYTES_MAX, MEMORY_MIB_MAX, RECIPE_BYTES_MAX, RECIPE_LIST_MAX, VCPUS_MAX,
};
use crate::lock::{base_url, is_plain_name};
use crate::yaml;

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    version: u32,
    /// Which kind of guest this is; the manifest carries it to whoever decides whether to believe the guest.
    pub profile: String,
    /// The lock's file name, beside the recipe.
    pub lock: String,
    /// Where the packages come from.
    pub debian: Debian,
    /// What runs before the kernel.
    pub firmware: Firmware,
    /// The kernel.
    pub kernel: Kernel,
    /// Programs that make the image and run it, and are no part of it.
    pub tools: Tools,
    /// The version of `vhost-device-vsock`, compiled from the crate registry; none when the image needs no vsock.
    pub vhost_device_vsock: Option<String>,
    /// What the kernel starts.
    pub initrd: Initrd,
    /// What the initrd mounts and starts; none when the initrd is all there is.
    pub root: Option<Root>,
    /// Words of the kernel's command line, in order.
    pub cmdline: Vec<String>,
    /// The machine that the image is measured for.
    pub machine: Machine,
}

/// A Debian archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Its base URL.
    pub mirror: String,
    /// `trixie`, or `trixie-backports`.
    pub suite: String,
    /// `main` and the like.
    pub components: Vec<String>,
}

/// A file of a package that becomes the machine's firmware.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Which package.
    pub package: String,
    /// Which file of it, relative to the file system's root.
    pub file: String,
}

/// A package of a kernel: itself or a metapackage that depends on one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Which package.
    pub package: String,
}

/// Packages whose dependency closures become trees.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// Those that make the image.
    pub build: Vec<String>,
    /// Those that run it.
    pub run: Vec<String>,
}

/// What lies in the initial RAM disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initrd {
    /// The name of the program that becomes `/init`.
    pub init: String,
    /// Kernel modules to load; what they depend on comes along.
    pub modules: Vec<String>,
}

/// What lies in the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The name of the program that becomes the guest's first one after the switch.
    pub agent: String,
    /// Models of the model lock.
    pub models: Vec<String>,
}

/// The shape of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processors.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u32,
}

/// What is wrong with a recipe. Always the fault of whoever wrote or chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The file could not be read.
    #[error("the recipe {path} cannot be read: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// It is longer than a recipe should be.
    #[error("the recipe is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// It is not YAML, has a key we do not know, or lacks one we need.
    #[error("the recipe does not parse: {0}")]
    Syntax(String),
    /// It is of another version.
    #[error("the recipe has version {got}; this program reads version 1")]
    Version {
        /// The version it names.
        got: u32,
    },
    /// A value is not of the form that its key asks for.
    #[error("the recipe's {key} is `{got}`, which is not {form}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it says.
        got: String,
        /// What it should look like.
        form: &'static str,
    },
    /// A list is empty or too long.
    #[error("the recipe's {key} has {got} entries; it may have from {min} to {max}")]
    Count {
        /// Which key.
        key: &'static str,
        /// How many there are.
        got: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A list has a name twice.
    #[error("the recipe's {key} has `{name}` twice")]
    Twice {
        /// Which key.
        key: &'static str,
        /// The name.
        name: String,
    },
}

impl Recipe {
    /// Reads a recipe from `path`, no more of it than the limit.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let unreadable = |error: std::io::Error| RecipeError::Unreadable {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(RECIPE_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        Self::parse(&text)
    }

    /// Parses and checks a recipe.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        if text.len() as u64 > RECIPE_BYTES_MAX {
            return Err(RecipeError::TooLong {
                bytes_max: RECIPE_BYTES_MAX,
            });
        }
        let mut recipe: Self = yaml::parse(text).map_err(RecipeError::Syntax)?;
        if recipe.version != 1 {
            return Err(RecipeError::Version {
                got: recipe.version,
            });
        }
        recipe.check()?;
        recipe.debian.mirror = recipe.debian.mirror.trim_end_matches('/').to_owned();
        Ok(recipe)
    }

    /// Where the lock lies, for a recipe that lies at `recipe`.
    pub fn lock_path(&self, recipe: &Path) -> PathBuf {
        recipe.with_file_name(&self.lock)
    }

    fn check(&self) -> Result<(), RecipeError> {
        let Debian {
            mirror,
            suite,
            components,
        } = &self.debian;
        one("profile", &self.profile, NAME)?;
        one("lock", &self.lock, NAME)?;
        one("debian.mirror", mirror, URL)?;
        one("debian.suite", suite, NAME)?;
        many("debian.components", components, 1, NAME)?;
        one("firmware.package", &self.firmware.package, PACKAGE)?;
        one("firmware.file", &self.firmware.file, FILE)?;
        one("kernel.package", &self.kernel.package, PACKAGE)?;
        many("tools.build", &self.tools.build, 0, PACKAGE)?;
        many("tools.run", &self.tools.run, 0, PACKAGE)?;
        if let Some(version) = &self.vhost_device_vsock {
            one("vhost_device_vsock", version, VERSION)?;
        }
        one("initrd.init", &self.initrd.init, NAME)?;
        many("initrd.modules", &self.initrd.modules, 0, NAME)?;
        if let Some(root) = &self.root {
            one("root.agent", &root.agent, NAME)?;
            // Simulation is another image (SECURITY.md 6): one that says so, and no other, has the agent that knows simulators.
            if (self.profile == "sim") != (root.agent == "guest-agent-sim") {
                let form = "the agent of its profile: guest-agent-sim for sim, and for no other";
                return Err(bad("root.agent", &root.agent, form));
            }
            many("root.models", &root.models, 0, NAME)?;
        }
        many("cmdline", &self.cmdline, 0, WORD)?;
        let length: usize = self.cmdline.iter().map(|word| word.len() + 1).sum();
        if length > CMDLINE_BYTES_MAX {
            return Err(bad("cmdline", &self.cmdline.join(" "), "short enough"));
        }
        self.machine.check()
    }
}

impl Machine {
    fn check(self) -> Result<(), RecipeError> {
        if !(1..=VCPUS_MAX).contains(&self.vcpus) {
            let got = self.vcpus.to_string();
            return Err(bad("machine.vcpus", &got, "from 1 to 512"));
        }
        if !(64..=MEMORY_MIB_MAX).contains(&self.memory_mib) {
            let got = self.memory_mib.to_string();
            return Err(bad("machine.memory_mib", &got, "from 64 to 16777216"));
        }
        Ok(())
    }
}

/// The form of a value, in words and as a test.
type Form = (&'static str, fn(&str) -> bool);

const NAME: Form = (
    "a plain name of letters, digits, `.`, `-` and `_`",
    is_plain_name,
);
const URL: Form = ("an http or https URL", |text| base_url(text).is_some());
const PACKAGE: Form = ("the name of a Debian package", is_package_name);
const FILE: Form = ("a plain relative path", |text| {
    text.len() <= 1024 && text.split('/').all(is_plain_name)
});
const VERSION: Form = ("a version like 1.2.3", |text| {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| (1..=9).contains(&part.len()) && digits(part);
    text.split('.').count() == 3 && text.split('.').all(number)
});
const WORD: Form = ("one printable ASCII word without quotes", |text| {
    // A quote would let the kernel join words that we count as two.
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
});

fn one(key: &'static str, value: &str, (form, holds): Form) -> Result<(), RecipeError> {
    if holds(value) {
        Ok(())
    } else {
        Err(bad(key, value, form))
    }
}

fn many(key: &'static str, values: &[String], min: usize, form: Form) -> Result<(), RecipeError> {
    let (got, max) = (values.len(), RECIPE_LIST_MAX);
    if !(min..=max).contains(&got) {
        return Err(RecipeError::Count { key, got, min, max });
    }
    for (at, value) in values.iter().enumerate() {
        one(key, value, form)?;
        if values[..at].contains(value) {
            return Err(RecipeError::Twice {
                key,
                name: value.clone(),
            });
        }
    }
    Ok(())
}

fn bad(key: &'static str, got: &str, form: &'static str) -> RecipeError {
    RecipeError::Value {
        key,
        got: got.chars().take(80).collect(),
        form,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIM: &str = include_str!("../recipes/sim.yaml");

    /// The committed recipe with `from` replaced, and the error expected of it.
    fn check(from: &str, to: &str, expected: &str) {
        assert!(SIM.contains(from), "the case needs `{from}`");
        let error = Recipe::parse(&SIM.replacen(from, to, 1)).expect_err(to);
        assert!(
            error.to_string().contains(expected),
            "{from} -> {to}: {error}"
        );
    }

    #[test]
    fn the_committed_recipe_parses() {
        let recipe = Recipe::parse(SIM).expect("committed");
        assert_eq!(recipe.profile, "sim");
        let run = ["qemu-system-x86", "swtpm", "systemd-boot-efi"];
        assert_eq!(recipe.tools.run, run);
        assert_eq!(recipe.vhost_device_vsock.as_deref(), Some("0.3.0"));
        assert_eq!(
            recipe.lock_path(Path::new("a/sim.yaml")),
            Path::new("a/sim.lock.json")
        );
    }

    #[test]
    fn a_recipe_may_do_without_root_and_vsock() {
        let start = SIM.find("# The root:").expect("there");
        let end = SIM.find("# docs/image.md").expect("there");
        let text = [&SIM[..start], &SIM[end..]]
            .concat()
            .replace("vhost_device_vsock: 0.3.0\n", "");
        let recipe = Recipe::parse(&text).expect("a smaller recipe");
        assert_eq!((recipe.root, recipe.vhost_device_vsock), (None, None));
    }

    #[test]
    fn a_bad_recipe_is_refused_with_its_reason() {
        check("version: 1", "version: 2", "version 2");
        check("version: 1", "version: 1\nextra: 1", "unknown field");
        check("vcpus: 2", "vcpus: 2, numa: 1", "unknown field");
        check("profile: sim", "profile: ../sim", "plain name");
        check("profile: sim", "profile: cpu", "agent of its profile");
        check(
            "agent: guest-agent-sim",
            "agent: guest-agent",
            "agent of its profile",
        );
        check("lock: sim.lock.json", "lock: a/b", "plain name");
        check("http://deb", "ftp://deb", "http or https");
        check("suite: trixie", "suite: tri/xie", "plain name");
        check("components: [main]", "components: []", "from 1 to");
        check("package: ovmf", "package: OVMF", "Debian package");
        check("package: ovmf", "package: o", "Debian package");
        check("package: ovmf", "package: -ovmf", "Debian package");
        check("file: usr", "file: /usr", "relative path");
        check("file: usr/share", "file: usr/../share", "relative path");
        check(
            "[qemu-system-x86, swtpm, systemd-boot-efi]",
            "[swtpm, swtpm]",
            "twice",
        );
        check("vsock: 0.3.0", "vsock: 0.3", "version like");
        check("vsock: 0.3.0", "vsock: 0.3.+1", "version like");
        check("init: stage0", "init: a b", "plain name");
        check("[virtio_blk,", "[../virtio_blk,", "plain name");
        check("- panic=-1", "- panic=-1 init=/bin/sh", "printable ASCII");
        check("- panic=-1", "- 'a\"b'", "printable ASCII");
        check("- panic=-1", "- ''", "printable ASCII");
        check("- panic=-1", "- \u{e9}", "printable ASCII");
        check("vcpus: 2", "vcpus: 0", "from 1 to 512");
        check("vcpus: 2", "vcpus: -1", "does not parse");
        check("memory_mib: 2048", "memory_mib: 1", "from 64");
        let long = format!("- {}", "a".repeat(CMDLINE_BYTES_MAX));
        check("- panic=-1", &long, "short enough");
    }

    #[test]
    fn a_recipe_with_any_byte_changed_is_an_error_or_a_recipe() {
        for at in 0..SIM.len() {
            let mut bytes = SIM.as_bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let _ = Recipe::parse(text);
            }
        }
        let padded = format!("{SIM}#{}", " ".repeat(RECIPE_BYTES_MAX as usize));
        assert!(matches!(
            Recipe::parse(&padded),
            Err(RecipeError::TooLong { .. })
        ));
    }
}
