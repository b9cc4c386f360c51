//! The recipe: what an image is made of, by name. People write it; `image-builder lock` turns its names into digests.
//!
//! Trusts its author about what belongs into an image, and about whose signatures stand for an archive. Promises that a
//! [`Recipe`] has no bad value: every name is of the form that its kind has, every list is within [`crate::limits`], nothing
//! appears twice, whatever names something else of the recipe names something that is there, and a key that this version does
//! not know was refused, because an ignored line would be a line of the image that is missing.

mod archive;
mod extras;
mod form;
mod module_builds;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::yaml;
use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::{CMDLINE_BYTES_MAX, MEMORY_MIB_MAX, RECIPE_BYTES_MAX, VCPUS_MAX};

pub use archive::{Choice, Debian, Fingerprint, Key, Suite};
pub use extras::{Input, RootFile, Source};
pub(crate) use extras::{file_of, is_wheel_of, normalised};
pub(crate) use form::is_plain_path;
use form::{EDK2, FILE, NAME, PACKAGE, VERSION, WORD, bad, many, one, unique};
pub use module_builds::{Edit, Modules};

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
    /// What is locked beside Debian's packages.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Kernel modules that are compiled, because the kernel's package does not have them; none by default.
    pub modules: Option<Modules>,
    /// What the kernel starts.
    pub initrd: Initrd,
    /// What the initrd mounts and starts; none when the initrd is all there is.
    pub root: Option<Root>,
    /// Words of the kernel's command line, in order.
    pub cmdline: Vec<String>,
    /// See [`Recipe::outputs`].
    outputs: Option<Vec<Output>>,
    /// The machine that the image is measured for.
    pub machine: Machine,
}

/// A file of a package that becomes the machine's firmware.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Which package.
    pub package: Choice,
    /// Which file of it, relative to the file system's root.
    pub file: String,
    /// The edk2 release that it was built from, for a file that `measurements` does not know by digest. Only `202502` can be
    /// said (or `2025.02`, `edk2-stable202502`): what newer ones measure depends on the host's processor.
    pub edk2: Option<String>,
}

/// A package of a kernel: itself or a metapackage that depends on one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Which package.
    pub package: Choice,
}

/// Packages whose dependency closures become trees.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// Those that make the image.
    pub build: Vec<Choice>,
    /// Those that run it.
    pub run: Vec<Choice>,
    /// Those that compile kernel modules, the kernel's headers among them.
    #[serde(default)]
    pub modules: Vec<Choice>,
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
    /// Programs of ours that it starts and that open libraries of the root while they run.
    #[serde(default)]
    pub programs: Vec<String>,
    /// What one of them computes with on a GPU; none by default.
    pub cubins: Option<Cubins>,
    /// Models of the model lock.
    pub models: Vec<String>,
    /// Debian packages that are unpacked into it, with what they depend on.
    #[serde(default)]
    pub packages: Vec<Choice>,
    /// Packages of the closure whose maintainer scripts the image can do without, although nobody reviewed them.
    #[serde(default)]
    pub ignore_scripts: Vec<String>,
    /// Libraries that programs open by name while they run, and that have to be there.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Single files of inputs, or directories of them.
    #[serde(default)]
    pub files: Vec<RootFile>,
}

/// Kernels for a GPU, compiled from CUDA sources of ours: `names: [product]` is `kernels/product.cu` of the program's package, and
/// `/usr/lib/chrysalis/cubins/product.cubin` in the root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cubins {
    /// Which of the inputs has NVRTC: a wheel.
    pub compiler: String,
    /// Which program of the root they are for.
    pub program: String,
    /// What has to come out, by name.
    pub names: Vec<String>,
}

/// What is written beside the files of a direct boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Kernel, initrd and command line as one program, a unified kernel image.
    Uki,
    /// That program and the root on one disk, which firmware starts from. It takes the root's space once more, except where
    /// files can share blocks.
    Disk,
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

impl Recipe {
    /// Reads a recipe from `path`, no more of it than the limit.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text(path, RECIPE_BYTES_MAX);
        Self::parse(&text.map_err(Error::of(Fault::Recipe, "the recipe cannot be read: "))?)
    }

    /// Parses and checks a recipe.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() as u64 > RECIPE_BYTES_MAX {
            return Err(error!(
                Recipe,
                "the recipe is longer than {RECIPE_BYTES_MAX} bytes"
            ));
        }
        let syntax = Error::of(Fault::Recipe, "the recipe does not parse: ");
        // Before anything else, so that a recipe of another version hears of its version and not of an unknown key.
        let Version { version } = yaml::parse(text).map_err(&syntax)?;
        if version != VERSION_READ {
            return Err(error!(
                Recipe,
                "the recipe has version {version}; this program reads version {VERSION_READ}"
            ));
        }
        let mut recipe: Self = yaml::parse(text).map_err(syntax)?;
        recipe.check()?;
        recipe.debian.settle();
        Ok(recipe)
    }

    /// Where the lock lies, for a recipe that lies at `recipe`.
    pub fn lock_path(&self, recipe: &Path) -> PathBuf {
        recipe.with_file_name(&self.lock)
    }

    /// What is written beside the files of a direct boot. A recipe that does not say it has both, if it has a root and the stub.
    pub fn outputs(&self) -> &[Output] {
        match &self.outputs {
            Some(outputs) => outputs,
            None if self.root.is_some() && self.has_stub() => &[Output::Uki, Output::Disk],
            None => &[],
        }
    }

    fn has_stub(&self) -> bool {
        self.tools.run.iter().any(|choice| choice.name == STUB)
    }

    /// The input called `name`.
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// The Debian packages among its inputs: those that are taken without what they depend on.
    pub fn package_inputs(&self) -> impl Iterator<Item = &Choice> {
        self.inputs.iter().filter_map(|input| match &input.source {
            Source::Deb { package } => Some(package),
            _ => None,
        })
    }

    fn check(&self) -> Result<(), Error> {
        if !PROFILES.contains(&self.profile.as_str()) {
            return Err(bad("profile", &self.profile, "sim, cpu, h100 or dev"));
        }
        one("lock", &self.lock, NAME)?;
        self.debian.check()?;
        let choose = |key, choice| self.debian.has_suite_of(key, choice);
        choose("firmware.package", &self.firmware.package)?;
        one("firmware.file", &self.firmware.file, FILE)?;
        if let Some(release) = &self.firmware.edk2 {
            one("firmware.edk2", release, EDK2)?;
        }
        choose("kernel.package", &self.kernel.package)?;
        self.debian.choices("tools.build", &self.tools.build)?;
        self.debian.choices("tools.run", &self.tools.run)?;
        self.debian.choices("tools.modules", &self.tools.modules)?;
        if let Some(version) = &self.vhost_device_vsock {
            one("vhost_device_vsock", version, VERSION)?;
        }
        unique("inputs", 0, self.inputs.iter().map(|input| &*input.name))?;
        let packages: Vec<_> = self.package_inputs().collect();
        unique(
            "inputs' deb",
            0,
            packages.iter().map(|choice| &*choice.name),
        )?;
        for choice in packages {
            choose("inputs' deb", choice)?;
        }
        match &self.modules {
            Some(modules) => modules.check(self)?,
            None if !self.tools.modules.is_empty() => {
                let form = "there without anything to compile: the recipe has no modules";
                return Err(bad("tools.modules", &self.tools.modules[0].name, form));
            }
            None => {}
        }
        one("initrd.init", &self.initrd.init, NAME)?;
        // A shell on the console is another image, too, and says so.
        let dev = self.profile == "dev";
        if dev != (self.initrd.init == "stage0-dev")
            || dev != self.cmdline.iter().any(|word| word == INSECURE)
        {
            let form = "that of its profile: stage0-dev with `chrysalis.insecure` on the command line for dev, and for no other";
            return Err(bad("initrd.init", &self.initrd.init, form));
        }
        many("initrd.modules", &self.initrd.modules, 0, NAME)?;
        if let Some(root) = &self.root {
            self.check_root(root)?;
        }
        many("cmdline", &self.cmdline, 0, WORD)?;
        let length: usize = self.cmdline.iter().map(|word| word.len() + 1).sum();
        if length > CMDLINE_BYTES_MAX {
            return Err(bad("cmdline", &self.cmdline.join(" "), "short enough"));
        }
        self.check_outputs()?;
        self.machine.check()
    }

    fn check_outputs(&self) -> Result<(), Error> {
        let outputs = self.outputs();
        let refused = |form| Err(bad("outputs", &format!("{outputs:?}"), form));
        match outputs {
            [] => Ok(()),
            _ if self.root.is_none() => refused("there without a root"),
            _ if !self.has_stub() => refused("made without systemd-boot-efi in tools.run"),
            [Output::Uki] | [Output::Uki, Output::Disk] => Ok(()),
            _ => refused("one of [], [uki] and [uki, disk]"),
        }
    }

    fn check_root(&self, root: &Root) -> Result<(), Error> {
        one("root.agent", &root.agent, NAME)?;
        // Simulation is another image (SECURITY.md 6): one that says so, and no other, has the agent that knows simulators.
        if (self.profile == "sim") != (root.agent == "guest-agent-sim") {
            let form = "the agent of its profile: guest-agent-sim for sim, and for no other";
            return Err(bad("root.agent", &root.agent, form));
        }
        many("root.programs", &root.programs, 0, NAME)?;
        // Without what asks the GPU no guest for one comes up; nothing else has a driver's libraries to open.
        if (self.profile == "h100") != (root.programs == [GATE]) || root.programs.len() > 1 {
            let form = "gpu-worker for h100, and none for another profile";
            return Err(bad("root.programs", &root.programs.join(", "), form));
        }
        if let Some(cubins) = &root.cubins {
            let source = self.input(&cubins.compiler).map(|input| &input.source);
            if !matches!(source, Some(Source::Pypi { .. })) {
                let form = "a wheel among its inputs";
                return Err(bad("root.cubins.compiler", &cubins.compiler, form));
            }
            if !root.programs.contains(&cubins.program) {
                let form = "among its programs";
                return Err(bad("root.cubins.program", &cubins.program, form));
            }
            many("root.cubins.names", &cubins.names, 1, NAME)?;
        }
        many("root.models", &root.models, 0, NAME)?;
        self.debian.choices("root.packages", &root.packages)?;
        many("root.libraries", &root.libraries, 0, NAME)?;
        many("root.ignore_scripts", &root.ignore_scripts, 0, PACKAGE)?;
        unique("root.files", 0, root.files.iter().map(|file| &*file.to))?;
        for file in &root.files {
            one("root.files' from", &file.from, FILE)?;
            one("root.files' to", &file.to, FILE)?;
            if self.input(&file.input).is_none() {
                return Err(bad("root.files' input", &file.input, "among its inputs"));
            }
        }
        Ok(())
    }
}

impl Machine {
    fn check(self) -> Result<(), Error> {
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

/// What asks a GPU for evidence.
const GATE: &str = "gpu-worker";

/// The one key that every version of a recipe has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Debian's package with the stub of unified kernel images.
pub(crate) const STUB: &str = "systemd-boot-efi";
/// What this program reads.
const VERSION_READ: u32 = 2;
/// The word of the measured command line by which a guest for developers says what it is.
const INSECURE: &str = "chrysalis.insecure";
/// Kinds of guests.
const PROFILES: [&str; 4] = ["sim", "cpu", "h100", "dev"];

#[cfg(test)]
mod tests;
