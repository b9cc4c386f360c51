//! From a recipe to a lock, against a made archive.

use std::fs;
use std::path::Path;

use image_builder::error::Fault;
use image_builder::lock::{PackageLock, Recipe, Role};
use image_builder::locking::{Order, make_lock};
use registers::Digest32;

use super::made_packages::xz_stored;
use super::signer::Signer;
use super::suite::{
    DATE, INDEX, KEY, PACKAGES, Place, RELEASE, index, publish, publish_as, recipe, sim,
};

#[test]
fn a_recipe_becomes_a_lock_and_the_same_one_again() {
    let place = Place::new();
    let text = place.lock().expect("the archive has everything");
    assert_eq!(place.lock().expect("still"), text);
    let lock = PackageLock::parse(text.as_bytes()).expect("what we write we read");
    assert_eq!(lock.digest(), Digest32::of(text.as_bytes()));
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
    let shown = |packages: Vec<&image_builder::lock::Package>| {
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
            &format!(
                "\ninputs: [{inputs}]\nmodules: {{input: a, directory: b, names: [c]}}\ninitrd:"
            ),
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

#[test]
fn an_index_that_the_release_does_not_list_is_refused_and_not_kept() {
    let place = Place::new();
    let mut spoilt = xz_stored(index(&PACKAGES).as_bytes());
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    place.archive.put(INDEX, &spoilt);
    let error = place.lock().expect_err("one bit differs");
    assert!(
        error.to_string().contains("sent a file with SHA-256"),
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
    let words = "is not signed by a key that the recipe pins";
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(error.fault(), Fault::Mirror);
    place.archive.put(RELEASE, text.as_bytes());
    place.refuses("is not a whole cleartext-signed message", Fault::Mirror);
    assert_eq!(place.archive.asked(), [RELEASE, RELEASE]);
}

#[test]
fn a_key_that_is_not_the_pinned_one_is_the_recipes_fault() {
    let place = Place::new();
    let file = place.directory.path().join("keys/test.asc");
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
fn an_odd_paragraph_of_a_package_that_nobody_needs_refuses_nothing() {
    let place = Place::new();
    let good = place.lock().expect("a lock");
    let odd = [
        "odd 1 2; gcc",
        "more 1; gcc; gcc-virtual (>= 2), x:i386, ",
        "Upper 1; gcc",
        "needy 1; gcc ((",
    ];
    publish(&place.archive, &(index(&odd) + &index(&PACKAGES)));
    let mut said = Vec::new();
    let recipe = recipe();
    let text = make_lock(place.order(&recipe), &mut |step| {
        said.push(format!("{step:?}"))
    });
    let without = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("release_sha256"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without(&text.expect("a lock")), without(&good));
    let odd = said.iter().find(|step| step.contains("passed over"));
    let odd = odd.expect("it is told");
    assert!(
        odd.contains("2 odd paragraphs") && odd.contains("(package odd), Version: 1 2"),
        "{odd}"
    );
    // Whoever asks for it learns why it cannot be had.
    let text = sim().replace("[gcc, libc6-dev, erofs-utils]", "[odd]");
    let error = place
        .lock_of(&Recipe::parse(&text).expect("a recipe"))
        .expect_err("odd");
    assert!(
        error.to_string().contains("(package odd), Version: 1 2"),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Mirror);
    let text = text.replace("[odd]", "[needy]");
    let error = place
        .lock_of(&Recipe::parse(&text).expect("a recipe"))
        .expect_err("odd");
    assert!(
        error
            .to_string()
            .contains("of needy are malformed: Depends has `gcc ((`"),
        "{error}"
    );
}

/// [`publish`] for an archive that keeps its indexes by digest, and the path of this one.
fn publish_by_hash(place: &Place, index: &str) -> (String, Vec<u8>) {
    let packed = xz_stored(index.as_bytes());
    let (sha256, bytes) = (Digest32::of(&packed), packed.len());
    put_release(
        place,
        &format!(
            "Codename: trixie\nDate: {DATE}\nAcquire-By-Hash: yes\nSHA256:\n {sha256} {bytes} main/binary-amd64/Packages.xz"
        ),
    );
    let path = format!("dists/trixie/main/binary-amd64/by-hash/SHA256/{sha256}");
    (path, packed)
}

#[test]
fn an_index_is_fetched_by_its_digest_while_the_mirror_still_has_the_old_one_by_its_name() {
    let place = Place::new();
    let newer = index(&PACKAGES) + &index(&["newer 1"]);
    let (path, packed) = publish_by_hash(&place, &newer);
    // Until the new one is there nothing can be had, and the name that people know is blamed.
    place.refuses(&format!("/{INDEX} "), Fault::Mirror);
    place.archive.put(&path, &packed);
    place.lock().expect("by its digest");
    assert_eq!(
        place.archive.asked(),
        [RELEASE, &path, INDEX, RELEASE, &path]
    );

    // A mirror that keeps nothing by digest, or something else, is asked by name.
    for other in [None, Some(&packed[..packed.len() - 1])] {
        let place = Place::new();
        publish_by_hash(&place, &newer);
        place.archive.put(INDEX, &packed);
        if let Some(other) = other {
            place.archive.put(&path, other);
        }
        place.lock().expect("by its name");
        assert_eq!(place.archive.asked(), [RELEASE, &path, INDEX]);
    }
}

#[test]
fn the_committed_lock_is_of_the_committed_recipe() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let recipe = Recipe::read(&directory.join("sim.yaml")).expect("committed");
    let path = recipe.lock_path(&directory.join("sim.yaml"));
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
                assert_eq!(lock.digest(), Digest32::of(&bytes));
                let _ = (lock.kernel(), lock.firmware(), lock.closure(Role::Run));
            }
        }
    }
}
