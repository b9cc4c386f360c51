//! What a lock keeps, what an update changes, mirrors that are passed over, and inputs that are locked.

use std::fs;

use image_builder::error::Error;
use image_builder::lock::Recipe;
use image_builder::locking::{Change, Order, Update, changes, make_lock};
use image_builder::store::{Progress, Store};
use registers::Digest32;

use super::archive::Archive;
use super::signer::Signer;
use super::suite::{
    INDEX, KEY, PACKAGES, Place, RELEASE, index, lines, lock, publish, recipe, sim,
};

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
        &Digest32([7; 32]).to_string(),
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
        Ok::<_, Error>(lines(&changes(Some(&before), &lock(&text))))
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
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::at(directory.path());
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
        Digest32::of(file.as_bytes())
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
    fs::write(place.directory.path().join("local"), b"one").expect("writable");
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
        (9, Digest32::of(file.as_bytes()))
    );
    assert_eq!(
        locked.input("local").expect("locked").sha256,
        Digest32::of(b"one")
    );
    // A lock that is there keeps them, and an update of one changes one.
    fs::write(place.directory.path().join("local"), b"two").expect("writable");
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
