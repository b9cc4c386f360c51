//! The kernel of an image: its file, and the modules that the initrd loads, in an order in which each finds what it needs.
//!
//! Debian ships no `modules.dep` (a maintainer script would make it), so dependencies come from where `depmod` takes them:
//! `depends=` in the section `.modinfo` of each module. What `modules.builtin` lists needs no file. `softdep=` is not followed:
//! a recipe names what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use super::out_of_tree::symbols;
use crate::error::{Error, error};
use crate::files;
use crate::formats::compression::xz;
use crate::limits::{
    KERNEL_DIRECTORY_DEPTH_MAX, KERNEL_FILES_MAX, MODULE_BYTES_MAX, MODULE_DEPTH_MAX,
    MODULE_XZ_MEMORY_KIB_MAX, MODULES_BUILTIN_BYTES_MAX,
};

/// A kernel package, unpacked.
#[derive(Debug)]
pub struct Kernel {
    release: String,
    image: PathBuf,
    builtin: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
    /// Where a module is from that is in none of its packages.
    added: BTreeMap<String, String>,
}

/// A module as the kernel takes it: not compressed, signature still appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_` where the file name may have `-`.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// Where it is from, for people, if that is none of the kernel's packages.
    pub from: Option<String>,
    /// The bus whose devices it drives, if the recipe asked for it by name. What comes along because another module needs it
    /// gets no device.
    pub drives: Option<Bus>,
}

/// A bus that a host can put devices on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// PCI itself.
    Pci,
    /// Virtio, whose devices lie behind PCI ones.
    Virtio,
}

impl Bus {
    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pci => "pci",
            Self::Virtio => "virtio",
        }
    }
}

impl Kernel {
    /// Looks at the tree of one kernel package.
    pub fn open(tree: &Path) -> Result<Self, Error> {
        let wrong = |problem: &str| {
            let tree = tree.display();
            error!(
                Recipe,
                "{tree} is not an unpacked kernel package: {problem}"
            )
        };
        let modules = tree.join("usr/lib/modules");
        let mut releases = names(&modules)?;
        let Some(release) = releases.pop().filter(|_| releases.is_empty()) else {
            return Err(wrong("usr/lib/modules holds not exactly one kernel"));
        };
        let directory = modules.join(&release);
        // Where Debian's packages put it: that of 6.12, and that of 7.3.
        let places = [
            tree.join("boot").join(format!("vmlinuz-{release}")),
            directory.join("vmlinuz"),
        ];
        let Some(image) = places.into_iter().find(|path| files::is_plain(path)) else {
            let problem =
                format!("it has neither boot/vmlinuz-{release} nor a vmlinuz beside its modules");
            return Err(wrong(&problem));
        };
        let path = directory.join("modules.builtin");
        refuse_link(&path)?;
        let builtin = files::read_text(&path, MODULES_BUILTIN_BYTES_MAX)?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        let mut kernel = Self {
            release,
            image,
            builtin,
            files: BTreeMap::new(),
            added: BTreeMap::new(),
        };
        let mut seen = 0;
        kernel.collect(&directory.join("kernel"), 0, &mut seen, &wrong)?;
        Ok(kernel)
    }

    /// Its version, as `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel itself, as the package has it.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The modules called `names` and all that they need, each after what it needs and otherwise in the order of `names`.
    /// What is built in is left out.
    pub fn load_order(&self, names: &[String]) -> Result<Vec<Module>, Error> {
        let mut order = Order {
            kernel: self,
            placed: BTreeSet::new(),
            modules: Vec::new(),
        };
        for name in names {
            order.place(&normal(name), &mut Vec::new())?;
        }
        Ok(order.modules)
    }

    /// The same kernel with a module more, which is in none of its packages.
    pub fn with(mut self, name: &str, file: PathBuf, from: String) -> Result<Self, Error> {
        self.added.insert(normal(name), from);
        match self.files.insert(normal(name), file) {
            None => Ok(self),
            Some(_) => Err(error!(
                Recipe,
                "kernel {} has a module `{name}` itself", self.release
            )),
        }
    }

    /// One of its modules: the first by name.
    pub fn example(&self) -> Result<Module, Error> {
        let name = self.files.keys().next();
        self.read(name.map_or("of any name", String::as_str), None)
    }

    /// What its modules say of the kernel that they are for: `vermagic=`.
    pub fn magic(&self) -> Result<String, Error> {
        let example = self.example()?;
        symbols::magic(&example.bytes)
            .map_err(|misfit| self.malformed(&self.files[&example.name], misfit))
    }

    fn collect(
        &mut self,
        directory: &Path,
        depth: usize,
        seen: &mut usize,
        wrong: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error> {
        if depth > KERNEL_DIRECTORY_DEPTH_MAX {
            return Err(wrong("its directories are too deep"));
        }
        for entry in files::entries(directory)? {
            *seen += 1;
            if *seen > KERNEL_FILES_MAX {
                return Err(wrong("it has too many files"));
            }
            // A symlink is neither, and is passed by.
            let kind = entry
                .file_type()
                .map_err(Error::disk("reading", &entry.path()))?;
            if kind.is_dir() {
                self.collect(&entry.path(), depth + 1, seen, wrong)?;
            } else if let Some(name) = module_name(&entry.path()).filter(|_| kind.is_file())
                && let Some(other) = self.files.insert(name.clone(), entry.path())
            {
                // Which of the two came first would depend on the order of the directory.
                let other = other.display();
                return Err(wrong(&format!("`{name}` is there twice, once as {other}")));
            }
        }
        Ok(())
    }

    fn read(&self, name: &str, needed_by: Option<&String>) -> Result<Module, Error> {
        let path = self.files.get(name).ok_or_else(|| {
            let needed = needed_by.map(|by| format!(", which `{by}` needs"));
            let (release, needed) = (&self.release, needed.unwrap_or_default());
            error!(Recipe, "kernel {release} has no module `{name}`{needed}")
        })?;
        refuse_link(path)?;
        let file = files::open(path)?;
        let mut bytes = Vec::new();
        let compressed = path.extension().is_some_and(|extension| extension == "xz");
        let read = if compressed {
            let packed = file.take(MODULE_BYTES_MAX);
            xz(packed, MODULE_XZ_MEMORY_KIB_MAX)
                .take(MODULE_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
        } else {
            file.take(MODULE_BYTES_MAX + 1).read_to_end(&mut bytes)
        };
        read.map_err(|error| self.malformed(path, error))?;
        if bytes.len() as u64 > MODULE_BYTES_MAX {
            return Err(self.malformed(path, format!("longer than {MODULE_BYTES_MAX} bytes")));
        }
        Ok(Module {
            name: name.to_owned(),
            bytes,
            from: self.added.get(name).cloned(),
            drives: None,
        })
    }

    fn malformed(&self, path: &Path, problem: impl std::fmt::Display) -> Error {
        let (path, release) = (path.display(), &self.release);
        error!(Recipe, "{path} is no module of kernel {release}: {problem}")
    }
}

/// A walk through the modules, dependencies first.
struct Order<'a> {
    kernel: &'a Kernel,
    placed: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    /// `path` is the chain of modules that led here.
    fn place(&mut self, name: &str, path: &mut Vec<String>) -> Result<(), Error> {
        if self.placed.contains(name) || self.kernel.builtin.contains(name) {
            return Ok(());
        }
        if path.len() >= MODULE_DEPTH_MAX || path.iter().any(|above| above == name) {
            return Err(error!(
                Recipe,
                "modules of kernel {} need each other: `{name}` again, or more than {MODULE_DEPTH_MAX} in a row",
                self.kernel.release
            ));
        }
        let mut module = self.kernel.read(name, path.last())?;
        let (needs, drives) = depends(&module.bytes)
            .map_err(|problem| self.kernel.malformed(&self.kernel.files[name], problem))?;
        module.drives = drives.filter(|_| path.is_empty());
        path.push(name.to_owned());
        for need in needs {
            self.place(&need, path)?;
        }
        path.pop();
        self.placed.insert(name.to_owned());
        self.modules.push(module);
        Ok(())
    }
}

/// The names after `depends=` in `.modinfo`, a section of NUL-terminated `key=value` strings, and the bus of its `alias=…`, which
/// `modpost` makes from the driver's table of devices.
fn depends(bytes: &[u8]) -> Result<(Vec<String>, Option<Bus>), String> {
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(|error| error.to_string())?;
    let section = file
        .section_by_name(".modinfo")
        .ok_or("it has no .modinfo")?;
    let data = section.data().map_err(|error| error.to_string())?;
    let value = data
        .split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"depends="))
        .ok_or("its .modinfo has no depends=")?;
    let value = std::str::from_utf8(value).map_err(|error| error.to_string())?;
    let names = value.split(',').filter(|name| !name.is_empty());
    let alias = |bus: Bus| {
        let begin = format!("alias={}:", bus.name());
        let mut fields = data.split(|byte| *byte == 0);
        fields.any(|field| field.starts_with(begin.as_bytes()))
    };
    let drives = [Bus::Pci, Bus::Virtio].into_iter().find(|bus| alias(*bus));
    Ok((names.map(normal).collect(), drives))
}

/// `some/dm-verity.ko.xz` is the module `dm_verity`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file
        .strip_suffix(".ko")
        .or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(normal(stem))
}

/// The kernel takes `-` and `_` in module names as the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in files::entries(directory)? {
        // The type of the entry itself: a link could lead out of the tree.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// A link would lead out of the tree, to a file of the host.
fn refuse_link(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        true => Err(Error::disk("reading", path)("not a plain file")),
        false => Ok(()),
    }
}
