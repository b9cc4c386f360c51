//! From an image's manifest and its materials to the document.

use std::collections::{BTreeMap, BTreeSet};

use predict::image::{Content, ImageManifest, ImagePart, Role};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::purl;
use super::spdx::{
    Checksum, CreationInfo, Document, ExternalRef, File, Package, Relationship, VerificationCode,
};
use crate::compile::Crate;
use crate::lock::package_lock::{InputKind, LockedInput};
use crate::provenance::{DebianPackage, Materials, ModelInput, Sha1s};
use registers::Digest32;

/// The bill of an image. A file without a SHA-1 digest in `sha1s` makes a document that breaks a rule.
pub fn document(manifest: &ImageManifest, materials: &Materials, sha1s: &Sha1s) -> Document {
    let mut bill = Writer::default();
    let image = bill.image(manifest);
    let packages = bill.packages(&image, &materials.packages);
    let programs = bill.programs(&image, materials);
    let models = bill.models(&image, &materials.models);
    let inputs = bill.inputs(&image, manifest, &materials.inputs);
    bill.compiler(&image, &materials.compiler);
    let origins = Origins {
        packages: &packages,
        programs: &programs,
        models: &models,
        inputs: &inputs,
    };
    bill.files(&image, manifest, sha1s, &origins);
    bill.verification_code();
    let profile = manifest.profile.as_str();
    // Two documents differ if the image or anything that is told of it does.
    let mut hasher = Sha256::new_with_prefix("chrysalis sbom 1\n");
    hasher.update(manifest.digest().0);
    hasher.update(materials.digest().0);
    let name = Digest32(hasher.finalize().into());
    Document {
        spdx_version: VERSION.into(),
        data_license: "CC0-1.0".into(),
        id: DOCUMENT.into(),
        name: format!("chrysalis-image-{profile}"),
        document_namespace: format!("https://spdx.org/spdxdocs/chrysalis-image-{profile}-{name}"),
        creation_info: CreationInfo {
            created: materials.date.clone(),
            creators: vec![format!("Tool: image-builder-{}", env!("CARGO_PKG_VERSION"))],
            comment: "The date is that of the locked package archive's release, so that the same image has the same document."
                .into(),
        },
        packages: bill.packages,
        files: bill.files,
        relationships: bill.relationships,
    }
}

/// `SPDXID`s of what files come from.
struct Origins<'a> {
    /// By name and version, as a manifest has it.
    packages: &'a BTreeMap<String, String>,
    /// By path in the image.
    programs: &'a BTreeMap<String, String>,
    /// By name; and whether it was taken from an archive.
    models: &'a BTreeMap<String, (String, bool)>,
    /// By where they are from, as a manifest has it.
    inputs: &'a BTreeMap<String, String>,
}

#[derive(Default)]
struct Writer {
    ids: BTreeSet<String>,
    packages: Vec<Package>,
    files: Vec<File>,
    relationships: Vec<Relationship>,
}

impl Writer {
    fn image(&mut self, manifest: &ImageManifest) -> String {
        let digest = manifest.digest().to_string();
        let id = self.package(Package {
            version_info: digest[..16].to_owned(),
            package_file_name: Some(crate::provenance::MANIFEST.into()),
            checksums: vec![sha256(&digest)],
            primary_package_purpose: "OPERATING-SYSTEM".into(),
            ..blank(
                "Image",
                &format!("chrysalis-image-{}", manifest.profile.as_str()),
            )
        });
        self.relate(DOCUMENT, "DESCRIBES", &id);
        id
    }

    /// What of Debian is in the image, and what made it.
    fn packages(&mut self, image: &str, packages: &[DebianPackage]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for package in packages {
            let key = format!("{} {}", package.name, package.version);
            let known = found.get(&key).cloned();
            let id = known.unwrap_or_else(|| {
                let id = format!("Package-deb-{}", package.name);
                self.package(Package {
                    version_info: package.version.clone(),
                    supplier: Some("Organization: Debian".into()),
                    package_file_name: package.url.rsplit('/').next().map(str::to_owned),
                    download_location: package.url.clone(),
                    checksums: vec![sha256(&package.sha256)],
                    primary_package_purpose: match package.role {
                        Role::Firmware => "FIRMWARE",
                        Role::Build => "APPLICATION",
                        _ => "OPERATING-SYSTEM",
                    }
                    .into(),
                    external_refs: vec![purl_ref(package.purl())],
                    ..blank(&id, &package.name)
                })
            });
            match package.role {
                Role::Build => self.relate(&id, "BUILD_TOOL_OF", image),
                _ => self.relate(image, "CONTAINS", &id),
            }
            found.insert(key, id);
        }
        found
    }

    /// Our programs and the crates in them.
    fn programs(&mut self, image: &str, materials: &Materials) -> BTreeMap<String, String> {
        let mut crates: BTreeMap<Crate, String> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for (path, made) in &materials.programs {
            let id = self.package(Package {
                version_info: made.package.version.clone(),
                license_declared: licence(&made.package.licence),
                checksums: vec![sha256(&materials.sources)],
                primary_package_purpose: "APPLICATION".into(),
                ..blank(&format!("Program-{}", made.program), &made.program)
            });
            self.relate(image, "CONTAINS", &id);
            for one in &made.linked {
                let part = self.part(&mut crates, one);
                self.relate(&id, "STATIC_LINK", &part);
            }
            for one in &made.building {
                let part = self.part(&mut crates, one);
                self.relate(&part, "BUILD_DEPENDENCY_OF", &id);
            }
            found.insert(path.clone(), id);
        }
        found
    }

    /// A crate, once.
    fn part(&mut self, crates: &mut BTreeMap<Crate, String>, one: &Crate) -> String {
        if let Some(id) = crates.get(one) {
            return id.clone();
        }
        let Crate {
            name,
            version,
            licence: declared,
            sha256: archive,
        } = one;
        let mut package = Package {
            version_info: version.clone(),
            license_declared: licence(declared),
            primary_package_purpose: "LIBRARY".into(),
            ..blank(&format!("Crate-{name}-{version}"), name)
        };
        // One of ours has no archive and is in no database.
        if let Some(archive) = archive {
            let base = "https://static.crates.io/crates";
            package.download_location = format!("{base}/{name}/{name}-{version}.crate");
            package.checksums = vec![sha256(archive)];
            package.external_refs = vec![purl_ref(purl::cargo(name, version))];
        }
        let id = self.package(package);
        crates.insert(one.clone(), id.clone());
        id
    }

    fn models(&mut self, image: &str, models: &[ModelInput]) -> BTreeMap<String, (String, bool)> {
        let mut found = BTreeMap::new();
        for model in models {
            let mut package = Package {
                license_declared: licence(&model.licence),
                primary_package_purpose: "OTHER".into(),
                ..blank(&format!("Model-{}", model.id), &model.id)
            };
            if let Some((url, digest)) = &model.archive {
                package.version_info = digest.to_string()[..16].to_owned();
                package.download_location = url.clone();
                package.checksums = vec![sha256(digest)];
                package.package_file_name = url.rsplit('/').next().map(str::to_owned);
            }
            let id = self.package(package);
            self.relate(image, "CONTAINS", &id);
            found.insert(model.id.clone(), (id, model.archive.is_some()));
        }
        found
    }

    fn inputs(
        &mut self,
        image: &str,
        manifest: &ImageManifest,
        inputs: &[LockedInput],
    ) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for input in inputs {
            let mut package = Package {
                checksums: vec![sha256(&input.sha256)],
                ..blank(&format!("Input-{}", input.name), &input.name)
            };
            if let Some(version) = &input.version {
                package.version_info.clone_from(version);
            }
            if input.kind != InputKind::Path {
                package.download_location.clone_from(&input.seen);
                let file = input.seen.rsplit('/').next();
                package.package_file_name = file.map(str::to_owned);
            }
            // As the manifest has the origin of files: a project with its version, or where it was seen.
            let mut key = input.seen.clone();
            if let (InputKind::Pypi, Some(version)) = (input.kind, &input.version) {
                // A wheel's name begins with the project's, with `_` for `-`.
                let file = package.package_file_name.as_deref().unwrap_or_default();
                let project = file.split('-').next().unwrap_or_default();
                package.external_refs = vec![purl_ref(purl::pypi(project, version))];
                key = format!("{} {version}", project.replace('_', "-"));
            }
            let id = self.package(package);
            let from = |content: &Content| content.from.as_deref() == Some(&*key);
            match manifest.contents.iter().any(from) {
                true => self.relate(image, "CONTAINS", &id),
                false => self.relate(&id, "BUILD_TOOL_OF", image),
            }
            found.insert(key, id);
        }
        found
    }

    fn compiler(&mut self, image: &str, compiler: &str) {
        let mut words = compiler.splitn(2, ' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let id = self.package(Package {
            version_info: version.unwrap_or_default().to_owned(),
            primary_package_purpose: "APPLICATION".into(),
            ..blank("Compiler", name)
        });
        self.relate(&id, "BUILD_TOOL_OF", image);
    }

    /// The files beside the manifest, and those inside of them.
    fn files(
        &mut self,
        image: &str,
        manifest: &ImageManifest,
        sha1s: &Sha1s,
        origins: &Origins<'_>,
    ) {
        let mut beside = BTreeMap::new();
        for (what, file) in manifest.files.all() {
            let id = self.file(&file.name, &file.sha256.to_string(), sha1s.get(&file.name));
            self.relate(image, "CONTAINS", &id);
            let role = match what {
                "firmware" => Some(Role::Firmware),
                "kernel" => Some(Role::Kernel),
                _ => None,
            };
            let package = manifest.packages.iter().find(|one| Some(one.role) == role);
            let from = package.and_then(|one| {
                let key = format!("{} {}", one.name, one.version);
                origins.packages.get(&key)
            });
            if let Some(package) = from {
                self.relate(&id, "EXPANDED_FROM_ARCHIVE", package);
            }
            beside.insert(what, id);
        }
        let name = crate::provenance::CMDLINE;
        let line = Digest32::of(manifest.cmdline.as_bytes()).to_string();
        let id = self.file(name, &line, sha1s.get(name));
        self.relate(image, "CONTAINS", &id);
        for content in &manifest.contents {
            // Directories, links and devices have no digest, and a bill has no place for them.
            let Some(sha256) = content.sha256() else {
                continue;
            };
            let sha1 = sha1s.get(&content.path);
            let id = self.file(&content.path, &sha256.to_string(), sha1);
            let holder = match content.part {
                ImagePart::Initrd => "initrd",
                ImagePart::Root => "root",
            };
            if let Some(holder) = beside.get(holder) {
                self.relate(holder, "CONTAINS", &id);
            }
            self.origin(&id, content, origins);
        }
    }

    fn origin(&mut self, id: &str, content: &Content, origins: &Origins<'_>) {
        let from = content.from.as_deref().unwrap_or_default();
        let model = from.strip_prefix("model ");
        let sources = from.strip_prefix("compiled from ");
        let kernel = from.split_once(" compiled by ");
        let kernel = kernel.and_then(|(program, _)| origins.programs.get(&format!("/{program}")));
        if let Some(program) = origins.programs.get(&content.path) {
            self.relate(id, "GENERATED_FROM", program);
        } else if let Some(program) = kernel {
            self.relate(id, "GENERATED_FROM", program);
        } else if let Some(package) = origins.packages.get(from) {
            self.relate(id, "EXPANDED_FROM_ARCHIVE", package);
        } else if let Some(package) = sources.and_then(|from| origins.packages.get(from)) {
            self.relate(id, "GENERATED_FROM", package);
        } else if let Some(input) = origins.inputs.get(from) {
            self.relate(id, "EXPANDED_FROM_ARCHIVE", input);
        } else if let Some((model, archived)) = model.and_then(|id| origins.models.get(id)) {
            let word = match archived {
                true => "EXPANDED_FROM_ARCHIVE",
                false => "GENERATED_FROM",
            };
            self.relate(id, word, model);
        }
    }

    /// SPDX 2.3, clause 7.9, over the files beside the manifest, which the image is said to contain.
    fn verification_code(&mut self) {
        let Some(image) = self.packages.first_mut() else {
            return;
        };
        let contains = |one: &&Relationship| {
            one.spdx_element_id == image.id && one.relationship_type == "CONTAINS"
        };
        let contained: BTreeSet<&str> = { self.relationships.iter() }
            .filter(contains)
            .map(|one| one.related_spdx_element.as_str())
            .collect();
        let files = self
            .files
            .iter()
            .filter(|file| contained.contains(&*file.id));
        let mut digests: Vec<&str> = files
            .flat_map(|file| &file.checksums)
            .filter(|checksum| checksum.algorithm == "SHA1")
            .map(|checksum| checksum.checksum_value.as_str())
            .collect();
        digests.sort_unstable();
        image.files_analyzed = true;
        image.package_verification_code = Some(VerificationCode {
            package_verification_code_value: hex::encode(Sha1::digest(digests.concat())),
        });
    }

    fn file(&mut self, path: &str, sha256_hex: &str, sha1: Option<&[u8; 20]>) -> String {
        let id = format!("SPDXRef-File-{}", self.files.len() + 1);
        let sha1 = sha1.map(|digest| Checksum {
            algorithm: "SHA1".into(),
            checksum_value: hex::encode(digest),
        });
        self.files.push(File {
            id: id.clone(),
            file_name: format!("./{}", path.trim_start_matches('/')),
            checksums: sha1.into_iter().chain([sha256(&sha256_hex)]).collect(),
            license_concluded: NO_ASSERTION.into(),
            copyright_text: NO_ASSERTION.into(),
        });
        id
    }

    /// Gives it an identifier that nothing else has: letters, digits, `.` and `-` (clause 3.2).
    fn package(&mut self, mut package: Package) -> String {
        let plain = |c: char| match c {
            c if c.is_ascii_alphanumeric() || c == '.' => c,
            _ => '-',
        };
        let wanted: String = package.id.chars().map(plain).collect();
        let mut id = format!("SPDXRef-{wanted}");
        let mut number = 2;
        while !self.ids.insert(id.clone()) {
            id = format!("SPDXRef-{wanted}-{number}");
            number += 1;
        }
        package.id.clone_from(&id);
        self.packages.push(package);
        id
    }

    fn relate(&mut self, one: &str, how: &str, other: &str) {
        self.relationships.push(Relationship {
            spdx_element_id: one.into(),
            relationship_type: how.into(),
            related_spdx_element: other.into(),
        });
    }
}

fn blank(id: &str, name: &str) -> Package {
    Package {
        id: id.into(),
        name: name.into(),
        version_info: NO_ASSERTION.into(),
        supplier: None,
        package_file_name: None,
        download_location: NO_ASSERTION.into(),
        files_analyzed: false,
        package_verification_code: None,
        checksums: Vec::new(),
        license_concluded: NO_ASSERTION.into(),
        license_declared: NO_ASSERTION.into(),
        copyright_text: NO_ASSERTION.into(),
        primary_package_purpose: "OTHER".into(),
        external_refs: Vec::new(),
    }
}

fn licence(declared: &Option<String>) -> String {
    declared.clone().unwrap_or_else(|| NO_ASSERTION.into())
}

fn sha256(hex: &impl ToString) -> Checksum {
    Checksum {
        algorithm: "SHA256".into(),
        checksum_value: hex.to_string(),
    }
}

fn purl_ref(purl: String) -> ExternalRef {
    ExternalRef {
        reference_category: "PACKAGE-MANAGER".into(),
        reference_type: "purl".into(),
        reference_locator: purl,
    }
}

pub(super) const VERSION: &str = "SPDX-2.3";
pub(super) const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const NO_ASSERTION: &str = "NOASSERTION";
