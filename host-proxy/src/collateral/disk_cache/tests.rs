use super::*;
use std::time::Duration;

fn key(name: &str) -> CollateralKey {
    CollateralKey::Rim(name.parse().expect("an id"))
}

fn header(body: &[u8]) -> EntryHeader {
    EntryHeader {
        version: 1,
        source: "here".into(),
        fetched_unix_s: 1,
        refresh_unix_s: 2,
        expires_unix_s: 3,
        evaluation_number: None,
        ocsp_request: None,
        sha256: EntryHeader::digest(body),
    }
}

fn write(cache: &DiskCache, name: &str, body: &[u8]) {
    cache
        .write(&key(name), header(body), body)
        .expect("written");
}

#[test]
fn what_is_written_is_read_again_by_another_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = DiskCache::open(directory.path(), 1 << 20).expect("a cache");
    assert_eq!(cache.read(&key("a")), None);
    write(&cache, "a", b"one\nline");
    write(&cache, "a", b"two\nlines");
    let other = DiskCache::open(directory.path(), 1 << 20).expect("a cache");
    let entry = other.read(&key("a")).expect("it is there");
    assert_eq!(entry.body, b"two\nlines");
    assert_eq!(other.list().expect("a list"), [(key("a"), entry.header)]);
}

#[test]
fn no_cut_and_no_flipped_bit_of_a_file_is_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = DiskCache::open(directory.path(), 1 << 20).expect("a cache");
    write(&cache, "a", b"the body");
    let path = directory.path().join("rim-a");
    let whole = fs::read(&path).expect("written");
    let good = cache.read(&key("a")).expect("whole");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        assert_eq!(cache.read(&key("a")), None, "cut at {cut}");
        assert!(!path.exists(), "a broken file is removed");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).expect("written");
        if let Some(entry) = cache.read(&key("a")) {
            // The header is this host's own note; what was signed is the body.
            assert_eq!(entry.body, good.body, "flipped at {at}");
        }
    }
}

#[test]
fn what_a_killed_program_left_is_cleared_and_what_another_writes_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, young) = (
        directory.path().join(".unfinished-1-0"),
        directory.path().join(".unfinished-2-0"),
    );
    for path in [&old, &young] {
        fs::write(path, b"half").expect("written");
    }
    let long_ago = SystemTime::now() - UNFINISHED_AGE - Duration::from_secs(60);
    File::options()
        .write(true)
        .open(&old)
        .and_then(|file| file.set_modified(long_ago))
        .expect("aged");
    let cache = DiskCache::open(directory.path(), 1 << 20).expect("a cache");
    assert!(!old.exists() && young.exists());
    assert_eq!(cache.list().expect("a list"), []);
}

#[test]
fn the_oldest_answers_make_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = DiskCache::open(directory.path(), 3000).expect("a cache");
    for (age, name) in ["a", "b", "c"].into_iter().enumerate() {
        write(&cache, name, &[b'x'; 600]);
        let at = SystemTime::now() - Duration::from_secs(100 - age as u64);
        File::options()
            .write(true)
            .open(directory.path().join(format!("rim-{name}")))
            .and_then(|file| file.set_modified(at))
            .expect("aged");
    }
    write(&cache, "d", &[b'x'; 600]);
    let there = |name| cache.read(&key(name)).is_some();
    assert_eq!(["a", "b", "c", "d"].map(there), [false, true, true, true]);
}

#[test]
fn a_cache_that_is_a_file_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cache");
    fs::write(&path, b"").expect("written");
    let error = DiskCache::open(&path, 1 << 20).err().expect("refused");
    assert!(error.to_string().contains("cache"), "{error}");
}
