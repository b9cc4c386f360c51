//! Kernels of a GPU, compiled from CUDA sources before there is a guest, in the sandbox and without a GPU.
//!
//! ```text
//!  DIRECTORY/*.cu *.cuh of the workspace ──by content──► /kernels ┐
//!  NVRTC, a wheel of the lock ─────────────────────────► /nvrtc   ├─ gcc nvrtc.c, nvrtc NAME.cu ──► checked ──► STORE/cubins/<key>/NAME.cubin
//!  the tree of packages ───────────────────────────────►  /       ┘
//! ```
//! `<key>` stands for all that decides the bytes: the tree, the wheel, the sources, and the program here that calls NVRTC.
//!
//! **Trusts** NVRTC, closed as it is, to compile what it was given. **Promises** that the same inputs make the same bytes, and that
//! they are for the GPU that they are meant for: its driver would refuse others, or compile them again from PTX.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::LittleEndian;
use object::elf::{EM_CUDA, FileHeader64};
use object::read::elf::FileHeader;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::{CUBIN_BYTES_MAX, TOOL_STDERR_BYTES_MAX};
use crate::sandbox::Sandbox;
use crate::store::Store;
use registers::Digest32;

/// What is compiled, and with what.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Where the results are kept.
    pub store: &'a Store,
    /// All sources by file name, headers among them ([`super::Compiler::kernels`]).
    pub sources: BTreeMap<String, Vec<u8>>,
    /// Which of them are compiled: `product` is `product.cu`.
    pub names: &'a [String],
    /// The unpacked wheel of NVRTC: a directory of the store, whose name is its digest.
    pub nvrtc: &'a Path,
    /// A sandbox of the tree that has a C compiler.
    pub sandbox: Sandbox,
}

/// Makes the compiled kernels be in the store, in the order of their names, and checks each, whether it was there or not. `compiling`
/// is called before a compilation.
pub fn ensure(job: &Job<'_>, compiling: &mut dyn FnMut()) -> Result<Vec<(String, PathBuf)>, Error> {
    let place = job.store.root().join("cubins").join(job.key().to_string());
    if !place.is_dir() {
        compiling();
        let directory = job.store.root().join("cubins");
        files::create_directory(&directory)?;
        let _claim = files::lock(&directory.join("lock"), || ())?;
        // Somebody else may have made it while we waited.
        if !place.is_dir() {
            files::make_directory(&place, |new| job.compile(new))?;
        }
    }
    let file = |name: &String| {
        let path = place.join(format!("{name}.cubin"));
        match problem_of(&files::read(&path, CUBIN_BYTES_MAX)?) {
            None => Ok((name.clone(), path)),
            Some(problem) => Err(error!(
                Tool,
                "{name}.cu came out of NVRTC, and {problem}: this program compiles for sm_90a"
            )),
        }
    };
    job.names.iter().map(file).collect()
}

impl Job<'_> {
    fn key(&self) -> Digest32 {
        let mut hasher = Sha256::new_with_prefix(b"chrysalis cubins 1\n");
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let nvrtc = self.nvrtc.file_name().unwrap_or_default();
        add(self.sandbox.tree_name().as_bytes());
        add(nvrtc.as_encoded_bytes());
        add(NVRTC_C.as_bytes());
        add(format!("{:?}", self.names).as_bytes());
        for (name, bytes) in &self.sources {
            add(name.as_bytes());
            add(bytes);
        }
        Digest32(hasher.finalize().into())
    }

    fn compile(&self, new: &Path) -> Result<(), Error> {
        let work = new.join("kernels");
        files::create_directory(&work)?;
        files::write(&new.join("nvrtc.c"), NVRTC_C)?;
        for (name, bytes) in &self.sources {
            files::write(&work.join(name), bytes)?;
        }
        let library = "/nvrtc/libnvrtc.so.12";
        let words = ["-O1", "-o", "/out/nvrtc", "/out/nvrtc.c", library];
        run(self.command(new, "gcc", &words), "nvrtc.c")?;
        for name in self.names {
            let source = format!("{name}.cu");
            if !self.sources.contains_key(&source) {
                return Err(error!(Recipe, "there is no {source} among the kernels"));
            }
            let result = format!("/out/{name}.cubin");
            run(
                self.command(new, "/out/nvrtc", &[&source, &result]),
                &source,
            )?;
            files::sync(&new.join(format!("{name}.cubin")))?;
        }
        for made in ["nvrtc", "nvrtc.c", "kernels"] {
            files::remove(&new.join(made))?;
        }
        Ok(())
    }

    fn command(&self, new: &Path, program: &str, words: &[&str]) -> Command {
        let sandbox = { self.sandbox.clone() }
            .read(new.join("kernels"), "/kernels")
            .read(self.nvrtc.join("nvidia/cuda_nvrtc/lib"), "/nvrtc")
            .write(new, "/out")
            // NVRTC opens a second library by its name.
            .env("LD_LIBRARY_PATH", "/nvrtc")
            .cwd("/kernels");
        sandbox.command(program, words)
    }
}

/// Runs a compiler. What it says names file and line.
fn run(mut command: Command, source: &str) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Error::of(Fault::Tool, "starting the sandbox: "))?;
    if output.status.success() {
        return Ok(());
    }
    let said = output.stderr.get(..TOOL_STDERR_BYTES_MAX as usize);
    let said = String::from_utf8_lossy(said.unwrap_or(&output.stderr));
    let (status, said) = (output.status, said.trim());
    Err(error!(Tool, "{source} does not compile ({status}): {said}"))
}

/// What is wrong with a file that is to be machine code for an H100. `e_flags` of CUDA's ELF, as LLVM names them in
/// `llvm/BinaryFormat/ELF.h`: the low byte is the architecture, and bit 11 says that it is the one with an `a` (`EF_CUDA_ACCELERATORS`).
fn problem_of(bytes: &[u8]) -> Option<String> {
    let header = FileHeader64::<LittleEndian>::parse(bytes);
    let Ok(header) = header.and_then(|header| header.endian().map(|_| header)) else {
        return Some("is not an ELF file of 64 bits".into());
    };
    let machine = header.e_machine(LittleEndian);
    if machine != EM_CUDA {
        let machine = machine.0;
        return Some(format!(
            "is for the machine {machine} and not for a GPU of NVIDIA's"
        ));
    }
    let flags = header.e_flags(LittleEndian).0;
    let suffix = if flags & ACCELERATORS == 0 { "" } else { "a" };
    let architecture = flags & ARCHITECTURE;
    (flags & (ARCHITECTURE | ACCELERATORS) != SM_90A)
        .then(|| format!("is for sm_{architecture}{suffix}"))
}

const NVRTC_C: &str = include_str!("cubins/nvrtc.c");
const ARCHITECTURE: u32 = 0xff;
const ACCELERATORS: u32 = 0x800;
const SM_90A: u32 = 90 | ACCELERATORS;

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of what NVRTC 12.4.127 makes, with these flags.
    fn head(machine: u16, flags: u32) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01\x33\x07".to_vec();
        head.resize(64, 0);
        head[16] = 2;
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head[48..52].copy_from_slice(&flags.to_le_bytes());
        head
    }

    #[test]
    fn what_is_for_another_gpu_or_for_none_is_refused() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            assert_eq!(problem_of(bytes).as_deref(), expected);
        };
        check(&head(190, 0x5a_0d5a), None);
        check(&head(190, 0x5a_055a), Some("is for sm_90"));
        check(&head(190, 0x59_0559), Some("is for sm_89"));
        check(&head(190, 0x64_0d64), Some("is for sm_100a"));
        let host = "is for the machine 62 and not for a GPU of NVIDIA's";
        check(&head(62, 0x5a_0d5a), Some(host));
        check(
            &head(190, 0x5a_0d5a)[..63],
            Some("is not an ELF file of 64 bits"),
        );
        check(
            b".version 8.4\n.target sm_90a\n",
            Some("is not an ELF file of 64 bits"),
        );
    }
}
