//! A made suite in an archive on the loopback, the key that signs it, and a recipe that asks for it.

use std::fs;

use image_builder::error::{Error, Fault};
use image_builder::lock::debian::Date;
use image_builder::lock::{PackageLock, Recipe};
use image_builder::locking::{Change, Order, Update, make_lock};
use image_builder::store::Store;
use registers::Digest32;

use super::archive::Archive;
use super::made_packages::xz_stored;
use super::signer::{SIGNED_S, Signer};

pub const INDEX: &str = "dists/trixie/main/binary-amd64/Packages.xz";
pub const RELEASE: &str = "dists/trixie/InRelease";

/// `name version; Depends; Provides` lines as an index.
pub fn index(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let mut fields = line.split(';').map(str::trim);
        let head = fields.next().unwrap_or_default();
        let (name, version) = head.split_once(' ').expect("a name and a version");
        let (depends, provides) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        text += &format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nProvides: {provides}\n\
             Filename: pool/main/{name}_{}_amd64.deb\nSize: 7\nSHA256: {}\n\n",
            version.replace(':', "%3a"),
            Digest32::of(head.as_bytes())
        );
    }
    text
}

/// The suite trixie with this index.
pub fn publish(archive: &Archive, index: &str) {
    publish_as(archive, "trixie", index);
}

pub fn publish_as(archive: &Archive, suite: &str, index: &str) {
    let packed = xz_stored(index.as_bytes());
    let path = "main/binary-amd64/Packages.xz";
    archive.put(&format!("dists/{suite}/{path}"), &packed);
    let (sha256, bytes) = (Digest32::of(&packed), packed.len());
    let release = format!(
        "Suite: stable\nCodename: {suite}\nDate: {DATE}\nSHA256:\n {sha256} {bytes} {path}"
    );
    let release = Signer::new(KEY).sign(&release);
    archive.put(&format!("dists/{suite}/InRelease"), release.as_bytes());
}

/// The seed of the key that signs these suites.
pub const KEY: u8 = 1;
pub const DATE: &str = "Sat, 12 Sep 2026 07:55:41 UTC";
/// An hour after [`DATE`].
pub const NOW: Date = Date {
    unix_s: SIGNED_S as i64 + 3600,
};

pub const PACKAGES: [&str; 11] = [
    "gcc 4:14.2.0-1; gcc-14 (>= 14.2.0-1~), libc6 (>= 2.3) | libc",
    "gcc-14 14.2.0-19; libc6 (>= 2.41)",
    "libc6 2.41-12",
    "libc6 2.36-9",
    "swtpm 0.7.1-1; tools-virtual (>= 2), missing | libc6",
    "aa-tools 1; ; tools-virtual",
    "zz-tools 1; ; tools-virtual (= 2)",
    "ovmf 2025.02-8",
    "linux-image-cloud-amd64 6.12.107-1; linux-image-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)",
    "linux-image-6.12.107+deb13-cloud-amd64 6.12.107-1; kmod, initramfs-tools",
    "unrelated 1",
];

/// The committed recipe with the key of these tests.
pub fn sim() -> String {
    let (key, print) = ("keys/test.asc", Signer::new(KEY).fingerprint());
    let line = format!("        - {{file: {key}, fingerprint: {print}}}");
    let lines = include_str!("../../../recipes/sim.yaml").lines();
    let mut lines: Vec<_> = lines
        .map(|text| match text.contains("{file: keys/") {
            true => &line,
            false => text,
        })
        .collect();
    lines.dedup();
    lines.join("\n") + "\n"
}

pub fn recipe() -> Recipe {
    let text = sim()
        .replace("[gcc, libc6-dev, erofs-utils]", "[gcc]")
        .replace("[qemu-system-x86, swtpm, systemd-boot-efi]", "[swtpm]");
    Recipe::parse(&text).expect("a smaller recipe")
}

pub struct Place {
    pub archive: Archive,
    pub mirrors: Vec<String>,
    pub store: Store,
    pub directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let archive = Archive::start();
        publish(&archive, &index(&PACKAGES));
        fs::create_dir(directory.path().join("keys")).expect("writable");
        let key = Signer::new(KEY).certificate();
        fs::write(directory.path().join("keys/test.asc"), key).expect("writable");
        Self {
            mirrors: vec![archive.url().to_owned()],
            archive,
            store: Store::at(directory.path()),
            directory,
        }
    }

    pub fn lock(&self) -> Result<String, Error> {
        self.lock_of(&recipe())
    }

    pub fn lock_of(&self, recipe: &Recipe) -> Result<String, Error> {
        make_lock(self.order(recipe), &mut |_| {})
    }

    pub fn order<'a>(&'a self, recipe: &'a Recipe) -> Order<'a> {
        Order {
            store: &self.store,
            recipe,
            directory: self.directory.path(),
            mirrors: &self.mirrors,
            pypi_url: self.archive.base(),
            now: NOW,
            before: None,
            allow_older: false,
            update: Update::Nothing,
        }
    }

    pub fn refuses(&self, expected: &str, fault: Fault) {
        let error = self.lock().expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.fault(), fault, "{error}");
    }
}

pub fn lock(text: &str) -> PackageLock {
    PackageLock::parse(text.as_bytes()).expect("a lock")
}

pub fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}
