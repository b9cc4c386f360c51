//! Who sees every address and every branch of the sampler and of the embedding learns nothing of tokens and scores: the compiled
//! code is looked at, not the source.
//!
//! - Memcheck follows secret bytes and reports each jump and each address that depends on one ([`valgrind`]).
//! - Lackey lists every instruction and every address in order; prompts with different completions give the same list.
//! - Valgrind has no AVX-512. There the disassembly has no gather and no load under a mask ([`native`]), and a debugger's steps list
//!   instructions and addresses (`steps`).
//!
//! Each looks at code that is not constant too, and has to find it.

mod eye;
mod native;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod steps;
mod subject;
mod valgrind;
