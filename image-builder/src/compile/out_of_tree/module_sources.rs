//! The sources of modules: copied out of a tree that nobody may write, and changed as the recipe says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, error};
use crate::files;
use crate::limits::{KERNEL_DIRECTORY_DEPTH_MAX, MODULE_SOURCES_MAX, SOURCE_BYTES_MAX};
use crate::lock::recipe::Edit;

/// Copies a directory of files and directories. A link in it is refused: what it leads to is nobody's to copy.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut seen = 0;
    copy_directory(from, to, Path::new(""), 0, &mut seen)
}

fn copy_directory(
    from: &Path,
    to: &Path,
    below: &Path,
    depth: usize,
    seen: &mut usize,
) -> Result<(), Error> {
    let wrong = |path: &Path, problem: &str| {
        let path = path.display();
        error!(Recipe, "{path} in the sources of the modules {problem}")
    };
    if depth > KERNEL_DIRECTORY_DEPTH_MAX {
        return Err(wrong(below, "is too deep"));
    }
    for entry in files::entries(&from.join(below))? {
        *seen += 1;
        if *seen > MODULE_SOURCES_MAX {
            return Err(wrong(below, "is one of too many"));
        }
        let path = below.join(entry.file_name());
        let (source, target) = (from.join(&path), to.join(&path));
        let found = fs::symlink_metadata(&source);
        let found = found.map_err(Error::disk("reading", &source))?;
        if found.is_dir() {
            files::create_directory(&target)?;
            files::set_mode(&target, 0o755)?;
            copy_directory(from, to, &path, depth + 1, seen)?;
        } else if found.is_file() {
            fs::copy(&source, &target).map_err(Error::disk("copying", &source))?;
            // Whatever the tree's owner may do with it: a script has to run, and the object files are written anew.
            let runs = found.permissions().mode() & 0o100;
            files::set_mode(&target, 0o644 | runs | runs >> 3 | runs >> 6)?;
        } else {
            return Err(wrong(&path, "is neither a file nor a directory"));
        }
    }
    Ok(())
}

/// Makes the recipe's changes, each where it says and nowhere else.
pub fn edit(sources: &Path, edits: &[Edit]) -> Result<(), Error> {
    for Edit { file, from, to } in edits {
        let path = sources.join(file);
        let text = files::read_text(&path, SOURCE_BYTES_MAX)?;
        let found = text.matches(from.as_str()).count();
        if found != 1 {
            return Err(error!(
                Recipe,
                "the recipe changes `{from}` in {file}, where it is {found} times; it has to be there once"
            ));
        }
        files::write(&path, text.replacen(from.as_str(), to, 1))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    fn edited(text: &str, edits: &[(&str, &str, &str)]) -> Result<String, Error> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.c");
        fs::write(&path, text).expect("written");
        let edits: Vec<_> = edits
            .iter()
            .map(|(file, from, to)| Edit {
                file: (*file).into(),
                from: (*from).into(),
                to: (*to).into(),
            })
            .collect();
        edit(directory.path(), &edits)?;
        Ok(fs::read_to_string(&path).expect("there"))
    }

    #[test]
    fn a_text_that_is_there_once_is_changed() {
        let changed = edited("f(a);\ng(b);\n", &[("a.c", "f(a)", "f(a, 0)")]).expect("once");
        assert_eq!(changed, "f(a, 0);\ng(b);\n");
        for (text, found) in [("g(b)", 0), ("f(a) + f(a)", 2)] {
            let error = edited(text, &[("a.c", "f(a)", "f(a, 0)")]).expect_err(text);
            let times = format!("it is {found} times");
            assert!(error.to_string().contains(&times), "{error}");
            assert_eq!(error.fault(), Fault::Recipe);
        }
        let missing = edited("f(a)", &[("b.c", "f(a)", "x")]).expect_err("no such file");
        assert!(missing.to_string().contains("b.c"), "{missing}");
    }

    #[test]
    fn sources_are_copied_with_modes_of_their_own_and_links_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("a/b")).expect("directories");
        fs::create_dir(&to).expect("a directory");
        fs::write(from.join("a/b/c.c"), "c").expect("a file");
        fs::write(from.join("run.sh"), "s").expect("a file");
        fs::set_permissions(from.join("run.sh"), fs::Permissions::from_mode(0o500)).expect("set");
        fs::set_permissions(from.join("a/b/c.c"), fs::Permissions::from_mode(0o400)).expect("set");
        copy(&from, &to).expect("files and directories");
        let mode = |path: &str| {
            let found = fs::metadata(to.join(path)).expect(path);
            found.permissions().mode() & 0o7777
        };
        assert_eq!((mode("a/b/c.c"), mode("run.sh")), (0o644, 0o755));
        assert_eq!(fs::read(to.join("a/b/c.c")).expect("there"), b"c");

        std::os::unix::fs::symlink("/etc/passwd", from.join("a/link")).expect("a link");
        let again = directory.path().join("again");
        fs::create_dir(&again).expect("a directory");
        let error = copy(&from, &again).expect_err("a link").to_string();
        assert!(
            error.contains("a/link") && error.contains("neither"),
            "{error}"
        );
    }
}
