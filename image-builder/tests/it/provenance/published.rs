//! Fetching a published image from a directory and from a server, honest and hostile ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use image_builder::error::{Error, Fault};
use image_builder::provenance::ENVELOPE;
use image_builder::release::{Source, fetch};
use image_builder::store::Store;

use super::made_image::{ROOT_UNREAD, image, key};

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

fn files(directory: &Path) -> Files {
    let entries = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().expect("plain");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

/// What a server does to the answer for one name: nothing, or it stops after so many bytes, once.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Its thread ends with the test.
    fn start(files: Files, cut_once: Option<(&'static str, usize)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            let mut cut = cut_once;
            for stream in listener.incoming().flatten() {
                // The client may hang up first, which is its right.
                let _ = answer(stream, &files, &seen, &mut cut);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic while held").clone()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Files,
    seen: &Mutex<Vec<String>>,
    cut: &mut Option<(&'static str, usize)>,
) -> std::io::Result<()> {
    let (mut name, mut start) = (String::new(), 0);
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        if let Some(path) = line.strip_prefix("GET /") {
            name = path.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    seen.lock().expect("no panic while held").push(match start {
        0 => name.clone(),
        start => format!("{name} from {start}"),
    });
    let Some(bytes) = files.get(&name) else {
        return stream
            .write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let (total, last) = (bytes.len(), bytes.len() - 1);
    let head = match start {
        0 => format!("200 OK\r\nContent-Length: {total}"),
        _ => format!(
            "206 Part\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{last}/{total}",
            total - start
        ),
    };
    stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut sent = &bytes[start..];
    if cut.is_some_and(|(of, _)| of == name) {
        let (_, after) = cut.take().expect("it was there");
        sent = &sent[..after];
    }
    stream.write_all(sent)
}

struct Reader {
    directory: tempfile::TempDir,
}

impl Reader {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory }
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Fetches with the key of this seed.
    fn fetch(&self, source: &str, seed: u8) -> Result<(), Error> {
        self.fetch_unchecked(source, seed, &[])
    }

    /// The same, with what may go unchecked.
    fn fetch_unchecked(&self, source: &str, seed: u8, allowed: &[&str]) -> Result<(), Error> {
        let store = Store::at(self.directory.path().join("store"));
        let (source, key) = (Source::parse(source), key(seed).public());
        let allowed = [&ROOT_UNREAD, allowed].concat();
        fetch(&source, &key, &self.out(), &store, &allowed, &mut |_| {}).map(drop)
    }
}

#[test]
fn an_image_arrives_whole_from_a_directory_and_from_a_server() {
    let made = image(b"agent", Some(&key(1)));
    let published = files(&made.out);
    let reader = Reader::new();
    reader
        .fetch(&made.out.display().to_string(), 1)
        .expect("fetched");
    assert_eq!(files(&reader.out()), published);

    let server = Server::start(published.clone(), Some(("kernel", 100)));
    let reader = Reader::new();
    reader.fetch(&server.url, 1).expect("fetched");
    assert_eq!(files(&reader.out()), published);
    let asked = server.asked();
    assert_eq!(
        asked[0], ENVELOPE,
        "its signature decides whether more is asked for"
    );
    assert_eq!(asked[1], "manifest.json");
    assert!(asked.contains(&"kernel from 100".to_owned()), "{asked:?}");
    // Nothing is kept twice.
    let kept = reader.directory.path().join("store/sha256");
    assert_eq!(fs::read_dir(kept).expect("a directory").count(), 0);
}

#[test]
fn a_release_that_another_key_signed_is_not_even_asked_for() {
    let made = image(b"agent", Some(&key(2)));
    let server = Server::start(files(&made.out), None);
    let reader = Reader::new();
    let error = reader.fetch(&server.url, 1).expect_err("another key");
    let begin = format!("{ENVELOPE}: none of the envelope's 1 signatures is by the key");
    assert!(error.to_string().starts_with(&begin), "{error}");
    assert_eq!(server.asked(), [ENVELOPE]);
    assert!(!reader.out().exists());
}

#[test]
fn a_release_with_any_file_changed_is_refused_and_the_old_image_stays() {
    let old = image(b"the agent of before", Some(&key(1)));
    let made = image(b"agent", Some(&key(1)));
    let published = files(&made.out);
    let reader = Reader::new();
    reader
        .fetch(&old.out.display().to_string(), 1)
        .expect("fetched");
    let before = files(&reader.out());
    for name in published.keys().filter(|name| *name != "provenance.json") {
        let mut spoilt = published.clone();
        let bytes = spoilt.get_mut(name).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // What arrived right before is not asked for again.
        let _ = fs::remove_dir_all(reader.directory.path().join("store"));
        let served = Server::start(spoilt.clone(), None);
        let error = reader.fetch(&served.url, 1).expect_err(name);
        assert!(error.to_string().contains(name.as_str()), "{name}: {error}");
        let directory = tempfile::tempdir().expect("a directory");
        for (name, bytes) in &spoilt {
            fs::write(directory.path().join(name), bytes).expect("written");
        }
        let error = reader.fetch(&directory.path().display().to_string(), 1);
        let error = error.expect_err(name);
        assert!(error.to_string().contains(name.as_str()), "{name}: {error}");
        for (cut, longer) in [(true, false), (false, true)] {
            let mut other = published[name].clone();
            if cut {
                other.pop();
            }
            if longer {
                other.push(b'\n');
            }
            fs::write(directory.path().join(name), other).expect("written");
            // JSON may end with another blank, and says the same.
            let said = reader.fetch(&directory.path().display().to_string(), 1);
            assert!(said.is_err() || name == ENVELOPE, "{name}");
        }
        if name == ENVELOPE {
            reader
                .fetch(&old.out.display().to_string(), 1)
                .expect("fetched");
        }
        assert_eq!(files(&reader.out()), before, "{name}");
    }
    let left = fs::read_dir(reader.directory.path()).expect("a directory");
    let hidden = left.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with('.')
    });
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_release_with_a_forged_rtmr0_is_refused_unless_that_is_asked_for() {
    let made = super::release::forged();
    let source = made.out.display().to_string();
    let reader = Reader::new();
    let error = reader.fetch(&source, 1).expect_err("forged");
    let begin = "the release was signed, and its rtmr0 was not computed";
    assert!(error.to_string().starts_with(begin), "{error}");
    assert!(!reader.out().exists());
    let asked = reader.fetch_unchecked(&source, 1, &["rtmr0"]);
    asked.expect("the builder's word is taken");
}

#[test]
fn a_release_is_not_put_where_something_else_lies() {
    let made = image(b"agent", Some(&key(1)));
    let reader = Reader::new();
    fs::create_dir(reader.out()).expect("made");
    fs::write(reader.out().join("letters"), b"dear").expect("written");
    let error = reader
        .fetch(&made.out.display().to_string(), 1)
        .expect_err("occupied");
    assert_eq!(error.fault(), Fault::Output, "{error}");
    assert_eq!(
        fs::read(reader.out().join("letters")).expect("there"),
        b"dear"
    );
}
