//! From a recipe to a lock, against a made archive.

use std::fs;
use std::path::Path;

use image_builder::debian::{Date, ReleaseError, SignatureError};
use image_builder::locking::{Change, LockingError, Order, Update, changes, make_lock};
use image_builder::package_lock::{PackageLock, Role};
use image_builder::recipe::Recipe;
use image_builder::{Digest, Fault, FetchError, MirrorFault, Progress, Store};

use crate::archive::Archive;
use crate::made::xz_stored;
use crate::signer::{SIGNED_S, Signer};

const INDEX: &str = "dists/trixie/main/binary-amd64/Packages.xz";
const RELEASE: &str = "dists/trixie/InRelease";

/// `name version; Depends; Provides` lines as an index.
fn index(lines: &[&str]) -> String {
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
            Digest::of(head.as_bytes())
        );
    }
    text
}

/// The suite trixie with this index.
fn publish(archive: &Archive, index: &str) {
    publish_as(archive, "trixie", index);
}

fn publish_as(archive: &Archive, suite: &str, index: &str) {
    let packed = xz_stored(index.as_bytes());
    let path = "main/binary-amd64/Packages.xz";
    archive.put(&format!("dists/{suite}/{path}"), &packed);
    let (sha256, bytes) = (Digest::of(&packed), packed.len());
    let release = format!(
        "Suite: stable\nCodename: {suite}\nDate: {DATE}\nSHA256:\n {sha256} {bytes} {path}"
    );
    let release = Signer::new(KEY).sign(&release);
    archive.put(&format!("dists/{suite}/InRelease"), release.as_bytes());
}

/// The seed of the key that signs these suites.
const KEY: u8 = 1;
const DATE: &str = "Sat, 12 Sep 2026 07:55:41 UTC";
/// An hour after [`DATE`].
const NOW: Date = Date {
    unix_s: SIGNED_S as i64 + 3600,
};

const PACKAGES: [&str; 11] = [
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
fn sim() -> String {
    let (key, print) = ("keys/test.asc", Signer::new(KEY).fingerprint());
    let line = format!("        - {{file: {key}, fingerprint: {print}}}");
    let lines = include_str!("../../recipes/sim.yaml").lines();
    let mut lines: Vec<_> = lines
        .map(|text| match text.contains("{file: keys/") {
            true => &line,
            false => text,
        })
        .collect();
    lines.dedup();
    lines.join("\n") + "\n"
}

fn recipe() -> Recipe {
    let text = sim()
        .replace("[gcc, libc6-dev, erofs-utils]", "[gcc]")
        .replace("[qemu-system-x86, swtpm, systemd-boot-efi]", "[swtpm]");
    Recipe::parse(&text).expect("a smaller recipe")
}

struct Place {
    archive: Archive,
    mirrors: Vec<String>,
    store: Store,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archive = Archive::start();
        publish(&archive, &index(&PACKAGES));
        fs::create_dir(folder.path().join("keys")).expect("writable");
        let key = Signer::new(KEY).certificate();
        fs::write(folder.path().join("keys/test.asc"), key).expect("writable");
        Self {
            mirrors: vec![archive.url().to_owned()],
            archive,
            store: Store::at(folder.path()),
            folder,
        }
    }

    fn lock(&self) -> Result<String, LockingError> {
        self.lock_of(&recipe())
    }

    fn lock_of(&self, recipe: &Recipe) -> Result<String, LockingError> {
        make_lock(self.order(recipe), &mut |_| {})
    }

    fn order<'a>(&'a self, recipe: &'a Recipe) -> Order<'a> {
        Order {
            store: &self.store,
            recipe,
            folder: self.folder.path(),
            mirrors: &self.mirrors,
            pypi_url: self.archive.base(),
            now: NOW,
            before: None,
            allow_older: false,
            update: Update::Nothing,
        }
    }

    fn refuses(&self, expected: &str, fault: Fault) {
        let error = self.lock().expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.fault(), fault, "{error}");
    }
}

#[test]
fn a_recipe_becomes_a_lock_and_the_same_one_again() {
    let place = Place::new();
    let text = place.lock().expect("the archive has everything");
    assert_eq!(place.lock().expect("still"), text);
    let lock = PackageLock::parse(text.as_bytes()).expect("what we write we read");
    assert_eq!(lock.digest(), Digest::of(text.as_bytes()));
    let names = |role| {
        let closure = lock.closure(role).into_iter();
        let shown = closure.map(|package| format!("{} {}", package.name, package.version));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(
        names(Role::Build),
        ["gcc 4:14.2.0-1", "gcc-14 14.2.0-19", "libc6 2.41-12"]
    );
    assert_eq!(
        names(Role::Run),
        ["libc6 2.41-12", "swtpm 0.7.1-1", "zz-tools 1"]
    );
    assert_eq!(
        lock.kernel().name,
        "linux-image-6.12.107+deb13-cloud-amd64",
        "alone and not the metapackage"
    );
    assert_eq!(lock.firmware().name, "ovmf");
    assert_eq!(lock.packages().len(), 7);
    // The recipe's mirror and not the one that happened to serve this lock.
    assert_eq!(lock.debian().mirror, "http://deb.debian.org/debian");
    assert_eq!(
        lock.debian().suites[0].release_date,
        "Sat, 12 Sep 2026 07:55:41 UTC"
    );
    assert_eq!(
        place.archive.asked(),
        [RELEASE, INDEX, RELEASE],
        "an index that is in the store is not fetched again"
    );
}

/// Backports, with a kernel in several packages as Debian has them since 7.2.
const BACKPORTS: [&str; 7] = [
    "linux-image-cloud-amd64 7.3.4-1; linux-image-7.3.4-cloud-amd64 (= 7.3.4-1), linux-modules-cloud-amd64",
    "linux-image-7.3.4-cloud-amd64 7.3.4-1; initramfs-tools, linux-binary-7.3.4-cloud-amd64, linux-modules-7.3.4-cloud-amd64",
    "linux-binary-7.3.4-cloud-amd64 7.3.4-1",
    "linux-modules-7.3.4-cloud-amd64 7.3.4-1",
    "libc6 2.42-1",
    "swtpm 0.10-1; libc6 (>= 2.42)",
    "only-here 1; libc6",
];

#[test]
fn a_package_of_another_suite_is_taken_when_it_is_named_or_only_there() {
    let place = Place::new();
    publish_as(&place.archive, "trixie-backports", &index(&BACKPORTS));
    let sim = sim();
    let (from, to) = (sim.find("    - name: trixie"), sim.find("# Files of"));
    let suite = &sim[from.expect("there")..to.expect("there")];
    let backports = suite.replace("name: trixie", "name: trixie-backports");
    let text = sim
        .replace(suite, &format!("{}\n{backports}", suite.trim_end()))
        .replace("[gcc, libc6-dev, erofs-utils]", "[only-here]")
        .replace(
            "package: linux-image-cloud-amd64",
            "package: linux-image-cloud-amd64/trixie-backports",
        );
    let with_tools = |tools: &str| {
        let text = text.replace("[qemu-system-x86, swtpm, systemd-boot-efi]", tools);
        Recipe::parse(&text).expect("a recipe of two suites")
    };
    let recipe = with_tools("[swtpm]");
    let text = place.lock_of(&recipe).expect("both suites are there");
    let lock = PackageLock::parse(text.as_bytes()).expect("a lock");
    let shown = |packages: Vec<&image_builder::package_lock::Package>| {
        let packages = packages.into_iter();
        let shown = packages.map(|p| format!("{} {} {}", p.name, p.version, p.suite));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(
        shown(lock.closure(Role::Build)),
        ["libc6 2.41-12 trixie", "only-here 1 trixie-backports"]
    );
    assert_eq!(
        shown(lock.kernel_packages()),
        [
            "linux-image-7.3.4-cloud-amd64 7.3.4-1 trixie-backports",
            "linux-binary-7.3.4-cloud-amd64 7.3.4-1 trixie-backports",
            "linux-modules-7.3.4-cloud-amd64 7.3.4-1 trixie-backports"
        ]
    );
    let suites: Vec<_> = lock.debian().suites.iter().map(|s| &*s.name).collect();
    assert_eq!(suites, ["trixie", "trixie-backports"]);
    // The same lock for a recipe that asks for another suite of a package is not its lock.
    let other = lock.check(&with_tools("[swtpm/trixie-backports]"));
    let other = other.expect_err("swtpm of another suite").to_string();
    assert!(other.contains("lacks swtpm/trixie-backports"), "{other}");
    // The two closures would need two versions of libc6, and a lock has one.
    let error = place.lock_of(&with_tools("[swtpm/trixie-backports]"));
    let error = error.expect_err("two versions").to_string();
    assert!(
        error.contains("libc6 is needed in two versions, 2.4"),
        "{error}"
    );
}

#[test]
fn a_package_may_be_taken_without_what_it_depends_on() {
    let place = Place::new();
    let sim = sim()
        .replace("[gcc, libc6-dev, erofs-utils]", "[libc6]")
        .replace(
            "  run: [qemu-system-x86, swtpm, systemd-boot-efi]",
            "  run: [libc6]\n  modules: [zz-tools]",
        );
    let with = |inputs: &str| {
        let text = sim.replacen(
            "\ninitrd:",
            &format!("\ninputs: [{inputs}]\nmodules: {{input: a, folder: b, names: [c]}}\ninitrd:"),
            1,
        );
        Recipe::parse(&text).expect("a recipe")
    };
    let recipe = with("{name: a, deb: gcc}");
    let text = place.lock_of(&recipe).expect("the archive has it");
    let lock = PackageLock::parse(text.as_bytes()).expect("a lock");
    assert_eq!(lock.alone("gcc").expect("there").version, "4:14.2.0-1");
    assert_eq!(lock.alone("libc6"), None, "it is there, and not alone");
    assert!(lock.package("gcc-14").is_none(), "what it depends on");
    let modules = lock.closure(Role::Modules);
    assert_eq!(modules[0].name, "zz-tools");
    for other in [
        "{name: a, deb: aa-tools}",
        "{name: a, deb: gcc}, {name: b, deb: libc6}",
    ] {
        let error = lock.check(&with(other)).expect_err(other).to_string();
        assert!(error.contains("takes alone are `gcc`"), "{error}");
    }
    let error = PackageLock::parse(text.replace("    \"gcc\"\n", "    \"none\"\n").as_bytes());
    assert!(error.is_err(), "a package that is not among the packages");
}

fn lock(text: &str) -> PackageLock {
    PackageLock::parse(text.as_bytes()).expect("a lock")
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

/// The archive a week later: a fix in one package, another provider, another kernel.
fn publish_later(place: &Place) {
    let newer: Vec<_> = PACKAGES
        .map(|line| line.replace("2.41-12", "2.41-12+deb13u1"))
        .map(|line| line.replace("zz-tools 1", "yy-tools 1"))
        .map(|line| line.replace("6.12.107", "6.12.117"))
        .map(|line| line.replace("ovmf 2025.02-8", "ovmf 2025.02-9"))
        .to_vec();
    // What was there is there still, but for the provider.
    let older = PACKAGES.iter().filter(|line| !line.starts_with("zz-tools"));
    let all: Vec<_> = newer.iter().map(String::as_str).collect();
    let mut all = [all, older.copied().collect()].concat();
    all.sort_unstable();
    all.dedup();
    publish(&place.archive, &index(&all));
}

#[test]
fn what_changed_is_named() {
    let place = Place::new();
    let before = lock(&place.lock().expect("a lock"));
    assert_eq!(changes(Some(&before), &before), []);
    publish_later(&place);
    let after = lock(&place.lock().expect("a lock"));
    let changed = changes(Some(&before), &after);
    assert_eq!(
        lines(&changed),
        [
            "libc6 2.41-12 -> 2.41-12+deb13u1",
            "linux-image-6.12.107+deb13-cloud-amd64 6.12.107-1 is gone",
            "linux-image-6.12.117+deb13-cloud-amd64 6.12.117-1 is new",
            "ovmf 2025.02-8 -> 2025.02-9",
            "yy-tools 1 is new",
            "zz-tools 1 is gone"
        ]
    );
    let words: Vec<_> = changed.iter().map(Change::word).collect();
    assert_eq!(words[0], "other version");
    assert_eq!(changes(None, &after).len(), 7, "all of a new lock");
    let other = before.packages()[0].sha256.to_string();
    let text = place.lock().expect("a lock").replace(
        &after.packages()[0].sha256.to_string(),
        &Digest([7; 32]).to_string(),
    );
    let changed = changes(Some(&after), &lock(&text));
    assert_eq!(changed[0].word(), "OTHER BYTES", "{other}");
}

#[test]
fn an_update_changes_what_it_names_and_what_must_follow() {
    let place = Place::new();
    let before = lock(&place.lock().expect("a lock"));
    publish_later(&place);
    let recipe = recipe();
    let updated = |update| {
        let order = Order {
            before: Some(&before),
            update,
            ..place.order(&recipe)
        };
        let text = make_lock(order, &mut |_| {})?;
        Ok::<_, LockingError>(lines(&changes(Some(&before), &lock(&text))))
    };
    // The provider has left the archive, so it follows whatever is asked.
    let follows = ["yy-tools 1 is new", "zz-tools 1 is gone"];
    assert_eq!(
        updated(Update::Nothing),
        Ok(follows.map(String::from).into())
    );
    let libc = "libc6 2.41-12 -> 2.41-12+deb13u1";
    let expected = [&[libc][..], &follows].concat();
    let got = updated(Update::Only("libc6")).expect("there");
    assert_eq!(got, expected);
    for kernel in [
        "linux-image-cloud-amd64",
        "linux-image-6.12.107+deb13-cloud-amd64",
    ] {
        let got = updated(Update::Only(kernel)).expect("there");
        assert_eq!(got.len(), 4, "{got:?}");
        assert!(got[1].contains("6.12.117-1 is new"), "{got:?}");
    }
    assert_eq!(updated(Update::All).expect("there").len(), 6);
    let error = updated(Update::Only("nobody")).expect_err("a slip of the pen");
    assert_eq!(
        error.to_string(),
        "there is no nobody in the lock to update"
    );
}

#[test]
fn an_update_pulls_along_what_the_new_version_needs() {
    let place = Place::new();
    let before = lock(&place.lock().expect("a lock"));
    let newer = [
        "gcc 4:14.2.0-2; gcc-14 (>= 14.2.0-20)",
        "gcc-14 14.2.0-20; libc6",
    ];
    publish(&place.archive, &index(&[&PACKAGES[..], &newer].concat()));
    let recipe = recipe();
    let order = |update| Order {
        before: Some(&before),
        update,
        ..place.order(&recipe)
    };
    let changed = |update| {
        let text = make_lock(order(update), &mut |_| {}).expect("a lock");
        lines(&changes(Some(&before), &lock(&text)))
    };
    assert_eq!(changed(Update::Nothing), [""; 0]);
    assert_eq!(changed(Update::Only("ovmf")), [""; 0]);
    let pair = [
        "gcc 4:14.2.0-1 -> 4:14.2.0-2",
        "gcc-14 14.2.0-19 -> 14.2.0-20",
    ];
    assert_eq!(changed(Update::Only("gcc")), pair);
    assert_eq!(changed(Update::Only("gcc-14")), pair[1..]);
}

#[test]
fn a_mirror_that_shows_something_else_is_passed_over_for_the_next() {
    let mut place = Place::new();
    let good = place.lock().expect("a lock");
    let (stranger, old, spoilt) = (Archive::start(), Archive::start(), Archive::start());
    stranger.put(RELEASE, Signer::new(KEY + 1).sign("Date: x").as_bytes());
    let text = "Codename: trixie\nDate: Sat, 12 Sep 2026 07:55:40 UTC\nSHA256:";
    old.put(RELEASE, Signer::new(KEY).sign(text).as_bytes());
    spoilt.put(RELEASE, &place.archive.get(RELEASE));
    spoilt.put(INDEX, b"something else");
    let before = lock(&good);
    let recipe = recipe();
    let mut others: Vec<_> = [&stranger, &old, &spoilt]
        .map(|archive| archive.url().to_owned())
        .into();
    others.insert(0, "http://127.0.0.1:1/debian".into());
    let mut refused = Vec::new();
    // An empty store: nothing is to be found there.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::at(folder.path());
    for mirrors in [
        [others.clone(), vec![place.archive.url().to_owned()]].concat(),
        others,
    ] {
        place.mirrors = mirrors;
        let order = Order {
            store: &store,
            before: Some(&before),
            ..place.order(&recipe)
        };
        refused.clear();
        let result = make_lock(order, &mut |event| {
            if let Progress::Refused { reason } = event {
                refused.push(reason.to_owned());
            }
        });
        let last = place.mirrors.len() == 5;
        assert_eq!(result.is_ok(), last, "{result:?}");
        if last {
            assert_eq!(result.as_ref(), Ok(&good));
            assert!(refused[0].contains("the network failed"), "{refused:?}");
            assert!(refused[1].contains("not signed by a key"), "{refused:?}");
            assert!(refused[2].contains("older than the lock's"), "{refused:?}");
            assert!(refused[3].contains("announced 14 bytes"), "{refused:?}");
            let store = store.root().join("sha256");
            for file in fs::read_dir(store).expect("there") {
                fs::remove_file(file.expect("there").path()).expect("writable");
            }
        } else {
            let error = result.expect_err("none is left").to_string();
            assert!(error.starts_with("no mirror shows trixie"), "{error}");
            assert!(error.contains("announced 14 bytes"), "{error}");
        }
    }
}

#[test]
fn an_index_that_the_release_does_not_list_is_refused_and_not_kept() {
    let place = Place::new();
    let mut spoilt = xz_stored(index(&PACKAGES).as_bytes());
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    place.archive.put(INDEX, &spoilt);
    let error = place.lock().expect_err("one bit differs");
    assert!(
        matches!(
            &error,
            LockingError::Fetch(FetchError::Mirror {
                fault: MirrorFault::WrongDigest { .. },
                ..
            })
        ),
        "{error}"
    );
    spoilt.push(0);
    place.archive.put(INDEX, &spoilt);
    place.refuses("announced", Fault::Mirror);
    let kept = fs::read_dir(place.store.root().join("sha256")).expect("there");
    assert_eq!(kept.count(), 0);
}

/// A release with this text, signed.
fn put_release(place: &Place, text: &str) {
    let signed = Signer::new(KEY).sign(text);
    place.archive.put(RELEASE, signed.as_bytes());
}

#[test]
fn a_release_that_is_wrong_is_refused() {
    let text = |codename: &str, date: &str, path: &str| {
        let zeros = "0".repeat(64);
        format!("Codename: {codename}\nDate: {date}\nSHA256:\n {zeros} 9 main/{path}/Packages.xz")
    };
    let spoil = |text: &str, expected: &str| {
        let place = Place::new();
        put_release(&place, text);
        place.refuses(expected, Fault::Mirror);
        assert_eq!(
            place.archive.asked(),
            [RELEASE],
            "nothing more is asked for"
        );
    };
    let amd64 = "binary-amd64";
    spoil(
        &text("sid", DATE, amd64),
        "is about sid and not about trixie",
    );
    spoil(&text("trixie", DATE, "binary-arm64"), "does not list");
    spoil(&text("trixie", "today", amd64), "has a date `today`");
    let future = "Sat, 12 Sep 2026 09:55:41 UTC";
    spoil(&text("trixie", future, amd64), "is in the future");
    let over = format!("Valid-Until: {DATE}\n{}", text("trixie", DATE, amd64));
    spoil(&over, "was valid until 2026-09-12 07:55:41 UTC");
    let place = Place::new();
    place.archive.drop(RELEASE);
    place.refuses("404", Fault::Mirror);
    place.archive.put(RELEASE, &vec![b'a'; (4 << 20) + 1]);
    place.refuses("more than 4194304 bytes", Fault::Mirror);
}

#[test]
fn a_release_that_no_pinned_key_signed_is_refused_and_nothing_is_fetched_by_it() {
    let place = Place::new();
    let text = "Codename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC";
    let stranger = Signer::new(KEY + 1).sign(text);
    place.archive.put(RELEASE, stranger.as_bytes());
    let error = place.lock().expect_err("a stranger's");
    assert!(
        matches!(
            &error,
            LockingError::Release {
                error: ReleaseError::Signature(SignatureError::NoPinnedKey { .. }),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Mirror);
    place.archive.put(RELEASE, text.as_bytes());
    place.refuses("is not a whole cleartext-signed message", Fault::Mirror);
    assert_eq!(place.archive.asked(), [RELEASE, RELEASE]);
}

#[test]
fn a_key_that_is_not_the_pinned_one_is_the_recipes_fault() {
    let place = Place::new();
    let file = place.folder.path().join("keys/test.asc");
    fs::write(&file, Signer::new(KEY + 1).certificate()).expect("writable");
    place.refuses("the key keys/test.asc has the fingerprint", Fault::Recipe);
    fs::write(&file, "no key").expect("writable");
    place.refuses("is not an OpenPGP certificate", Fault::Recipe);
    fs::remove_file(&file).expect("there");
    place.refuses("reading", Fault::Disk);
    assert_eq!(place.archive.asked(), [""; 0], "no mirror is asked before");
}

#[test]
fn an_archive_that_is_older_than_the_locks_is_refused_unless_asked_for() {
    let place = Place::new();
    let text = place.lock().expect("a lock");
    let later = text.replace(DATE, "Sat, 12 Sep 2026 07:55:42 UTC");
    let before = PackageLock::parse(later.as_bytes()).expect("a lock of a second later");
    let recipe = recipe();
    let order = Order {
        before: Some(&before),
        ..place.order(&recipe)
    };
    let error = make_lock(order, &mut |_| {}).expect_err("a second older");
    assert!(
        error.to_string().contains("older than the lock's"),
        "{error}"
    );
    let allowed = Order {
        allow_older: true,
        ..order
    };
    assert_eq!(make_lock(allowed, &mut |_| {}), Ok(text.clone()));
    let same = PackageLock::parse(text.as_bytes()).expect("a lock");
    let again = Order {
        before: Some(&same),
        ..order
    };
    assert_eq!(make_lock(again, &mut |_| {}), Ok(text));
}

#[test]
fn what_the_archive_lacks_is_named() {
    let without = |name: &str, expected: &str| {
        let place = Place::new();
        let rest = PACKAGES.iter().filter(|line| !line.starts_with(name));
        publish(&place.archive, &index(&rest.copied().collect::<Vec<_>>()));
        place.refuses(expected, Fault::Recipe);
    };
    without("gcc ", "no package gcc in the archive");
    without("ovmf ", "no package ovmf");
    without("libc6 2.41", "gcc-14 needs `libc6 (>= 2.41)`");
    without("zz-tools", "swtpm needs `tools-virtual (>= 2)`");
    without("linux-image-6", "leads to 0 kernels");
    without("linux-image-cloud", "no package linux-image-cloud-amd64");
}

#[test]
fn bytes_that_are_no_index_are_the_mirrors_fault() {
    let place = Place::new();
    let bad = index(&PACKAGES).replace("Package: gcc\n", "Package: ../x\n");
    publish(&place.archive, &bad);
    place.refuses("Package: ../x", Fault::Mirror);
    publish(&place.archive, &"a".repeat((1 << 20) + 1));
    place.refuses("bytes in a line", Fault::Mirror);
}

#[test]
fn the_committed_lock_is_of_the_committed_recipe() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let recipe = Recipe::read(&folder.join("sim.yaml")).expect("committed");
    let path = recipe.lock_path(&folder.join("sim.yaml"));
    let lock = PackageLock::read(&path).expect("committed");
    lock.check(&recipe).expect("of this recipe");
    assert!(lock.kernel().name.ends_with("-cloud-amd64"));
    let run = lock.closure(Role::Run);
    assert!(run.iter().any(|package| package.name == "libc6"));
    // Nothing is locked that nobody needs.
    let needed = lock.closure(Role::Build).into_iter().chain(run);
    let mut names: Vec<_> = needed.map(|package| &package.name).collect();
    names.push(&lock.firmware().name);
    names.extend(lock.kernel_packages().into_iter().map(|p| &p.name));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), lock.packages().len());
}

#[test]
fn a_bad_lock_is_refused_with_its_reason() {
    let place = Place::new();
    let good = place.lock().expect("a lock");
    let check = |from: &str, to: &str, expected: &str| {
        assert!(good.contains(from), "the case needs `{from}`");
        let error = PackageLock::parse(good.replacen(from, to, 1).as_bytes()).expect_err(to);
        assert!(error.to_string().contains(expected), "{to}: {error}");
    };
    check(
        "\"version\": 2",
        "\"version\": 1",
        "version 1; this program",
    );
    check("\"recipe\"", "\"extra\": 1,\n\"recipe\"", "unknown field");
    check("\"name\": \"gcc\"", "\"name\": \"../gcc\"", "name of");
    check("\"name\": \"gcc\"", "\"name\": \"zz\"", "out of order");
    check(
        "\"name\": \"gcc\"",
        "\"name\": \"gbb\"",
        "names gcc, which is not",
    );
    check("pool/main/gcc_", "/pool/main/gcc_", "path of");
    check("pool/main/gcc_", "pool/../gcc_", "path of");
    check("\"bytes\": 7", "\"bytes\": 0", "bytes of");
    check("\"bytes\": 7", "\"bytes\": 2147483649", "bytes of");
    check(
        "\"architecture\": \"amd64\"",
        "\"architecture\": \"arm64\"",
        "architecture",
    );
    check("\"version\": \"4:14", "\"version\": \"x:14", "version of");
    check("http://deb", "ftp://deb", "mirror");
    check(
        "\"package\": \"ovmf\"",
        "\"package\": \"seabios\"",
        "names seabios",
    );
    check("      \"gcc\",\n", "      \"zcc\",\n", "out of order");
    check(
        "\"suite\": \"trixie\"",
        "\"suite\": \"forky\"",
        "suite of `gcc`",
    );
    check("Sat, 12 Sep", "Sat, 32 Sep", "date of `trixie`");
    let other = good.replace("trixie", "forky");
    let other = PackageLock::parse(other.as_bytes()).expect("well formed");
    let error = other.check(&recipe()).expect_err("another suite");
    assert!(error.to_string().contains("image-builder lock"), "{error}");
}

#[test]
fn a_lock_with_any_byte_changed_is_an_error_or_a_lock() {
    let good = Place::new().lock().expect("a lock").into_bytes();
    for at in 0..good.len() {
        for bit in [1, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= bit;
            if let Ok(lock) = PackageLock::parse(&bytes) {
                assert_eq!(lock.digest(), Digest::of(&bytes));
                let _ = (lock.kernel(), lock.firmware(), lock.closure(Role::Run));
            }
        }
    }
}

/// The committed recipe, smaller, with these inputs.
fn recipe_with(inputs: &str) -> Recipe {
    let text = sim()
        .replace("[gcc, libc6-dev, erofs-utils]", "[gcc]")
        .replace("[qemu-system-x86, swtpm, systemd-boot-efi]", "[swtpm]");
    let text = text.replacen("\ninitrd:", &format!("\ninputs: [{inputs}]\ninitrd:"), 1);
    Recipe::parse(&text).expect("a recipe with inputs")
}

/// What PyPI says about a project, in the JSON form of the simple API.
fn put_project(place: &Place, files: &str) {
    let page = format!("{{\"meta\": {{\"api-version\": \"1.1\"}}, \"files\": [{files}]}}");
    place.archive.put("/simple/some-project/", page.as_bytes());
}

fn wheel(file: &str, more: &str) -> String {
    format!(
        "{{\"filename\": \"{file}\", \"url\": \"https://files.example/ab/{file}\", \"hashes\": {{\"sha256\": \"{}\"}}, \"size\": 9{more}}}",
        Digest::of(file.as_bytes())
    )
}

#[test]
fn inputs_of_every_kind_are_locked_and_kept() {
    let place = Place::new();
    let file = "some_project-1.2-py3-none-manylinux_2_17_x86_64.whl";
    let others = [
        "some_project-1.2-py3-none-win_amd64.whl",
        "some_project-1.2-py3-none-manylinux_2_17_aarch64.whl",
        "some_project-1.20-py3-none-any.whl",
        "some_project-1.2.tar.gz",
    ];
    let all: Vec<_> = others.iter().chain([&file]).map(|f| wheel(f, "")).collect();
    put_project(&place, &all.join(", "));
    fs::write(place.folder.path().join("local"), b"one").expect("writable");
    let zeros = "0".repeat(64);
    let inputs = format!(
        "{{name: wheel, pypi: Some.Project, version: \"1.2\"}}, {{name: local, path: local}}, \
         {{name: file, url: \"https://a.example/b.tgz\", bytes: 3, sha256: \"{zeros}\"}}"
    );
    let recipe = recipe_with(&inputs);
    let text = place.lock_of(&recipe).expect("all are there");
    let locked = lock(&text);
    let names: Vec<_> = locked.inputs().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["file", "local", "wheel"]);
    let found = locked.input("wheel").expect("locked");
    assert_eq!(found.version.as_deref(), Some("1.2"));
    assert_eq!(found.seen, format!("https://files.example/ab/{file}"));
    assert_eq!(
        (found.bytes, found.sha256),
        (9, Digest::of(file.as_bytes()))
    );
    assert_eq!(
        locked.input("local").expect("locked").sha256,
        Digest::of(b"one")
    );
    // A lock that is there keeps them, and an update of one changes one.
    fs::write(place.folder.path().join("local"), b"two").expect("writable");
    put_project(&place, "");
    let update = |update| {
        let order = Order {
            before: Some(&locked),
            update,
            ..place.order(&recipe)
        };
        make_lock(order, &mut |_| {}).map(|text| lines(&changes(Some(&locked), &lock(&text))))
    };
    assert_eq!(update(Update::Nothing), Ok(Vec::new()));
    let changed = update(Update::Only("local")).expect("there");
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].starts_with("local "), "{changed:?}");
    let error = update(Update::All)
        .expect_err("the wheel is gone")
        .to_string();
    assert!(
        error.contains("the input wheel has no wheel of 1.2"),
        "{error}"
    );
    // The lock is of this recipe, and of no other.
    for other in [
        inputs.replace("1.2", "1.3"),
        inputs.replace("path: local", "path: other"),
        inputs.replace("bytes: 3", "bytes: 4"),
        inputs.replace("name: file", "name: filed"),
        format!("{inputs}, {{name: more, path: local}}"),
    ] {
        let error = locked.check(&recipe_with(&other)).expect_err(&other);
        assert!(error.to_string().contains("input"), "{error}");
    }
}

#[test]
fn a_wheel_that_is_not_clear_is_refused_by_name() {
    let place = Place::new();
    let check = |files: &str, more: &str, expected: &str| {
        put_project(&place, files);
        let input = format!("{{name: wheel, pypi: some-project, version: \"1.2\"{more}}}");
        let error = place.lock_of(&recipe_with(&input)).expect_err(expected);
        let text = error.to_string();
        assert!(
            text.contains("the input wheel") && text.contains(expected),
            "{text}"
        );
    };
    let (one, two) = (
        "some_project-1.2-cp311-cp311-manylinux_2_17_x86_64.whl",
        "some_project-1.2-cp312-cp312-manylinux_2_17_x86_64.whl",
    );
    check(
        &format!("{}, {}", wheel(one, ""), wheel(two, "")),
        "",
        "name one as its file",
    );
    check(
        &wheel(one, ""),
        ", file: some_project-1.2-py3-none-any.whl",
        "has no wheel",
    );
    check(&wheel(one, ", \"yanked\": \"broken\""), "", "was withdrawn");
    let no_digest = wheel(one, "").replace("sha256", "md5");
    check(&no_digest, "", "has no size, SHA-256");
    check(
        &wheel(one, "").replace("\"size\": 9", "\"x\": 9"),
        "",
        "has no size",
    );
    check(
        &wheel(one, "").replace("/ab/", "/ab/other"),
        "",
        "plain URL",
    );
    check(&wheel(one, "").replace("https:", "file:"), "", "plain URL");
    check("1", "", "does not parse");
}
