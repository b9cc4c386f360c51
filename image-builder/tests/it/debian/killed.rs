//! What is left of a process that is killed, or whose disk is full: a whole store, and a next run that goes on from there.
//!
//! The process is this test program again, which runs one of its tests for that.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use image_builder::error::Fault;
use image_builder::lock::{PackageLock, Role};
use image_builder::store::{Store, ensure_packages, ensure_tree, tree_key};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use registers::Digest32;

use super::archive::Archive;
use super::made_packages::{Made, deb, lock_text, pool_path};

const JOB: &str = "CHRYSALIS_TEST_STORE_AND_LOCK";
const FILE_BYTES_MAX: &str = "CHRYSALIS_TEST_FILE_BYTES_MAX";

/// Makes a tree, as the other process. It is no test by itself.
#[test]
fn the_other_process() {
    let Ok(directory) = env::var(JOB) else {
        return;
    };
    let directory = PathBuf::from(directory);
    let lock = PackageLock::read(&directory.join("lock.json")).expect("a lock");
    if let Ok(bytes_max) = env::var(FILE_BYTES_MAX) {
        // No file may grow past this, as on a full disk. Blocked, the signal for it becomes an error of the write.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGXFSZ);
        signals.thread_block().expect("a signal of ours");
        let bytes_max = bytes_max.parse().expect("a number");
        setrlimit(Resource::RLIMIT_FSIZE, bytes_max, bytes_max).expect("less is allowed");
        let store = Store::at(directory.join("store"));
        let error = ensure_tree(&store, &lock, &lock.closure(Role::Run), &mut |_| {});
        let error = error.expect_err("nothing fits");
        assert_eq!(error.fault(), Fault::Disk, "{error}");
        assert!(error.to_string().contains("File too large"), "{error}");
        return;
    }
    let store = Store::at(directory.join("store"));
    let tree = ensure_tree(&store, &lock, &lock.closure(Role::Run), &mut |_| {});
    tree.expect("killed before it ends, or whole");
}

struct Place {
    directory: tempfile::TempDir,
    archive: Archive,
    bytes: Vec<u8>,
    lock: PackageLock,
    store: Store,
}

impl Place {
    fn with(bytes: Vec<u8>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let archive = Archive::start();
        let text = lock_text(&archive, &[("big", &bytes)]);
        fs::write(directory.path().join("lock.json"), &text).expect("writable");
        Self {
            lock: PackageLock::parse(text.as_bytes()).expect("a lock"),
            store: Store::at(directory.path().join("store")),
            archive,
            bytes,
            directory,
        }
    }

    fn start(&self) -> Command {
        let mut other = Command::new(env::current_exe().expect("this program"));
        other
            .args(["--exact", "debian::killed::the_other_process"])
            .env(JOB, self.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        other
    }

    fn within(&self, path: &str) -> PathBuf {
        self.store.root().join(path)
    }

    fn partial(&self) -> PathBuf {
        self.within("partial")
            .join(Digest32::of(&self.bytes).to_string())
    }

    /// The tree's final place.
    fn tree(&self) -> PathBuf {
        let key = tree_key(&self.lock.closure(Role::Run));
        self.within("trees").join(key.to_string())
    }

    /// Nothing at any final path but what is whole.
    fn is_whole(&self) {
        assert!(!self.tree().exists(), "no tree before it is whole");
        for file in fs::read_dir(self.within("sha256")).expect("there") {
            let bytes = fs::read(file.expect("readable").path()).expect("readable");
            assert_eq!(bytes, self.bytes);
        }
    }

    /// What the next run does, in this process.
    fn goes_on(&self) {
        let packages = self.lock.closure(Role::Run);
        let tree = ensure_tree(&self.store, &self.lock, &packages, &mut |_| {});
        let tree = tree.expect("the next run goes on");
        assert_eq!(tree, self.tree());
        for number in 0..FILES {
            let path = tree.join(format!("usr/share/big/{number}"));
            assert_eq!(fs::read(path).expect("there").len(), FILE_BYTES);
        }
        let left = |directory: &str| fs::read_dir(self.within(directory)).expect("there").count();
        assert_eq!((left("trees"), left("partial")), (1, 0), "nothing else");
    }
}

const FILES: usize = 1000;
const FILE_BYTES: usize = 700;

/// A package of many files.
fn big() -> Vec<u8> {
    let names: Vec<_> = (0..FILES)
        .map(|number| format!("./usr/share/big/{number}"))
        .collect();
    let content = [7; FILE_BYTES];
    let files = names.iter().map(|name| Made::File(name, 0o644, &content));
    deb(&files.collect::<Vec<_>>())
}

/// Waits until something can be seen, and kills the process so that it can do nothing about it.
fn kill_when(mut other: Child, seen: impl Fn() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came");
        sleep(Duration::from_millis(1));
    }
    other.kill().expect("it runs");
    other.wait().expect("it ends");
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn a_process_that_is_killed_while_it_downloads_leaves_a_part_to_resume() {
    let place = Place::with(big());
    let half = place.bytes.len() / 2;
    place.archive.stall(&pool_path("big"), half);
    let other = place.start().spawn().expect("it starts");
    let partial = place.partial();
    kill_when(other, || {
        fs::metadata(&partial).is_ok_and(|file| file.len() == half as u64)
    });
    place.is_whole();
    place.archive.mend();
    place.goes_on();
    let asked = place.archive.asked();
    assert_eq!(asked[1..], [format!("{} from {half}", pool_path("big"))]);
}

#[test]
fn a_process_that_is_killed_while_it_unpacks_leaves_no_tree() {
    let place = Place::with(big());
    let packages = place.lock.closure(Role::Run);
    ensure_packages(&place.store, &place.lock, &packages, &mut |_| {}).expect("fetched");
    let key = tree_key(&packages);
    let under_way = place.within(&format!("trees/.new-{key}/usr/share/big"));
    // On a busy machine the other process may be done before this one looks.
    for _ in 0..20 {
        let other = place.start().spawn().expect("it starts");
        let tree = place.tree();
        kill_when(other, || count(&under_way) > 0 || tree.exists());
        if !tree.exists() {
            break;
        }
        fs::remove_dir_all(tree).expect("ours");
    }
    assert!(count(&under_way) > 0, "it was killed on the way");
    place.is_whole();
    place.goes_on();
    assert_eq!(place.archive.asked().len(), 1, "nothing is fetched again");
}

#[test]
fn a_full_disk_is_named_and_what_was_written_is_resumed() {
    let place = Place::with(big());
    let full = |bytes_max: u64| {
        let other = place
            .start()
            .env(FILE_BYTES_MAX, bytes_max.to_string())
            .status();
        assert!(other.expect("it starts").success(), "see the_other_process");
        place.is_whole();
    };
    // While it downloads: what fitted stays.
    let bytes_max = place.bytes.len() as u64 / 3;
    full(bytes_max);
    assert_eq!(
        fs::metadata(place.partial()).expect("kept").len(),
        bytes_max
    );
    let packages = place.lock.closure(Role::Run);
    ensure_packages(&place.store, &place.lock, &packages, &mut |_| {}).expect("fetched");
    let asked = place.archive.asked();
    assert_eq!(asked[1], format!("{} from {bytes_max}", pool_path("big")));
    // While it unpacks: nothing stays.
    full(FILE_BYTES as u64 - 1);
    assert_eq!(count(&place.within("trees")), 0);
    place.goes_on();
}
