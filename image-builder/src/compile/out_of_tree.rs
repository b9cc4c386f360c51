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
mod out_of_tree_error;
pub mod symbols;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::kernel_modules::Kernel;
use crate::limits::{MODULE_BYTES_MAX, SYMVERS_BYTES_MAX};
use crate::lock::recipe::Modules;
use crate::sandbox::Sandbox;
use crate::store::{Store, sync_directory};
pub use out_of_tree_error::OutOfTreeError;
use registers::Digest32;
use symbols::Symvers;

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
pub fn ensure(
    job: &Job<'_>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Compiled>, OutOfTreeError> {
    let kernel = symvers_of_kernel(job)?;
    let directory = job.store.root().join("modules");
    let key = job.key()?.to_string();
    let place = directory.join(&key);
    if !place.is_dir() {
        fs::create_dir_all(&directory).map_err(OutOfTreeError::disk("creating", &directory))?;
        let _claim = claim(&directory.join("lock"), progress)?;
        // Somebody else may have made it while we waited.
        if !place.is_dir() {
            let new = directory.join(format!(".new-{key}"));
            let made = job.compile(&new, progress).and_then(|()| {
                job.check(&new, &kernel)?;
                fs::rename(&new, &place).map_err(OutOfTreeError::disk("moving to", &place))
            });
            if let Err(error) = made {
                remove(&new)?;
                return Err(error);
            }
            sync_directory(&directory)?;
        }
    }
    job.check(&place, &kernel)
}

impl Job<'_> {
    /// Stands for everything that decides what comes out.
    fn key(&self) -> Result<Digest32, OutOfTreeError> {
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
    fn compile(
        &self,
        new: &Path,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), OutOfTreeError> {
        remove(new)?;
        let work = new.join("src");
        fs::create_dir_all(&work).map_err(OutOfTreeError::disk("creating", &work))?;
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
            match fs::symlink_metadata(&from) {
                Ok(found) if found.is_file() => {}
                _ => return Err(OutOfTreeError::NotMade { name }),
            }
            fs::rename(&from, &to).map_err(OutOfTreeError::disk("moving to", &to))?;
            let synced = File::open(&to).and_then(|file| file.sync_all());
            synced.map_err(OutOfTreeError::disk("syncing", &to))?;
        }
        remove(&work)
    }

    fn files(&self) -> Vec<String> {
        let names = self.wanted.names.iter();
        let modules = names.map(|name| format!("{name}.ko"));
        modules.chain([SYMVERS.to_owned()]).collect()
    }

    fn run(&self, work: &Path, program: &str, words: &[&str]) -> Result<(), OutOfTreeError> {
        let status = self.command(work, program, words).status();
        let status = status.map_err(OutOfTreeError::disk("starting", Path::new("the sandbox")))?;
        match status.success() {
            true => Ok(()),
            false => Err(OutOfTreeError::Failed {
                command: format!("{program} {}", words.join(" ")),
                status: status.to_string(),
            }),
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
    fn check(&self, directory: &Path, kernel: &Symvers) -> Result<Vec<Compiled>, OutOfTreeError> {
        let own = read(&directory.join(SYMVERS), SYMVERS_BYTES_MAX)?;
        let own = Symvers::parse(&own).map_err(|problem| OutOfTreeError::Symvers {
            path: directory.join(SYMVERS).display().to_string(),
            problem,
        })?;
        let magic = self.kernel.magic()?;
        let mut compiled = Vec::new();
        for name in &self.wanted.names {
            let path = directory.join(format!("{name}.ko"));
            let bytes = read(&path, MODULE_BYTES_MAX)?;
            symbols::check(&bytes, &magic, &[kernel, &own]).map_err(|misfit| {
                let (name, release) = (name.clone(), self.kernel.release().to_owned());
                OutOfTreeError::Misfit {
                    name,
                    release,
                    misfit,
                }
            })?;
            let name = name.clone();
            compiled.push(Compiled { name, path });
        }
        Ok(compiled)
    }
}

/// What the kernel offers, by its headers; and that these are the headers of this very kernel: the kernel's own modules were
/// linked against what they list.
fn symvers_of_kernel(job: &Job<'_>) -> Result<Symvers, OutOfTreeError> {
    let release = job.kernel.release();
    let path = job.tools.join(format!("usr/src/linux-headers-{release}"));
    let path = path.join(SYMVERS);
    if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        let release = release.to_owned();
        return Err(OutOfTreeError::Headers { release });
    }
    let text = read(&path, SYMVERS_BYTES_MAX)?;
    let wrong = |problem| OutOfTreeError::Symvers {
        path: path.display().to_string(),
        problem,
    };
    let symvers = Symvers::parse(&text).map_err(wrong)?;
    let example = job.kernel.example()?;
    symbols::check(&example.bytes, &job.kernel.magic()?, &[&symvers]).map_err(|misfit| {
        OutOfTreeError::Misfit {
            name: example.name,
            release: release.to_owned(),
            misfit,
        }
    })?;
    Ok(symvers)
}

/// Waits until nobody else compiles modules; the claim ends with the returned file.
fn claim(path: &Path, progress: &mut dyn FnMut(Step<'_>)) -> Result<File, OutOfTreeError> {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(path);
    let file = file.map_err(OutOfTreeError::disk("opening", path))?;
    if file.try_lock().is_err() {
        progress(Step::Waiting);
        file.lock().map_err(OutOfTreeError::disk("locking", path))?;
    }
    Ok(file)
}

fn remove(directory: &Path) -> Result<(), OutOfTreeError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(OutOfTreeError::disk("removing", directory)(error))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, OutOfTreeError> {
    let disk = OutOfTreeError::disk("reading", path);
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    opened.map_err(disk)?;
    match bytes.len() as u64 <= bytes_max {
        true => Ok(bytes),
        false => Err(OutOfTreeError::TooLong {
            path: path.display().to_string(),
            bytes_max,
        }),
    }
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
