//! What becomes of maintainer scripts, of which none is ever run.
//!
//! A package's `preinst` and `postinst` are read, and each has to be one of these, or the build is refused with its name:
//!
//! 1. Nothing but sections that `debhelper` put in, of the kinds in [`GENERATED`]. What those do is for a service manager that an
//!    image lacks, for an upgrade, or is made here anyway.
//! 2. A script of the list in `reviewed.rs`, by its digest, with what it would have made in an empty root. That is made.
//! 3. A script of a package that the recipe names in `root.ignore_scripts`: who wrote the recipe has judged it.
//!
//! A new version of a package has a new script if a byte of it changed, and is judged again. Scripts for removal and upgrade have no
//! part in an image. Triggers matter only through the `postinst` that they would start.

use std::collections::{BTreeMap, BTreeSet};

use super::MAKER;
use super::reviewed::REVIEWED;
use crate::error::{Error, error};
use crate::formats::deb_scripts::INSTALL_SCRIPTS;
use crate::formats::entry::{Entry, Owner, What};
use registers::Digest32;

/// Something that a script would have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A copy of a file: from, to. Left alone if something is there.
    Copy(&'static str, &'static str),
    /// A directory: path, mode, group. Left alone if something is there.
    Directory(&'static str, u32, u32),
    /// An empty file: path, mode, group. Left alone if something is there.
    Empty(&'static str, u32, u32),
    /// A link: path, target. Left alone if something is there.
    Link(&'static str, &'static str),
    /// A link in place of an empty directory: path, target.
    Replace(&'static str, &'static str),
    /// One of several programs for a path, of which that with the highest priority is taken (`update-alternatives`): path, name,
    /// program, priority. Slaves, which are pages of manuals, are left out.
    Alternative(&'static str, &'static str, &'static str, i32),
}

/// What is to be made, and what is not run.
#[derive(Debug, Default)]
pub struct Judged {
    /// Of all packages, in the order of their names.
    pub effects: Vec<Effect>,
    /// A line for each script that has more than generated sections.
    pub not_run: Vec<String>,
}

/// Judges the scripts of packages (`name version`).
pub fn judge(
    scripts: &BTreeMap<String, BTreeMap<String, String>>,
    ignored: &[String],
) -> Result<Judged, Error> {
    let mut judged = Judged::default();
    let mut used = BTreeSet::new();
    for (package, texts) in scripts {
        let name = package.split(' ').next().unwrap_or_default();
        for script in INSTALL_SCRIPTS {
            let Some(text) = texts.get(script).filter(|text| !is_generated(text)) else {
                continue;
            };
            let hex = Digest32::of(text.as_bytes()).to_string();
            let known = |one: &&super::reviewed::Reviewed| {
                (one.package, one.script, one.sha256) == (name, script, hex.as_str())
            };
            if let Some(reviewed) = REVIEWED.iter().find(known) {
                judged.effects.extend(reviewed.effects);
                judged
                    .not_run
                    .push(format!("{package} {script}: {}", reviewed.says));
            } else if ignored.iter().any(|one| one == name) {
                used.insert(name);
                judged
                    .not_run
                    .push(format!("{package} {script}: ignored by the recipe"));
            } else {
                return Err(error!(
                    Recipe,
                    "{package} has a {script} (SHA-256 {hex}) that was not reviewed, and no script is ever run; if the image can do \
                     without what it does, name {package} in the recipe's root.ignore_scripts"
                ));
            }
        }
    }
    match ignored.iter().find(|name| !used.contains(name.as_str())) {
        None => Ok(judged),
        Some(package) => Err(error!(
            Recipe,
            "the recipe's root.ignore_scripts names {package}, which has no script that needs it"
        )),
    }
}

/// Makes the effects. None of them takes the place of something that a package has.
pub fn apply(effects: &[Effect], entries: &mut Vec<Entry>) {
    let mut best: BTreeMap<&str, (&str, &str, i32)> = BTreeMap::new();
    for effect in effects {
        match *effect {
            Effect::Copy(from, to) => {
                let source = entries.iter().find(|entry| entry.path == from);
                let source = source.filter(|entry| matches!(entry.what, What::File { .. }));
                if let Some(mut copy) = source.cloned() {
                    copy.path = to.to_owned();
                    add(entries, copy);
                }
            }
            Effect::Directory(path, mode, group) => {
                add(entries, owned(Entry::directory(path), mode, group));
            }
            Effect::Empty(path, mode, group) => {
                let file = Entry::memory(path, mode, Vec::new(), MAKER.into());
                add(entries, owned(file, mode, group));
            }
            Effect::Link(path, target) => add(entries, Entry::link(path, target, MAKER.into())),
            Effect::Replace(path, target) => {
                let below = format!("{path}/");
                if !entries.iter().any(|entry| entry.path.starts_with(&below)) {
                    entries.retain(|entry| {
                        entry.path != path || !matches!(entry.what, What::Directory)
                    });
                }
                add(entries, Entry::link(path, target, MAKER.into()));
            }
            Effect::Alternative(path, name, program, priority) => {
                let there = best
                    .get(path)
                    .is_some_and(|(.., before)| *before >= priority);
                if !there {
                    best.insert(path, (name, program, priority));
                }
            }
        }
    }
    for (path, (name, program, _)) in best {
        let middle = format!("/etc/alternatives/{name}");
        add(entries, Entry::link(path, middle.clone(), MAKER.into()));
        add(entries, Entry::link(middle, program, MAKER.into()));
    }
}

fn owned(entry: Entry, mode: u32, group: u32) -> Entry {
    let owner = Owner { user: 0, group };
    Entry {
        mode,
        owner,
        ..entry
    }
}

/// Adds an entry and the directories above it, unless something is there.
fn add(entries: &mut Vec<Entry>, entry: Entry) {
    let there = |path: &str, entries: &[Entry]| entries.iter().any(|entry| entry.path == path);
    if there(&entry.path, entries) {
        return;
    }
    for (at, _) in entry.path.match_indices('/').skip(1) {
        let parent = &entry.path[..at];
        if !there(parent, entries) {
            entries.push(Entry::directory(parent));
        }
    }
    entries.push(entry);
}

/// Whether a script does nothing of its own: what is left without generated sections, comments and the frame of a script is nothing.
fn is_generated(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(tool) = line.strip_prefix("# Automatically added by ") {
            let tool = tool.split('/').next().unwrap_or_default();
            if inside || !GENERATED.contains(&tool) {
                return false;
            }
            inside = true;
        } else if line == "# End automatically added section" {
            inside = false;
        } else if !inside && !line.starts_with('#') && !FRAME.contains(&line) {
            return false;
        }
    }
    !inside
}

/// Tools of debhelper whose sections have nothing to do in an image.
///
/// - `dh_installdeb`: `dpkg-maintscript-helper`, which acts on upgrades.
/// - `dh_installsystemd`, `dh_installsystemduser`, `dh_systemd_enable`, `dh_systemd_start`, `dh_installinit`: enable and start services; nothing is there that would.
/// - `dh_installtmpfiles`: makes what `systemd-tmpfiles` is told to, if that program is there; directories of a running system.
/// - `dh_installsysusers`: accounts, which are made here (`accounts.rs`).
/// - `dh_makeshlibs`: `ldconfig`, whose cache is made here (`loader.rs`).
/// - `dh_python3`: compiles what Python would compile when it is run.
const GENERATED: [&str; 9] = [
    "dh_installdeb",
    "dh_installsystemd",
    "dh_installsystemduser",
    "dh_systemd_enable",
    "dh_systemd_start",
    "dh_installinit",
    "dh_installtmpfiles",
    "dh_installsysusers",
    "dh_makeshlibs",
];

/// Lines that do nothing by themselves.
const FRAME: [&str; 4] = ["", "set -e", "exit 0", ":"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_of_generated_sections_alone_does_nothing() {
        let section = |tool: &str| {
            format!(
                "#!/bin/sh\nset -e\n# Automatically added by {tool}/13.24.2\nrm -rf /\n# End automatically added section\nexit 0\n"
            )
        };
        for tool in GENERATED {
            assert!(is_generated(&section(tool)), "{tool}");
        }
        assert!(is_generated("#!/bin/sh -e\n\n# nothing\n"));
        assert!(!is_generated(&section("dh_unknown")));
        assert!(!is_generated(
            &section("dh_installdeb").replace("exit 0", "ldconfig")
        ));
        assert!(!is_generated(
            &section("dh_installdeb").replace("# End automatically added section", "")
        ));
        let twice = section("dh_installdeb")
            .replace("rm -rf /", "# Automatically added by dh_installinit/1");
        assert!(!is_generated(&twice));
    }

    fn scripts(package: &str, text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let texts = BTreeMap::from([("postinst".to_owned(), text.to_owned())]);
        BTreeMap::from([(package.to_owned(), texts)])
    }

    #[test]
    fn a_script_that_nobody_judged_is_refused_by_name() {
        let unknown = scripts(
            "thing 1.0-1",
            "#!/bin/sh\nsetcap cap_net_raw+ep /bin/ping\n",
        );
        let error = judge(&unknown, &[]).expect_err("not reviewed");
        assert!(error.to_string().starts_with("thing 1.0-1 has a "));
        let judged = judge(&unknown, &["thing".into()]).expect("the recipe says so");
        assert_eq!(
            judged.not_run,
            ["thing 1.0-1 postinst: ignored by the recipe"]
        );
        // To name a package that needs it not would hide its next script.
        for needless in [scripts("thing 1", "#!/bin/sh\n"), scripts("other 1", "")] {
            let error = judge(&needless, &["thing".into()]).expect_err("needless");
            assert!(error.to_string().contains("has no script that needs it"));
        }
    }

    #[test]
    fn a_reviewed_script_is_one_byte_for_byte() {
        let digests: BTreeSet<_> = REVIEWED
            .iter()
            .map(|one| (one.package, one.script, one.sha256))
            .collect();
        assert_eq!(digests.len(), REVIEWED.len());
        for one in REVIEWED {
            let digest = hex::decode(one.sha256).expect("hex");
            assert!(digest.len() == 32 && INSTALL_SCRIPTS.contains(&one.script));
            let changed = scripts(&format!("{} 1", one.package), "#!/bin/sh\nchanged\n");
            assert!(judge(&changed, &[]).is_err());
        }
    }

    #[test]
    fn effects_fill_in_what_is_missing_and_replace_nothing() {
        let file = |path: &str, text: &str| Entry::memory(path, 0o644, text.into(), "p 1".into());
        let mut entries = vec![
            Entry::directory("/usr"),
            file("/usr/share/a.conf", "a"),
            file("/etc/b.conf", "mine"),
        ];
        let effects = [
            Effect::Copy("/usr/share/a.conf", "/etc/a.conf"),
            Effect::Copy("/usr/share/a.conf", "/etc/b.conf"),
            Effect::Copy("/usr/share/none", "/etc/none"),
            Effect::Directory("/var/mail", 0o2775, 8),
            Effect::Alternative("/usr/bin/awk", "awk", "/usr/bin/mawk", 5),
            Effect::Alternative("/usr/bin/awk", "awk", "/usr/bin/gawk", 10),
        ];
        apply(&effects, &mut entries);
        let lines: BTreeMap<_, _> = entries
            .iter()
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        let link = |path: &str| match &lines[path].what {
            What::Link { target, .. } => target.clone(),
            _ => panic!("{path} is no link"),
        };
        assert_eq!(lines.len(), entries.len(), "nothing is there twice");
        assert_eq!(link("/usr/bin/awk"), "/etc/alternatives/awk");
        assert_eq!(link("/etc/alternatives/awk"), "/usr/bin/gawk");
        assert!(lines.contains_key("/etc/a.conf") && !lines.contains_key("/etc/none"));
        let of = |path: &str| match &lines[path].what {
            What::File { bytes, .. } => *bytes,
            _ => 0,
        };
        assert_eq!((of("/etc/a.conf"), of("/etc/b.conf")), (1, 4));
        let mail = lines["/var/mail"];
        assert_eq!((mail.mode, mail.owner.group), (0o2775, 8));
        assert!(matches!(lines["/var"].what, What::Directory));
    }
}
