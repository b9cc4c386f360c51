//! The copy of the repository in which faults are put back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The copy, with a target directory of its own beside it.
#[derive(Debug)]
pub struct Tree {
    /// Where the copy is.
    pub path: PathBuf,
    /// Where it is compiled. The repository's own target must not be used: cargo tells packages of a workspace apart by their
    /// path from its root, so that both trees would share objects.
    pub target: PathBuf,
}

impl Tree {
    /// The repository that this program was built in.
    pub fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// Brings the copy up to date. Files that are the same are left alone, so that cargo compiles what changed.
    ///
    /// # Errors
    /// Git or the disk failed.
    pub fn copy() -> io::Result<Tree> {
        let root = Tree::root().canonicalize()?;
        let ours = root.join("target/mutations");
        let tree = Tree {
            path: ours.join("tree"),
            target: ours.join("target"),
        };
        let mut git = Command::new("git");
        let git = git.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let listed = git.current_dir(&root).output()?;
        if !listed.status.success() {
            let why = String::from_utf8_lossy(&listed.stderr);
            return Err(io::Error::other(format!("git ls-files: {why}")));
        }
        let listed = String::from_utf8_lossy(&listed.stdout);
        let files: BTreeSet<PathBuf> = listed
            .split_terminator('\0')
            .map(PathBuf::from)
            .filter(|file| root.join(file).is_file())
            .collect();
        fs::create_dir_all(&tree.path)?;
        tree.remove_others(&tree.path, &files)?;
        for file in &files {
            let source = root.join(file);
            if tree.write(file, &fs::read(&source)?)? {
                // A target directory that was copied here beforehand is as fresh as it is there.
                let modified = fs::metadata(source)?.modified()?;
                let copied = fs::File::options().append(true).open(tree.path.join(file));
                copied?.set_modified(modified)?;
            }
        }
        // Tests look for vectors beside the clone.
        let shared = ours.join("shared");
        if !shared.exists() && root.join("../shared").is_dir() {
            std::os::unix::fs::symlink(root.join("../shared"), shared)?;
        }
        Ok(tree)
    }

    /// Writes a file of the copy, and says whether it was another before.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<bool> {
        let path = self.path.join(file);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(false);
        }
        fs::create_dir_all(path.with_file_name(""))?;
        fs::write(path, bytes)?;
        Ok(true)
    }

    /// Removes what the repository has no more.
    fn remove_others(&self, directory: &Path, files: &BTreeSet<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let file = path.strip_prefix(&self.path).unwrap_or(&path);
            if path.is_dir() {
                self.remove_others(&path, files)?;
            } else if !files.contains(file) && file != Path::new("Cargo.lock") {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}
