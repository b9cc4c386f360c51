//! Kernel modules that the kernel's package does not have, compiled against its headers in the sandbox.
//!
//! ```text
//!  a package's tree ──copied, edited──► /src ┐
//!  headers, compiler, make ──the tree───► /  ├─ strip, make modules ──► checked ──► STORE/modules/<key>/<name>.ko
//!  nothing else ────────────────────────────┘                                                        Module.symvers
//! ```
//! `<key>` stands for all that decides the bytes: the tools' tree, the package, the recipe's section, the kernel's release and the
//! words that this module adds. What is there under it is used again.
//!
//! **Trusts** the tree and the package, which come from the lock. **Promises** that the same inputs make the same modules: paths
//! are those of the sandbox, and user, host and time are set; and that a module which is returned fits its kernel ([`symbols`]).
//! **Lacks** signatures: nobody holds a key that the kernel knows. What guards a module is the measurement of the initrd that it
//! lies in.

mod module_sources;
pub mod symbols;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::kernel_modules::Kernel;
use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::{MODULE_BYTES_MAX, SYMVERS_BYTES_MAX};
use crate::lock::recipe::Modules;
use crate::sandbox::Sandbox;
use crate::store::Store;
use registers::Digest32;
use symbols::{Misfit, Symvers};

/// What is compiled, and against what.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Where the modules are kept.
    pub store: &'a Store,
    /// The section of the recipe.
    pub wanted: &'a Modules,
    /// The tree of the package with the sources.
    pub sources: &'a Path,
    /// The compiler, `make`, and the headers of the kernel: a tree of the store, whose name is its digest.
    pub tools: &'a Path,
    /// A sandbox of that tree.
    pub sandbox: Sandbox,
    /// The kernel that the modules are for.
    pub kernel: &'a Kernel,
}

/// A module that was compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Its name in the recipe, which is its file's.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// What is being done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Somebody else compiles modules into the same store.
    Waiting,
    /// The compiler runs; what it says goes to stderr.
    Compiling {
        /// For which kernel.
        release: &'a str,
    },
}

/// Makes the modules be in the store, and checks that each fits its kernel, whether it was there or not.
pub fn ensure(job: &Job<'_>, progress: &mut dyn FnMut(Step<'_>)) -> Result<Vec<Compiled>, Error> {
    let kernel = symvers_of_kernel(job)?;
    let directory = job.store.root().join("modules");
    let place = directory.join(job.key()?.to_string());
    if !place.is_dir() {
        files::create_directory(&directory)?;
        let _claim = files::lock(&directory.join("lock"), || progress(Step::Waiting))?;
        // Somebody else may have made it while we waited.
        if !place.is_dir() {
            files::make_directory(&place, |new| {
                job.compile(new, progress)?;
                job.check(new, &kernel).map(drop)
            })?;
        }
    }
    job.check(&place, &kernel)
}

impl Job<'_> {
    /// Stands for everything that decides what comes out.
    fn key(&self) -> Result<Digest32, Error> {
        let mut hasher = Sha256::new_with_prefix(b"chrysalis modules 1\n");
        let name = |tree: &Path| tree.file_name().unwrap_or_default().to_owned();
        let Modules {
            // What a recipe calls its input decides nothing.
            input: _,
            directory,
            objects,
            edits,
            make,
            names,
        } = self.wanted;
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(name(self.tools).as_encoded_bytes());
        add(name(self.sources).as_encoded_bytes());
        add(self.kernel.release().as_bytes());
        add(format!("{directory:?} {objects:?} {edits:?} {make:?} {names:?}").as_bytes());
        for (key, value) in ENVIRONMENT {
            add(key.as_bytes());
            add(value.as_bytes());
        }
        Ok(Digest32(hasher.finalize().into()))
    }

    /// Compiles into the directory `new`: the modules and their symbols, and nothing else.
    fn compile(&self, new: &Path, progress: &mut dyn FnMut(Step<'_>)) -> Result<(), Error> {
        let work = new.join("src");
        files::create_directory(&work)?;
        module_sources::copy(&self.sources.join(&self.wanted.directory), &work)?;
        module_sources::edit(&work, &self.wanted.edits)?;
        let release = self.kernel.release();
        progress(Step::Compiling { release });
        if !self.wanted.objects.is_empty() {
            let objects = self.wanted.objects.iter().map(String::as_str);
            let words: Vec<_> = ["--strip-debug", "--"].into_iter().chain(objects).collect();
            self.run(&work, "strip", &words)?;
        }
        let mut words = vec!["modules".to_owned()];
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        words.push(format!("-j{cores}"));
        words.push(format!("KERNEL_UNAME={release}"));
        words.extend(self.wanted.make.iter().cloned());
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.run(&work, "make", &words)?;
        for name in self.files() {
            let (from, to) = (work.join(&name), new.join(&name));
            if !files::is_plain(&from) {
                return Err(error!(
                    Recipe,
                    "the sources were compiled, and there is no {name}"
                ));
            }
            files::rename(&from, &to)?;
            files::sync(&to)?;
        }
        files::remove(&work)
    }

    fn files(&self) -> Vec<String> {
        let names = self.wanted.names.iter();
        let modules = names.map(|name| format!("{name}.ko"));
        modules.chain([SYMVERS.to_owned()]).collect()
    }

    fn run(&self, work: &Path, program: &str, words: &[&str]) -> Result<(), Error> {
        let status = self.command(work, program, words).status();
        let status = status.map_err(Error::of(Fault::Tool, "starting the sandbox: "))?;
        match status.success() {
            true => Ok(()),
            false => Err(error!(
                Tool,
                "`{program} {}` failed ({status})",
                words.join(" ")
            )),
        }
    }

    fn command(&self, work: &Path, program: &str, words: &[&str]) -> Command {
        let mut sandbox = self.sandbox.clone().write(work, SOURCES).cwd(SOURCES);
        for (key, value) in ENVIRONMENT {
            sandbox = sandbox.env(key, value);
        }
        let mut command = sandbox.command(program, words);
        // Hundreds of lines that name each file are for nobody; warnings and errors are on stderr.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Whether each module in `directory` fits the kernel and the other ones.
    fn check(&self, directory: &Path, kernel: &Symvers) -> Result<Vec<Compiled>, Error> {
        let own = symvers(&directory.join(SYMVERS))?;
        let magic = self.kernel.magic()?;
        let mut compiled = Vec::new();
        for name in &self.wanted.names {
            let path = directory.join(format!("{name}.ko"));
            let bytes = files::read(&path, MODULE_BYTES_MAX)?;
            symbols::check(&bytes, &magic, &[kernel, &own])
                .and_then(|()| symbols::check_uses(name, &bytes))
                .map_err(|misfit| self.misfit(name, &misfit))?;
            let name = name.clone();
            compiled.push(Compiled { name, path });
        }
        Ok(compiled)
    }

    fn misfit(&self, name: &str, misfit: &Misfit) -> Error {
        let release = self.kernel.release();
        error!(
            Tool,
            "the module {name} does not fit kernel {release}: {misfit}"
        )
    }
}

/// What the kernel offers, by its headers; and that these are the headers of this very kernel: the kernel's own modules were
/// linked against what they list.
fn symvers_of_kernel(job: &Job<'_>) -> Result<Symvers, Error> {
    let release = job.kernel.release();
    let path = job.tools.join(format!("usr/src/linux-headers-{release}"));
    let path = path.join(SYMVERS);
    if !files::is_plain(&path) {
        return Err(error!(
            Recipe,
            "the recipe's tools.modules have no headers of kernel {release}: name the package of headers from the suite that the kernel is from, \
             and lock again"
        ));
    }
    let symvers = symvers(&path)?;
    let example = job.kernel.example()?;
    symbols::check(&example.bytes, &job.kernel.magic()?, &[&symvers])
        .map_err(|misfit| job.misfit(&example.name, &misfit))?;
    Ok(symvers)
}

fn symvers(path: &Path) -> Result<Symvers, Error> {
    Symvers::parse(&files::read(path, SYMVERS_BYTES_MAX)?)
        .map_err(|problem| error!(Tool, "{} is no list of symbols: {problem}", path.display()))
}

/// Where the sources lie in the sandbox.
const SOURCES: &str = "/src";
/// What `modpost` writes: a line for each symbol that modules may use.
const SYMVERS: &str = "Module.symvers";
/// What the kernel's build would otherwise ask its surroundings for (Documentation/kbuild/reproducible-builds.rst).
const ENVIRONMENT: [(&str, &str); 4] = [
    ("KBUILD_BUILD_TIMESTAMP", "1980-01-01"),
    ("KBUILD_BUILD_USER", "builder"),
    ("KBUILD_BUILD_HOST", "builder"),
    ("KBUILD_BUILD_VERSION", "1"),
];
