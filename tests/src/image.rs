//! The guest image of this clone: built as a provider does, and tampered with as a hostile host does.

use crate::stack::CHAT;
use crate::{Programs, Tamper, workspace_root};
use anyhow::{Context, bail, ensure};
use image_builder::store::Store;
use memchr::memmem;
use predict::image::ImageManifest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A built image and the tools that run it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The directory of `manifest.json` and what it lists.
    pub dir: PathBuf,
    /// The description of QEMU, swtpm and vhost-device-vsock.
    pub tools: PathBuf,
    /// The lock it was built from, if not the committed one.
    pub fresh_lock: Option<PathBuf>,
    /// What the image is and measures to.
    pub manifest: ImageManifest,
    /// Seconds that building took, tools and downloads included.
    pub build_s: f64,
}

/// A recipe that was built, whether or not it has a root and so a manifest.
#[derive(Debug, Clone)]
pub struct Built {
    /// The directory of the image's files.
    pub dir: PathBuf,
    /// The description of QEMU, swtpm and vhost-device-vsock.
    pub tools: PathBuf,
    /// The lock it was built from, if not the committed one.
    pub fresh_lock: Option<PathBuf>,
}

impl Built {
    /// Builds a recipe of this repository with its committed lock, into the target directory. Where the archive no longer has
    /// what that lock names, a fresh lock is made and used, and said so loudly.
    pub fn from_recipe(programs: &Programs, recipe: &str, quiet: bool) -> anyhow::Result<Built> {
        let images = programs.target_dir().join("images");
        fs::create_dir_all(&images)?;
        // Demos and tests of one clone share the directory; the builder itself refuses to wait.
        let turn = fs::File::create(images.join("lock"))?;
        turn.lock()
            .context("waiting for another build of the image")?;
        let builder = Builder {
            program: programs.path("image-builder"),
            recipe: workspace_root().join(format!("image-builder/recipes/{recipe}.yaml")),
            quiet,
        };
        let (dir, tools) = (images.join(recipe), images.join("tools.json"));
        let fresh_lock = match builder.tools_and_image(None, &tools, &dir) {
            Err(error) if error.is::<Gone>() => {
                let lock = images.join("fresh.lock.json");
                eprintln!(
                    "\n  THE COMMITTED LOCK CAN NO LONGER BE FETCHED ({error}).\n  Going on with a fresh one, {}: the \
                     registers are not those that the committed lock stands for.\n",
                    lock.display()
                );
                builder.fresh_lock(&lock)?;
                builder.tools_and_image(Some(&lock), &tools, &dir)?;
                Some(lock)
            }
            built => built.map(|()| None)?,
        };
        Ok(Built {
            dir,
            tools,
            fresh_lock,
        })
    }
}

impl Image {
    /// Builds the image of a recipe.
    pub fn build(programs: &Programs, recipe: &str, quiet: bool) -> anyhow::Result<Image> {
        let begun = Instant::now();
        let built = Built::from_recipe(programs, recipe, quiet)?;
        Ok(Image {
            manifest: ImageManifest::from_json(&fs::read(built.dir.join("manifest.json"))?)?,
            dir: built.dir,
            tools: built.tools,
            fresh_lock: built.fresh_lock,
            build_s: crate::stack::seconds(begun),
        })
    }

    /// The path of its manifest.
    pub fn manifest_path(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    /// The same image with one byte changed, in the directory `to`, under a manifest that hides the change from an honest
    /// launcher: what a hostile host would start. The client keeps the true manifest.
    pub fn tampered(&self, tamper: Tamper, to: &Path) -> anyhow::Result<Image> {
        fs::create_dir_all(to)?;
        let needed = self.manifest.files.each();
        let needed = needed.map(|(_, file)| file.name.as_str());
        for name in needed.into_iter().chain(["cmdline", "manifest.json"]) {
            fs::copy(self.dir.join(name), to.join(name))?;
        }
        let path = to.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path)?)?;
        // A direct boot needs no other boot method.
        let fields = manifest.as_object_mut().context("a manifest")?;
        fields.remove("uki");
        let files = fields["files"].as_object_mut().context("files")?;
        for file in ["uki", "disk"] {
            files.remove(file);
        }
        match tamper {
            Tamper::Initrd => change(&to.join("initrd"), |bytes| {
                bytes.push(0);
                Ok(())
            })?,
            Tamper::Rootfs => change(&to.join("root.img"), |bytes| flip_in_weights(bytes))?,
            Tamper::Firmware => change(&to.join("firmware.fd"), |bytes| flip_in_firmware(bytes))?,
            Tamper::Cmdline => {
                let cmdline = manifest["cmdline"].as_str().context("a command line")?;
                let louder = cmdline.replacen("loglevel=4", "loglevel=5", 1);
                ensure!(louder != cmdline, "the command line has no loglevel=4");
                fs::write(to.join("cmdline"), &louder)?;
                manifest["cmdline"] = louder.into();
            }
            other => bail!("{other:?} does not change an image"),
        }
        let files = manifest["files"].as_object_mut().context("files")?;
        for file in files.values_mut() {
            let bytes = fs::read(to.join(file["name"].as_str().context("a file's name")?))?;
            file["bytes"] = bytes.len().into();
            file["sha256"] = hex::encode(Sha256::digest(&bytes)).into();
        }
        fs::write(&path, serde_json::to_vec_pretty(&manifest)?)?;
        Ok(Image {
            dir: to.to_owned(),
            ..self.clone()
        })
    }
}

/// The program that builds, as a provider starts it.
struct Builder {
    program: PathBuf,
    recipe: PathBuf,
    quiet: bool,
}

/// The archive no longer has a package of the lock.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Gone(String);

/// The archive cannot be reached from here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

impl Builder {
    fn tools_and_image(&self, lock: Option<&Path>, tools: &Path, dir: &Path) -> anyhow::Result<()> {
        let described = self.run("tools", lock, &[])?;
        // A launch may be reading it.
        let unfinished = tools.with_extension("unfinished");
        fs::write(&unfinished, described)?;
        fs::rename(&unfinished, tools)?;
        self.run("build", lock, &["--out".as_ref(), dir.as_os_str()])?;
        Ok(())
    }

    fn fresh_lock(&self, lock: &Path) -> anyhow::Result<()> {
        self.run("lock", None, &["--out".as_ref(), lock.as_os_str()])?;
        Ok(())
    }

    /// Runs one command with `--json` and gives what it printed. Its progress goes to our standard error.
    fn run(
        &self,
        command: &str,
        lock: Option<&Path>,
        more: &[&std::ffi::OsStr],
    ) -> anyhow::Result<Vec<u8>> {
        let mut process = Command::new(&self.program);
        process
            .arg(command)
            .arg(&self.recipe)
            .arg("--json")
            .args(more);
        if let Some(lock) = lock {
            process.arg("--lock").arg(lock);
        }
        let errors = match self.quiet {
            true => Stdio::piped(),
            false => Stdio::inherit(),
        };
        let output = process
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .and_then(|child| child.wait_with_output())
            .with_context(|| format!("starting image-builder {command}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let said = match told["error"].as_str() {
            Some(said) => said.to_owned(),
            None => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        };
        match told["fault"].as_str() {
            Some("gone") => Err(Gone(said).into()),
            Some("network") => Err(Unreachable(said).into()),
            _ => bail!("image-builder {command} failed: {said}"),
        }
    }
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    how(&mut bytes)?;
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// In the middle of the chat model, whose every byte the agent reads when it starts.
fn flip_in_weights(image: &mut [u8]) -> anyhow::Result<()> {
    let store = Store::from_environment().context("no home directory to keep models in")?;
    let weights = fs::read(store.model_dir(CHAT).join("model.gguf"))?;
    let middle = weights.len() / 2;
    let at = memmem::find(image, &weights[middle..middle + 64]);
    image[at.context("the weights lie in the image as they are")?] ^= 0x01;
    Ok(())
}

/// In the largest unused stretch of the firmware's measured volume: it boots as before and measures otherwise.
fn flip_in_firmware(firmware: &mut [u8]) -> anyhow::Result<()> {
    // The variable store at the beginning, which MRTD leaves out, ends here (TDVF metadata of this firmware).
    const VARIABLES_END: usize = 0x84000;
    let unused = |window: &[u8]| window.iter().all(|byte| *byte == 0xff);
    let blocks = firmware[VARIABLES_END..].chunks(4096).map(unused);
    let mut longest = (0, 0);
    let mut run = 0;
    for (index, is_unused) in blocks.enumerate() {
        run = if is_unused { run + 1 } else { 0 };
        longest = longest.max((run, index + 1 - run));
    }
    let (blocks, first) = longest;
    ensure!(blocks >= 2, "the firmware has no unused stretch");
    firmware[VARIABLES_END + (first + blocks / 2) * 4096 + 2048] ^= 0x01;
    Ok(())
}
