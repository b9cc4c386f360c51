//! A long stream from guest to host over vsock arrives whole and does not stall.

use crate::common;
use predict::qemu::{Accelerator, Backends, Boot, MachineSize, Vsock, qemu_arguments};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tests::image::Built;
use tests::tools::Tools;

const BYTES: u64 = 64 << 20;
/// A quiet machine without KVM takes half a minute to boot and a few seconds to stream.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_from_guest_to_host_arrive_whole() {
    let Some(image) = common::made(|programs| Built::from_recipe(programs, "stream", true)).await
    else {
        return;
    };
    let tools = Tools::read(&image.tools).unwrap();
    let run = tempfile::Builder::new()
        .prefix("chrysalis-")
        .tempdir()
        .unwrap();
    let listener = UnixListener::bind(run.path().join("vsock.sock_9200")).unwrap();
    let inside = |name: &str| format!("/run/chrysalis/{name}");

    let (vhost, uds) = (inside("vhost.sock"), inside("vsock.sock"));
    let directory = [(run.path(), "/run/chrysalis")];
    let words = ["--guest-cid", "3", "--socket", &vhost, "--uds-path", &uds];
    let _device = tools
        .start("vhost-device-vsock", &[], &directory, &words)
        .unwrap();
    let socket = run.path().join("vhost.sock");
    let started = Instant::now();
    while !socket.exists() {
        assert!(
            started.elapsed() < PATIENCE,
            "vhost-device-vsock made no socket"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let cmdline = std::fs::read_to_string(image.dir.join("cmdline")).unwrap();
    let serial = inside("serial.log");
    let arguments = qemu_arguments(
        MachineSize {
            vcpus: 2,
            memory_mib: 512,
        },
        Accelerator::Tcg,
        &Backends {
            firmware: "/image/firmware.fd",
            boot: Some(Boot {
                kernel: "/image/kernel",
                initrd: Some("/image/initrd"),
                cmdline: &cmdline,
            }),
            root: None,
            model: None,
            vsock: Vsock::VhostUser(&vhost),
            gpu: None,
            tpm: None,
            serial: Some(&serial),
            qmp: &[],
        },
    );
    let images = [(image.dir.as_path(), "/image")];
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _qemu = tools.start("qemu", &images, &directory, &words).unwrap();

    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(receive(&listener)));
    let received = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let serial = std::fs::read(run.path().join("serial.log")).unwrap_or_default();
        panic!(
            "the stream stalled; serial: {}",
            String::from_utf8_lossy(&serial)
        )
    });
    let seconds = received.expect("the stream arrives whole").as_secs_f64();
    let rate = (BYTES as f64) / seconds / f64::from(1 << 20);
    println!("64 MiB from guest to host in {seconds:.2} s: {rate:.1} MiB/s");
}

/// Takes the counted pattern, checks every number, answers with one byte.
fn receive(listener: &UnixListener) -> std::io::Result<Duration> {
    let (mut guest, _) = listener.accept()?;
    let (mut chunk, mut seen, begun) = (vec![0; 1 << 16], 0u64, Instant::now());
    while seen < BYTES {
        guest.read_exact(&mut chunk)?;
        let (numbers, _) = chunk.as_chunks::<8>();
        for (number, bytes) in (seen / 8..).zip(numbers) {
            assert_eq!(number, u64::from_be_bytes(*bytes));
        }
        seen += chunk.len() as u64;
    }
    let took = begun.elapsed();
    guest.write_all(&[1])?;
    Ok(took)
}
