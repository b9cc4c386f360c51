//! Compiles programs in the sandbox, so that the same sources make the same bytes wherever and by whomever they are compiled.
//!
//! ```text
//!  the checkout ──by content──► STORE/sources/<id>  ──/src──┐
//!  cargo's downloads ──checked against Cargo.lock──/cargo───┤  cargo build --offline --locked      STORE/programs/<sha256>/<name>
//!  the pinned toolchain ──────────────────────────/rust─────┤  linked by the tree's gcc, static ──►
//!  the tree of packages ──────────────────────────────/─────┘  STORE/target/<id>  (/target)
//! ```
//! A program of a root that opens libraries by name is linked dynamically instead, into a target of its own
//! ([`crate::rootfs::linkage::program`] says what it may ask for).
//!
//! Every path that a compiler could write down is the same on every machine, because it is a path of the sandbox. `<id>` stands
//! for the toolchain and the tree: sources and intermediate results of another pair are not mixed in.
//!
//! **Trusts** the toolchain that `rust-toolchain.toml` pins by version and rustup installed, and the sources. **Promises** that
//! crates are the ones in `Cargo.lock`: every archive is hashed before it is unpacked, in a directory of ours. **Lacks** the
//! caller's settings: no `RUSTFLAGS`, no cargo configuration but where crates come from.

mod crates;
pub mod cubins;
pub(crate) mod kernel_modules;
mod linked;
pub mod out_of_tree;
mod sources;
mod toolchain;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::read::elf::{ElfFile64, ProgramHeader};
use sha2::{Digest as _, Sha256, Sha384};

use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::PROGRAM_BYTES_MAX;
use crate::rootfs::linkage::program;
use crate::sandbox::Sandbox;
use crate::store::Store;
pub use kernel_modules::Kernel;
pub use linked::{Crate, Ingredients};
use registers::Digest32;
use sources::Checkout;
pub use sources::workspace_around;
pub use toolchain::Toolchain;

/// A compiler with its sources.
pub struct Compiler<'a> {
    store: &'a Store,
    sandbox: Sandbox,
    id: String,
    checkout: Checkout,
    toolchain: Toolchain,
}

/// How a program comes to its libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// It has them.
    Static,
    /// The loader of a root finds them.
    Dynamic,
}

/// A program that was compiled: stripped, at a path that its digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its file name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest32,
    /// Its SHA-384, which is what a guest measures.
    pub sha384: [u8; 48],
}

/// What is being done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Cargo is asked for the crates that are missing.
    Fetching,
    /// Somebody else compiles with the same toolchain into the same store.
    Waiting,
    /// Cargo runs; what it says goes to stderr.
    Compiling {
        /// The program.
        program: &'a str,
        /// With which compiler.
        compiler: &'a str,
    },
}

impl<'a> Compiler<'a> {
    /// A compiler for the package or workspace in `sources`. `sandbox` is a sandbox of the tree that has the linker.
    pub fn new(store: &'a Store, sandbox: Sandbox, sources: &Path) -> Result<Self, Error> {
        let toolchain = Toolchain::of(sources)?;
        let checkout = Checkout::of(&toolchain, sources)?;
        let mut hasher = Sha256::new_with_prefix(b"chrysalis target 1\n");
        // What is compiled is apart from what else is: two packages that are called the same would be mixed up.
        for part in [&toolchain.version, &sandbox.tree_name(), &checkout.name()] {
            hasher.update(part.as_bytes());
            hasher.update(b"\n");
        }
        let digest = hex::encode(hasher.finalize());
        Ok(Self {
            store,
            sandbox,
            id: digest[..16].to_owned(),
            checkout,
            toolchain,
        })
    }

    /// The compiler with its version and commit, for the manifest.
    pub fn version(&self) -> &str {
        &self.toolchain.version
    }

    /// Compiles a program of the workspace.
    pub fn compile(
        &self,
        program: &str,
        linkage: Linkage,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Program, Error> {
        let package = self.checkout.package_of(program)?.to_owned();
        self.compile_of(&package, program, linkage, progress)
    }

    /// The CUDA sources of the package that has `program`, headers among them, by their file names.
    pub fn kernels(&self, program: &str) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        self.checkout.kernels(self.checkout.package_of(program)?)
    }

    /// Compiles a program of a package, which may be a dependency.
    pub fn compile_of(
        &self,
        package: &str,
        program: &str,
        linkage: Linkage,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Program, Error> {
        progress(Step::Fetching);
        self.toolchain.fetch(self.checkout.root())?;
        let target = self.store.root().join("target").join(&self.id);
        let sources = self.store.root().join("sources").join(&self.id);
        for directory in [&target.join(linkage.out()), &target.join("cargo"), &sources] {
            files::create_directory(directory)?;
        }
        let _claim = files::lock(&target.join("lock"), || progress(Step::Waiting))?;
        self.checkout.stage(&sources)?;
        let crates = crates::Checked::of(&self.toolchain, self.checkout.root())?;
        crates.configure(&target.join("cargo"))?;

        let compiler = self.version();
        progress(Step::Compiling { program, compiler });
        let status = self
            .cargo(&sources, &target, &crates, (package, program), linkage)
            .status()
            .map_err(Error::of(Fault::Tool, "starting the sandbox: "))?;
        if !status.success() {
            return Err(error!(
                Tool,
                "`cargo build --bin {program}` failed ({status})"
            ));
        }
        let made = target.join(linkage.out());
        let made = made.join(TRIPLE).join(PROFILE).join(program);
        keep(self.store, program, &made, linkage)
    }

    /// The command, with every setting that the result depends on.
    fn cargo(
        &self,
        sources: &Path,
        target: &Path,
        crates: &crates::Checked,
        (package, program): (&str, &str),
        linkage: Linkage,
    ) -> Command {
        let mut sandbox = self
            .sandbox
            .clone()
            .read(sources, "/src")
            .write(target.join(linkage.out()), "/target")
            .write(target.join("cargo"), "/cargo")
            .cwd("/src");
        for (host, inside) in self.toolchain.binds() {
            sandbox = sandbox.read(host, inside);
        }
        for (host, inside) in crates.binds() {
            sandbox = sandbox.read(host, inside);
        }
        let variable = TRIPLE.replace('-', "_");
        let upper = variable.to_uppercase();
        let (mut rust, mut c) = (linkage.flags().to_owned(), String::new());
        // The directory's name depends on where crates are fetched from, and must not on its way into messages of panics.
        for name in crates.source_names() {
            let map = format!("/cargo/registry/src/{name}=/crates");
            rust.push_str(&format!(" --remap-path-prefix={map}"));
            c.push_str(&format!(" -ffile-prefix-map={map}"));
        }
        let sandbox = sandbox
            .env("PATH", "/rust/bin:/usr/bin")
            .env("CARGO_HOME", "/cargo")
            .env("CARGO_TARGET_DIR", "/target")
            .env(format!("CARGO_TARGET_{upper}_LINKER"), "/usr/bin/gcc")
            .env(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), rust)
            .env(format!("CFLAGS_{variable}"), c.trim_start())
            .env("CC", "/usr/bin/gcc")
            .env("AR", "/usr/bin/ar");
        let mut command = sandbox.command("cargo", ["build", "--offline", "--locked"]);
        command.args(["--profile", PROFILE, "--target", TRIPLE]);
        command.args(["--package", package, "--bin", program]);
        command.stdin(Stdio::null());
        command
    }
}

impl Linkage {
    /// The directory of what is made so: cargo would otherwise make all of it again for the other kind.
    fn out(self) -> &'static str {
        match self {
            Linkage::Static => "out",
            Linkage::Dynamic => "out-dynamic",
        }
    }

    /// Without the linker's digest of its inputs, which would be one more thing to keep equal.
    fn flags(self) -> &'static str {
        match self {
            Linkage::Static => "-Ctarget-feature=+crt-static -Clink-arg=-Wl,--build-id=none",
            Linkage::Dynamic => "-Ctarget-feature=-crt-static -Clink-arg=-Wl,--build-id=none",
        }
    }
}

/// Checks what was made and puts it where its digest says, so that the next compilation does not take it away.
fn keep(store: &Store, name: &str, made: &Path, linkage: Linkage) -> Result<Program, Error> {
    let bytes = files::read(made, PROGRAM_BYTES_MAX as u64)?;
    let problem = match linkage {
        Linkage::Static => problem_of(&bytes).map(str::to_owned),
        Linkage::Dynamic => program::problem_of(&bytes),
    };
    if let Some(problem) = problem {
        return Err(error!(
            Tool,
            "{name} came out of the compiler, and {problem}"
        ));
    }
    let sha256 = Digest32(Sha256::digest(&bytes).into());
    let directory = store.root().join("programs").join(sha256.to_string());
    let path = directory.join(name);
    if fs::read(&path).ok().as_deref() != Some(&bytes[..]) {
        files::replace(&path, &bytes, 0o755)?;
        files::sync(&directory)?;
    }
    Ok(Program {
        name: name.to_owned(),
        path,
        bytes: bytes.len() as u64,
        sha256,
        sha384: Sha384::digest(&bytes).into(),
    })
}

/// What is wrong with a program that is to run without any library beside it.
fn problem_of(bytes: &[u8]) -> Option<&'static str> {
    let Ok(elf) = ElfFile64::<object::Endianness>::parse(bytes) else {
        return Some("is not an ELF file of 64 bits");
    };
    let endian = elf.endian();
    let headers = elf.elf_program_headers().iter();
    let mut kinds = headers.map(|header| header.p_type(endian));
    kinds
        .any(|kind| kind == object::elf::PT_INTERP)
        .then_some("asks for a loader: it is not static")
}

/// What everything is compiled for.
pub const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// The profile in the root manifest that says how.
const PROFILE: &str = "image";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_static_or_it_is_none() {
        assert_eq!(problem_of(b""), Some("is not an ELF file of 64 bits"));
        assert_eq!(
            problem_of(b"#!/bin/sh\n"),
            Some("is not an ELF file of 64 bits")
        );
        // This test itself, which is linked as everything on this machine is.
        let own = fs::read("/proc/self/exe").expect("it runs");
        assert_eq!(
            problem_of(&own),
            Some("asks for a loader: it is not static")
        );
        for length in [4, 63, 64, 100, 300] {
            assert!(problem_of(&own[..length]).is_some(), "{length}");
        }
    }
}
