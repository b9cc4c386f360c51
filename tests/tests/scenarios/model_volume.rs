//! A model on a volume, packed with the locked tool: it is refused when one of its bytes is another. `machine.rs` has one that is
//! served.

use crate::common;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image_builder::model;
use image_builder::model::{DESCRIPTION, Description, SIGNATURE, VOLUME};
use image_builder::store::Store;
use serde_json::Value;
use tests::stack::CHAT;
use tests::{Image, Programs, Stack, StackOptions};

/// The chat model as a volume in a directory of its own, packed with the tool that the image's lock names.
pub struct Packed {
    pub image: Image,
    pub description: Description,
    directory: tempfile::TempDir,
}

impl Packed {
    pub async fn new() -> Option<Packed> {
        let image = common::sim().await?;
        common::made(|programs| Packed::with(programs, image)).await
    }

    fn with(programs: &Programs, image: Image) -> anyhow::Result<Packed> {
        let directory = tempfile::tempdir()?;
        let volume = directory.path().join("volume");
        let mut pack = Command::new(programs.path("image-builder"));
        pack.args(["model", "pack"]);
        let store = Store::from_environment().expect("a store");
        pack.arg(store.model_dir(CHAT));
        pack.arg("--out").arg(&volume);
        if let Some(lock) = &image.fresh_lock {
            pack.arg("--lock").arg(lock);
        }
        let output = pack.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{said}");
        Ok(Packed {
            image,
            description: model::verify(&volume, None, &mut |_| {})?,
            directory,
        })
    }

    /// The directory that `image-builder model pack` wrote.
    pub fn volume(&self) -> PathBuf {
        self.directory.path().join("volume")
    }
}

/// Two hundred places chosen by a fixed rule, and both ends of the data, of the tree and of its first block.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_a_volume_is_found() {
    let Some(packed) = Packed::new().await else {
        return;
    };
    let (volume, description) = (packed.volume(), &packed.description);
    for name in [DESCRIPTION, SIGNATURE] {
        assert!(volume.join(name).is_file());
    }
    let path = volume.join(VOLUME);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let data = description.volume.data_blocks * 4096;
    let end = description.bytes;
    let step = end / 200;
    let mut places: Vec<u64> = (0..200)
        .map(|number| number * step + number * 131 % step)
        .collect();
    places.extend([0, 4095, data - 1, data, data + 4095, data + 4096, end - 1]);
    for at in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let verified = model::verify(&volume, None, &mut |_| {});
        assert!(verified.is_err(), "byte {at}");
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(model::verify(&volume, None, &mut |_| {}).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long tier: a boot, and a model packed"]
async fn a_guest_whose_model_has_another_byte_stops_before_it_serves() {
    let Some(packed) = Packed::new().await else {
        return;
    };
    let volume = packed.volume();
    // In the middle of the weights.
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(volume.join(VOLUME));
    let file = file.unwrap();
    let at = packed.description.volume.data_blocks / 2 * 4096 + 77;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let options = StackOptions {
        image: Some(packed.image.clone()),
        volume: Some(volume),
        ..StackOptions::default()
    };
    let store = Store::from_environment().expect("a store");
    let programs = common::programs().clone();
    let started = Stack::start(programs, store.models_dir(), options).await;
    let said = format!("{:#}", started.err().expect("no guest"));
    assert!(
        said.contains("model `SmolLM2-135M-Instruct`: model.gguf could not be read"),
        "{said}"
    );
}

/// How often each disk was read, over QMP (QEMU, qapi/block-core.json, `query-blockstats`).
pub fn reads(monitor: &Path) -> Vec<(String, u64)> {
    let stream = UnixStream::connect(monitor).expect("the machine has a monitor");
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let words = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-blockstats\"}\n";
    (&stream).write_all(words.as_bytes()).unwrap();
    let answers = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut lists = answers.filter_map(|answer| answer["return"].as_array().cloned());
    let list = lists.next().expect("a list");
    let of = |disk: &Value| {
        let name = disk["node-name"].as_str()?.to_owned();
        Some((name, disk["stats"]["rd_operations"].as_u64()?))
    };
    list.iter().filter_map(of).collect()
}
