//! The repository's own text files and the manifests of its workspace.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// Directories that are not the repository's text: build output, version control, packages of the Tolk compiler.
const NOT_OURS: &[&str] = &["target", ".git", "node_modules", "shared"];
/// Endings of the files that people write.
const ENDINGS: &[&str] = &[
    "rs", "toml", "md", "yaml", "yml", "tolk", "mjs", "sh", "lock",
];

/// Everything that the rules look at.
pub struct Tree {
    /// All text files.
    pub files: Vec<File>,
    /// The manifests of the workspace's members.
    pub manifests: Vec<Manifest>,
}

/// One text file.
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// One member's `Cargo.toml`.
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// The member's directory from the root.
    pub directory: String,
    /// What it needs, by kind.
    pub needs: Vec<Need>,
}

/// One line of a dependency section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The package's name, `package = …` taken into account.
    pub name: String,
    /// Whether only tests, examples and benchmarks see it.
    pub development: bool,
}

/// The repository that this test was built in.
pub fn root() -> &'static Path {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.nth(2).expect("the package lies in tests/tidy")
}

impl Tree {
    /// Reads the repository that this test was built in.
    pub fn read() -> Self {
        let root = root();
        let mut files = Vec::new();
        read_directory(root, root, &mut files);
        assert!(files.len() > 20, "the walk finds the repository");
        let mut tree = Self {
            files,
            manifests: Vec::new(),
        };
        tree.manifests = tree.members();
        assert!(tree.manifests.len() > 5, "the workspace has its members");
        tree
    }

    /// The Rust files.
    pub fn sources(&self) -> Vec<&File> {
        self.files
            .iter()
            .filter(|file| file.path.ends_with(".rs"))
            .collect()
    }

    /// Whether there is a text file at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// The text at `path`.
    pub fn text(&self, path: &str) -> &str {
        let file = self.files.iter().find(|file| file.path == path);
        &file.unwrap_or_else(|| panic!("{path} is missing")).text
    }

    fn members(&self) -> Vec<Manifest> {
        let workspace: Table = self
            .text("Cargo.toml")
            .parse()
            .expect("cargo has read the root manifest");
        let members = workspace["workspace"]["members"]
            .as_array()
            .expect("members are a list");
        let directories = members
            .iter()
            .map(|member| member.as_str().expect("a member is a path"));
        directories
            .map(|directory| {
                Manifest::parse(directory, self.text(&format!("{directory}/Cargo.toml")))
            })
            .collect()
    }
}

impl Manifest {
    /// Parses a manifest that lies in `directory`.
    pub fn parse(directory: &str, text: &str) -> Self {
        let manifest: Table = text.parse().expect("cargo has read the manifest");
        let mut needs = needs_of(&manifest);
        let targets = manifest
            .get("target")
            .and_then(|targets| targets.as_table());
        for target in targets.into_iter().flat_map(|targets| targets.values()) {
            needs.extend(target.as_table().map(needs_of).unwrap_or_default());
        }
        let name = manifest["package"]["name"]
            .as_str()
            .expect("a package has a name")
            .to_owned();
        Self {
            name,
            directory: directory.to_owned(),
            needs,
        }
    }
}

fn needs_of(sections: &Table) -> Vec<Need> {
    let kinds = [
        ("dependencies", false),
        ("build-dependencies", false),
        ("dev-dependencies", true),
    ];
    let mut needs = Vec::new();
    for (kind, development) in kinds {
        let section = sections.get(kind).and_then(|section| section.as_table());
        for (key, value) in section.into_iter().flatten() {
            let renamed = value.get("package").and_then(|package| package.as_str());
            needs.push(Need {
                name: renamed.unwrap_or(key).to_owned(),
                development,
            });
        }
    }
    needs
}

fn read_directory(root: &Path, directory: &Path, files: &mut Vec<File>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let kind = path
            .symlink_metadata()
            .expect("an entry just listed")
            .file_type();
        if kind.is_dir() && !NOT_OURS.contains(&name) {
            read_directory(root, &path, files);
        } else if kind.is_file() && is_text(&path) {
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root).expect("below the root");
            files.push(File {
                path: path.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}

fn is_text(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending)) || path.ends_with(".ci/run")
}

#[test]
fn a_manifest_gives_up_every_kind_of_dependency() {
    let text = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = { package = \"d\", version = \"1\" }\n\
                [dev-dependencies]\ne = \"1\"\n[build-dependencies]\nf = \"1\"\n[target.'cfg(unix)'.dependencies]\ng = \"1\"\n";
    let needs = Manifest::parse("a", text).needs;
    let mut names: Vec<_> = needs
        .iter()
        .map(|need| (need.name.as_str(), need.development))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            ("b", false),
            ("d", false),
            ("e", true),
            ("f", false),
            ("g", false)
        ]
    );
}
