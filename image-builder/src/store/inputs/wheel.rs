//! A wheel, which is a zip archive, into a new directory.
//!
//! Trusts nothing in it: names are plain relative paths, there are no links, and sizes are limits on streams.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::read::ZipFile;

use crate::formats::metered::{Limited, TooLong};
use crate::limits::{PATH_BYTES_MAX, WHEEL_ENTRIES_MAX, WHEEL_UNPACKED_BYTES_MAX};
use crate::store::FetchError;

/// Why it was not unpacked.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// The disk failed.
    Disk(FetchError),
    /// The archive is wrong: a sentence's end.
    Broken(String),
}

/// Unpacks the files of `archive` into `directory`, which is empty.
pub fn unpack(archive: &Path, directory: &Path) -> Result<(), Problem> {
    let opened = File::open(archive).map_err(disk("opening", archive))?;
    let mut zip = ZipArchive::new(BufReader::new(opened))
        .map_err(|error| Problem::Broken(format!("it is no wheel: {error}")))?;
    if zip.len() > WHEEL_ENTRIES_MAX {
        return Err(Problem::Broken("it has too many files".into()));
    }
    let mut left = WHEEL_UNPACKED_BYTES_MAX;
    for index in 0..zip.len() {
        let member = zip.by_index(index).map_err(|error| {
            Problem::Broken(format!("its file {index} cannot be read: {error}"))
        })?;
        left -= unpack_one(member, directory, left)?;
    }
    Ok(())
}

/// Returns how many bytes it had.
fn unpack_one<R: Read>(
    member: ZipFile<'_, R>,
    directory: &Path,
    bytes_max: u64,
) -> Result<u64, Problem> {
    let name = match member.name() {
        Ok(name) => name.into_owned(),
        Err(error) => return Err(Problem::Broken(format!("a file's name: {error}"))),
    };
    let shown: String = name.chars().take(80).collect();
    let wrong = |problem: &str| Problem::Broken(format!("its file {shown} {problem}"));
    if member.is_symlink() {
        return Err(wrong("is a link"));
    }
    if !is_plain(name.strip_suffix('/').unwrap_or(&name)) {
        return Err(wrong("has a name that is not plain"));
    }
    let path = directory.join(&name);
    if name.ends_with('/') {
        fs::create_dir_all(&path).map_err(disk("creating", &path))?;
        return Ok(0);
    }
    let parent = path.parent().unwrap_or(directory);
    fs::create_dir_all(parent).map_err(disk("creating", parent))?;
    let mut output = match File::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(wrong("is there twice"));
        }
        created => created.map_err(disk("creating", &path))?,
    };
    let mut limited = Limited::new(member, bytes_max);
    let mut buffer = vec![0; crate::limits::CHUNK_BYTES];
    let mut written = 0;
    loop {
        let got = match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if TooLong::is(&error) => {
                return Err(wrong("makes it larger than a wheel should be"));
            }
            // The archive's own checksum is among what is found here.
            Err(error) => return Err(wrong(&format!("cannot be unpacked: {error}"))),
        };
        io::Write::write_all(&mut output, &buffer[..got]).map_err(disk("writing", &path))?;
        written += got as u64;
    }
    Ok(written)
}

/// Relative, and nothing in it climbs or hides. Wheels have names like `a-1.0+local.dist-info/RECORD`.
fn is_plain(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-/ ".contains(&b);
    path.len() <= PATH_BYTES_MAX
        && path.bytes().all(plain)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Problem {
    move |error| Problem::Disk(FetchError::disk(doing, path)(error))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        match unpack(&archive, &out) {
            Ok(()) => Ok(directory),
            Err(Problem::Broken(problem)) => Err(problem),
            Err(Problem::Disk(error)) => Err(error.to_string()),
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
