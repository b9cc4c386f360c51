//! A kernel module, plain and compressed, in a tree of its own: the tree is the only way to its reader.
#![no_main]

use image_builder::compile::Kernel;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempDir;

struct Tree {
    kernel: Kernel,
    files: [PathBuf; 2],
    _directory: TempDir,
}

static TREE: LazyLock<Tree> =
    LazyLock::new(|| make().expect("the temporary directory is writable"));

fuzz_target!(|bytes: &[u8]| {
    for file in &TREE.files {
        fs::write(file, bytes).expect("the temporary directory is writable");
    }
    for name in ["plain", "packed"] {
        let _ = TREE.kernel.load_order(&[name.to_owned()]);
    }
});

fn make() -> std::io::Result<Tree> {
    let directory = tempfile::tempdir()?;
    let modules = directory.path().join("usr/lib/modules/1/kernel");
    fs::create_dir_all(&modules)?;
    fs::create_dir(directory.path().join("boot"))?;
    fs::write(directory.path().join("boot/vmlinuz-1"), "")?;
    fs::write(modules.with_file_name("modules.builtin"), "")?;
    let files = ["plain.ko", "packed.ko.xz"].map(|name| modules.join(name));
    for file in &files {
        fs::write(file, "")?;
    }
    Ok(Tree {
        kernel: Kernel::open(directory.path()).map_err(std::io::Error::other)?,
        files,
        _directory: directory,
    })
}
