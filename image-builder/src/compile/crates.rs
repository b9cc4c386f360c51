//! Crates: what cargo has downloaded, held to `Cargo.lock` before anything is compiled.
//!
//! Cargo checks an archive when it downloads it and believes its own directories ever after. Those belong to the user and are shared
//! with every other build, so we hash the archives again, and let the sandbox unpack them into a directory that only we use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Toolchain;
use crate::error::{Error, error};
use crate::files;
use crate::formats::metered::Metered;
use crate::limits::CRATE_BYTES_MAX;
use registers::Digest32;

/// Archives of which none contradicts the lock.
pub struct Checked {
    registry: PathBuf,
    names: Vec<String>,
    config: toml::Table,
}

#[derive(Deserialize)]
struct CargoLock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// What `Cargo.lock` in `sources` says of each crate from the registry, by name and version.
pub fn checksums(sources: &Path) -> Result<BTreeMap<(String, String), Digest32>, Error> {
    let mut found = BTreeMap::new();
    for package in CargoLock::read(sources)?.package {
        let Some(checksum) = package.checksum else {
            continue;
        };
        let Ok(digest) = checksum.parse() else {
            let (name, version) = (package.name, package.version);
            return Err(error!(
                Tool,
                "Cargo.lock gives no SHA-256 for {name} {version}"
            ));
        };
        found.insert((package.name, package.version), digest);
    }
    Ok(found)
}

impl CargoLock {
    fn read(sources: &Path) -> Result<Self, Error> {
        let path = sources.join("Cargo.lock");
        let text = fs::read_to_string(&path).map_err(Error::disk("reading", &path))?;
        toml::from_str(&text)
            .map_err(|error| error!(Tool, "{} does not parse: {error}", path.display()))
    }
}

impl Checked {
    /// Checks every archive that `Cargo.lock` in `sources` names and cargo has downloaded. One that is missing is one that our
    /// target does not need, or cargo will say so.
    pub fn of(toolchain: &Toolchain, sources: &Path) -> Result<Self, Error> {
        let lock = CargoLock::read(sources)?;
        let registry = toolchain.cargo_home().join("registry");
        let cache = registry.join("cache");
        let mut names = Vec::new();
        for entry in fs::read_dir(&cache).into_iter().flatten().flatten() {
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort();
        for Package {
            name,
            version,
            checksum,
        } in &lock.package
        {
            let Some(checksum) = checksum else { continue };
            for directory in &names {
                let archive = cache
                    .join(directory)
                    .join(format!("{name}-{version}.crate"));
                check(&archive, checksum)?;
            }
        }
        Ok(Self {
            registry,
            names,
            config: replacement(toolchain.cargo_home(), sources)?,
        })
    }

    /// The directories below `registry/src`, one for each place that crates come from.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// What is seen of cargo's directory: its archives and its index. Both read-only, which cargo takes in its stride.
    pub fn binds(&self) -> Vec<(PathBuf, String)> {
        let parts = ["cache", "index"].iter();
        let there = parts.filter(|part| self.registry.join(part).is_dir());
        there
            .map(|part| (self.registry.join(part), format!("/cargo/registry/{part}")))
            .collect()
    }

    /// Writes the one setting that travels into the sandbox: which place stands for the crate registry. It decides in which of
    /// cargo's directories the archives are.
    pub fn configure(&self, cargo_home: &Path) -> Result<(), Error> {
        files::write(&cargo_home.join("config.toml"), self.config.to_string())
    }
}

fn check(archive: &Path, checksum: &str) -> Result<(), Error> {
    let file = match File::open(archive) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::disk("opening", archive)(error)),
    };
    let mut metered = Metered::new(file, CRATE_BYTES_MAX);
    io::copy(&mut metered, &mut io::sink()).map_err(Error::disk("reading", archive))?;
    let (_, got) = metered.finish();
    if got.to_string() != checksum {
        return Err(error!(
            Tool,
            "{} has SHA-256 {got} where Cargo.lock has {checksum}: remove it, and cargo fetches it again",
            archive.display()
        ));
    }
    Ok(())
}

/// The tables `[source.…]` of the configuration files that cargo reads for `sources`, nearest first, and no other setting.
fn replacement(cargo_home: &Path, sources: &Path) -> Result<toml::Table, Error> {
    let directories = sources
        .ancestors()
        .map(|directory| directory.join(".cargo"));
    let mut seen = BTreeSet::new();
    let mut kept = toml::Table::new();
    for directory in directories.chain([cargo_home.to_owned()]) {
        // Cargo prefers the name without an ending when both are there.
        let files = ["config", "config.toml"].map(|name| directory.join(name));
        let Some(file) = files.into_iter().find(|file| file.is_file()) else {
            continue;
        };
        if !seen.insert(file.clone()) {
            continue;
        }
        let text = fs::read_to_string(&file).map_err(Error::disk("reading", &file))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error| error!(Tool, "{} does not parse: {error}", file.display()))?;
        let places = table.get("source").and_then(|source| source.as_table());
        for (name, place) in places.into_iter().flatten() {
            if !kept.contains_key(name) {
                kept.insert(name.clone(), place.clone());
            }
        }
    }
    let mut config = toml::Table::new();
    if !kept.is_empty() {
        config.insert("source".into(), kept.into());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn an_archive_is_the_one_in_the_lock_or_is_not_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a-1.0.0.crate");
        let digest = hex::encode(Sha256::digest(b"archive"));
        assert_eq!(check(&path, &digest), Ok(()));
        fs::write(&path, b"archive").expect("written");
        assert_eq!(check(&path, &digest), Ok(()));
        fs::write(&path, b"archivf").expect("written");
        let error = check(&path, &digest).expect_err("one bit");
        assert!(error.to_string().contains("a-1.0.0.crate"), "{error}");
    }

    #[test]
    fn of_a_configuration_only_the_sources_travel() {
        let directory = tempfile::tempdir().expect("a directory");
        let (home, checkout) = (directory.path().join("home"), directory.path().join("a/b"));
        let write = |directory: &Path, name: &str, text: &str| {
            fs::create_dir_all(directory).expect("a directory");
            fs::write(directory.join(name), text).expect("written");
        };
        fs::create_dir_all(&checkout).expect("a directory");
        assert_eq!(replacement(&home, &checkout), Ok(toml::Table::new()));
        let mirror = "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"sparse+https://m.example/\"\n";
        write(
            &home,
            "config.toml",
            &format!("[build]\nrustflags = [\"-g\"]\n{mirror}"),
        );
        let expected: toml::Table = mirror.parse().expect("TOML");
        assert_eq!(replacement(&home, &checkout), Ok(expected));
        // A nearer file wins, name by name.
        write(
            &directory.path().join("a/.cargo"),
            "config.toml",
            "[source.mirror]\nregistry = \"sparse+https://n.example/\"\n",
        );
        let nearer: toml::Table = mirror.replace("//m.", "//n.").parse().expect("TOML");
        assert_eq!(replacement(&home, &checkout), Ok(nearer));
        write(&home, "config.toml", "no TOML");
        assert!(replacement(&home, &checkout).is_err());
    }
}
