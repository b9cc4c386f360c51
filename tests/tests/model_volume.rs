//! A model on a volume: packed with the locked tool, served from memory by a machine that cannot read it any more, named in
//! receipts by its root hash; and refused when one of its bytes is another.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use image_builder::model::{self, DESCRIPTION, Description, SIGNATURE, VOLUME};
use serde_json::{Value, json};
use tests::programs::{Programs, workspace_root};
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{Image, Stack, StackOptions, scenario};

/// The image, and the chat model as a volume in `directory`.
fn image_and_volume(programs: &Programs, directory: &Path) -> anyhow::Result<(Image, Description)> {
    let image = Image::build(programs, "sim", true)?;
    let mut pack = Command::new(programs.path("image-builder"));
    pack.args(["model", "pack"]);
    pack.arg(workspace_root().join("engine/models").join(CHAT));
    pack.arg("--out").arg(directory);
    if let Some(lock) = &image.fresh_lock {
        pack.arg("--lock").arg(lock);
    }
    let output = pack.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}");
    Ok((image, model::verify(directory, None, &mut |_| {})?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_on_a_volume_is_served_from_memory_and_receipts_name_its_root_hash() {
    let directory = tempfile::tempdir().expect("a directory");
    let volume = directory.path().join("volume");
    let to = volume.clone();
    let made = common::made(move |programs| image_and_volume(programs, &to));
    let Some((image, description)) = made.await else {
        return;
    };
    every_flipped_byte_is_found(&volume, &description);

    let options = StackOptions {
        image: Some(image),
        volume: Some(volume),
        ..StackOptions::default()
    };
    let Some(stack) = common::stack(options).await else {
        return;
    };
    scenario::open_channel(&stack, &mut Steps::new(true)).unwrap();
    let client = scenario::open_client(&stack).unwrap();
    let session = client.attest().await.unwrap();
    let monitor = stack.machine().expect("a machine").run.join("monitor.sock");
    let before = reads(&monitor);
    let body = json!({"model": CHAT, "messages": [{"role": "user", "content": "Hello."}], "temperature": 0,
        "max_tokens": 8});
    let job = client::Job::prepare(&session, client::Endpoint::Chat, body).unwrap();
    let mut answering = job.seal().unwrap().send(client.proxy()).await.unwrap();
    while answering.next_event().await.unwrap().is_some() {}
    let answer = answering.finish().await.unwrap().verify(&session).unwrap();
    let root = answer.receipt().core().model_root.to_string();
    assert_eq!(root, description.volume.verity_hash.to_string());
    // SECURITY.md 1: no block is read during jobs, of the model's disk or of the root's.
    assert_eq!(reads(&monitor), before);
    assert!(
        before
            .iter()
            .any(|(disk, reads)| disk == "model" && *reads > 0),
        "{before:?}"
    );
}

/// Two hundred places chosen by a fixed rule, and all of the first and the last block of data and tree.
fn every_flipped_byte_is_found(volume: &Path, description: &Description) {
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
        let verified = model::verify(volume, None, &mut |_| {});
        assert!(verified.is_err(), "byte {at}");
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(model::verify(volume, None, &mut |_| {}).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long tier: a boot, and a model packed"]
async fn a_guest_whose_model_has_another_byte_stops_before_it_serves() {
    let directory = tempfile::tempdir().expect("a directory");
    let volume = directory.path().join("volume");
    let to = volume.clone();
    let made = common::made(move |programs| {
        let made = image_and_volume(programs, &to)?;
        let models =
            image_builder::Store::from_environment().map(|store| store.models_dir().to_owned());
        Ok((made, programs.clone(), models))
    });
    let Some(((image, description), programs, models)) = made.await else {
        return;
    };
    // In the middle of the weights.
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(volume.join(VOLUME));
    let file = file.unwrap();
    let at = description.volume.data_blocks / 2 * 4096 + 77;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let options = StackOptions {
        image: Some(image),
        volume: Some(volume),
        ..StackOptions::default()
    };
    let started = Stack::start(programs, &models.expect("a store"), options).await;
    let said = format!("{:#}", started.err().expect("no guest"));
    assert!(
        said.contains("model `tiny-chat`: model.safetensors could not be read"),
        "{said}"
    );
}

/// How often each disk was read, over QMP (QEMU, qapi/block-core.json, `query-blockstats`).
fn reads(monitor: &Path) -> Vec<(String, u64)> {
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
