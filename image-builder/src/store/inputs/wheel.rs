//! A wheel, which is a zip archive, into a new directory.
//!
//! Trusts nothing in it: names are plain relative paths, there are no links, and sizes are limits on streams.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::read::ZipFile;

use crate::error::{Error, error};
use crate::files;
use crate::formats::metered::{Limited, TooLong};
use crate::limits::{PATH_BYTES_MAX, WHEEL_ENTRIES_MAX, WHEEL_UNPACKED_BYTES_MAX};

/// Unpacks the files of `archive`, which is the `input` of the lock, into `directory`, which is empty.
pub fn unpack(input: &str, archive: &Path, directory: &Path) -> Result<(), Error> {
    let broken = |problem: String| {
        error!(
            Lock,
            "the input {input} is the one in the lock, but {problem}"
        )
    };
    let mut zip = ZipArchive::new(BufReader::new(files::open(archive)?))
        .map_err(|error| broken(format!("it is no wheel: {error}")))?;
    if zip.len() > WHEEL_ENTRIES_MAX {
        return Err(broken("it has too many files".into()));
    }
    let mut left = WHEEL_UNPACKED_BYTES_MAX;
    for index in 0..zip.len() {
        let member = zip
            .by_index(index)
            .map_err(|error| broken(format!("its file {index} cannot be read: {error}")))?;
        left -= unpack_one(member, directory, left, &broken)?;
    }
    Ok(())
}

/// Returns how many bytes it had.
fn unpack_one<R: Read>(
    member: ZipFile<'_, R>,
    directory: &Path,
    bytes_max: u64,
    broken: &dyn Fn(String) -> Error,
) -> Result<u64, Error> {
    let name = match member.name() {
        Ok(name) => name.into_owned(),
        Err(error) => return Err(broken(format!("a file's name: {error}"))),
    };
    let shown: String = name.chars().take(80).collect();
    let wrong = |problem: &str| broken(format!("its file {shown} {problem}"));
    if member.is_symlink() {
        return Err(wrong("is a link"));
    }
    if !is_plain(name.strip_suffix('/').unwrap_or(&name)) {
        return Err(wrong("has a name that is not plain"));
    }
    let path = directory.join(&name);
    if name.ends_with('/') {
        files::create_directory(&path)?;
        return Ok(0);
    }
    let parent = path.parent().unwrap_or(directory);
    files::create_directory(parent)?;
    let mut output = match File::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(wrong("is there twice"));
        }
        created => created.map_err(Error::disk("creating", &path))?,
    };
    let mut limited = Limited::new(member, bytes_max);
    // The archive's own checksum is among what is found when it is read.
    files::copy(
        &mut limited,
        (&mut output, &path),
        |error| match TooLong::is(&error) {
            true => wrong("makes it larger than a wheel should be"),
            false => wrong(&format!("cannot be unpacked: {error}")),
        },
    )
}

/// Relative, and nothing in it climbs or hides. Wheels have names like `a-1.0+local.dist-info/RECORD`.
fn is_plain(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-/ ".contains(&b);
    path.len() <= PATH_BYTES_MAX
        && path.bytes().all(plain)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn wheel(make: impl FnOnce(&mut ZipWriter<io::Cursor<Vec<u8>>>)) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        make(&mut writer);
        writer.finish().expect("a vector takes all").into_inner()
    }

    fn unpacked(bytes: &[u8]) -> Result<tempfile::TempDir, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = directory.path().join("a.whl");
        fs::write(&archive, bytes).expect("written");
        let out = directory.path().join("out");
        fs::create_dir(&out).expect("a directory");
        match unpack("thing", &archive, &out) {
            Ok(()) => Ok(directory),
            Err(error) => {
                let sentence = error.to_string();
                let begin = "the input thing is the one in the lock, but ";
                Err(sentence.trim_start_matches(begin).to_owned())
            }
        }
    }

    fn add(writer: &mut ZipWriter<io::Cursor<Vec<u8>>>, name: &str, content: &[u8]) {
        let options = SimpleFileOptions::default();
        writer.start_file(name, options).expect("a file");
        writer.write_all(content).expect("written");
    }

    fn good() -> Vec<u8> {
        wheel(|writer| {
            add(writer, "nv/lib/libx.so.12", b"elf");
            add(writer, "nv/include/cuda/std/__x", b"header");
            add(writer, "nv-1.0+a.dist-info/RECORD", b"list");
        })
    }

    #[test]
    fn a_wheel_becomes_a_directory_with_its_files() {
        let directory = unpacked(&good()).expect("good");
        let read = |path: &str| fs::read(directory.path().join("out").join(path)).expect(path);
        assert_eq!(read("nv/lib/libx.so.12"), b"elf");
        assert_eq!(read("nv/include/cuda/std/__x"), b"header");
        assert_eq!(read("nv-1.0+a.dist-info/RECORD"), b"list");
    }

    #[test]
    fn a_wheel_that_leads_out_is_refused() {
        for name in ["../x", "/etc/x", "a/../../x", "a//x", "./x", "a\\x", "a\n"] {
            let bytes = wheel(|writer| add(writer, name, b"x"));
            let problem = unpacked(&bytes).expect_err(name);
            assert!(problem.contains("not plain"), "{name:?}: {problem}");
        }
        let link = wheel(|writer| {
            let options = SimpleFileOptions::default();
            writer
                .add_symlink("a", "/etc/passwd", options)
                .expect("a link");
        });
        assert!(unpacked(&link).expect_err("a link").contains("is a link"));
        let below = wheel(|writer| {
            add(writer, "a", b"x");
            add(writer, "a/b", b"x");
        });
        assert!(
            unpacked(&below).is_err(),
            "a directory in the place of a file"
        );
        assert!(
            unpacked(b"no zip")
                .expect_err("no zip")
                .contains("no wheel")
        );
    }

    #[test]
    fn a_wheel_with_any_byte_changed_is_an_error_or_a_directory() {
        let good = good();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let _ = unpacked(&bytes);
            // Each makes files on a disk that others use too.
            if at % 4 == 0 {
                assert!(unpacked(&good[..at]).is_err(), "cut at {at}");
            }
        }
    }
}
