//! What two manifests say differently, component by component.

use std::collections::BTreeMap;
use std::fmt;

use predict::image::{Content, ContentKind, ImageManifest, ImagePart};
use serde::Serialize;

/// One thing that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What kind of thing: `package`, `module`, `file inside`, `register` and so on.
    pub component: &'static str,
    /// Which one.
    pub name: String,
    /// What the first manifest says, if it has it.
    pub first: Option<String>,
    /// What the second says.
    pub second: Option<String>,
}

/// Everything in which two images differ, in the order in which one would ask.
pub fn changes(first: &ImageManifest, second: &ImageManifest) -> Vec<Change> {
    let mut found = Vec::new();
    let mut compare = |component, of: &dyn Fn(&ImageManifest) -> Things| {
        found.extend(differing(component, &of(first), &of(second)));
    };
    compare("image", &image);
    compare("package", &packages);
    compare("module", &|manifest| inside(manifest, true));
    compare("file inside", &|manifest| inside(manifest, false));
    compare("artifact", &artifacts);
    compare("command line", &words);
    compare("register", &registers);
    found
}

/// Things of one kind by name, each with what it is.
type Things = BTreeMap<String, String>;

fn differing(component: &'static str, first: &Things, second: &Things) -> Vec<Change> {
    let names = first
        .keys()
        .chain(second.keys().filter(|name| !first.contains_key(*name)));
    let mut found: Vec<Change> = names
        .filter(|name| first.get(*name) != second.get(*name))
        .map(|name| Change {
            component,
            name: name.clone(),
            first: first.get(name).cloned(),
            second: second.get(name).cloned(),
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn image(manifest: &ImageManifest) -> Things {
    let machine = manifest.machine;
    let machine = format!("{} processors, {} MiB", machine.vcpus, machine.memory_mib);
    let one = |name: &str, value: String| (name.to_owned(), value);
    Things::from([
        one("profile", manifest.profile.as_str().into()),
        one("lock", manifest.lock_sha256.to_string()),
        one("compiler", manifest.compiler.clone()),
        one("machine", machine),
    ])
}

fn packages(manifest: &ImageManifest) -> Things {
    let mut found = Things::new();
    for package in &manifest.packages {
        let role = format!("{:?}", package.role).to_lowercase();
        let what = format!("{} ({role}, {})", package.version, package.sha256);
        // A package may be in two roles.
        found.insert(format!("{} for {role}", package.name), what);
    }
    found
}

fn inside(manifest: &ImageManifest, modules: bool) -> Things {
    let is_module = |content: &&Content| content.path.ends_with(".ko") == modules;
    let mut found = Things::new();
    for content in manifest.contents.iter().filter(is_module) {
        let part = match content.part {
            ImagePart::Initrd => "initrd",
            ImagePart::Root => "root",
        };
        found.insert(format!("{part}:{}", content.path), describe(content));
    }
    found
}

/// All that the image shows of it, and where it is from.
fn describe(content: &Content) -> String {
    let what = match &content.kind {
        ContentKind::File { bytes, sha256 } => format!("{bytes} bytes, {sha256}"),
        ContentKind::Directory => "directory".into(),
        ContentKind::Link { target } => format!("link to {target}"),
        ContentKind::Same { target } => format!("the same file as {target}"),
        ContentKind::Device { major, minor } => format!("device {major}:{minor}"),
    };
    let mut text = format!("{what}, mode {}", content.mode);
    if (content.user, content.group) != (0, 0) {
        text += &format!(", owner {}:{}", content.user, content.group);
    }
    for (name, value) in &content.attributes {
        text += &format!(", {name}={value}");
    }
    if let Some(from) = &content.from {
        text += &format!(", from {from}");
    }
    text
}

fn artifacts(manifest: &ImageManifest) -> Things {
    let files = manifest.files.all();
    files
        .map(|(what, file)| {
            let (name, bytes, sha256) = (&file.name, file.bytes, file.sha256);
            (what.to_owned(), format!("{name}, {bytes} bytes, {sha256}"))
        })
        .collect()
}

/// By place, since their order counts.
fn words(manifest: &ImageManifest) -> Things {
    let words = manifest.cmdline.split(' ').enumerate();
    words
        .map(|(place, word)| (format!("word {:03}", place + 1), word.to_owned()))
        .collect()
}

fn registers(manifest: &ImageManifest) -> Things {
    let registers = manifest.registers;
    let mut found = Things::new();
    for (name, value) in [
        ("mrtd", registers.mrtd),
        ("rtmr0", registers.rtmr0),
        ("rtmr1", registers.rtmr1),
        ("rtmr2", registers.rtmr2),
    ] {
        found.insert(name.into(), value.to_string());
    }
    if let Some(uki) = &manifest.uki {
        for (method, registers) in [("kernel", Some(uki.kernel)), ("disk", uki.disk)] {
            let Some(registers) = registers else { continue };
            found.insert(
                format!("rtmr1, unified image by {method}"),
                registers.rtmr1.to_string(),
            );
            found.insert(
                format!("rtmr2, unified image by {method}"),
                registers.rtmr2.to_string(),
            );
        }
    }
    found.insert(
        "agent, into rtmr3".into(),
        manifest.agent_sha384.to_string(),
    );
    found
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            component,
            name,
            first,
            second,
        } = self;
        match (first, second) {
            (Some(first), None) => write!(f, "- {component} {name}: {first}"),
            (None, Some(second)) => write!(f, "+ {component} {name}: {second}"),
            (Some(first), Some(second)) => {
                write!(f, "~ {component} {name}: {first} -> {second}")
            }
            (None, None) => Ok(()),
        }
    }
}
