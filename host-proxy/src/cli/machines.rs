//! `host-proxy launch` and `host-proxy check`.

use crate::check::{CAVEAT, Host, Item};
use crate::error::Error;
use crate::launch::{
    AcceleratorChoice, GpuChoice, Launch, Ready, VsockChoice, accelerator_name, dry_run, launch,
};
use crate::tools::{Tool, Tools};
use clap::Args;
use serde_json::json;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
pub(super) struct LaunchArguments {
    /// The image's directory, or its manifest.json with the files beside it.
    #[arg(long, value_name = "DIR", alias = "manifest")]
    image: PathBuf,
    /// The description of QEMU and its helpers, written by `image-builder tools`.
    #[arg(long, value_name = "FILE")]
    tools: PathBuf,
    /// The guest's measured configuration (JSON).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The volume of a model that the configuration names: `model.img`, written by `image-builder model pack`.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// A directory for this guest's sockets and logs. Created if it is missing.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Start a simulated TDX module (`chrysalis-simulator`) with the machine, for an image of the profile `sim`. It
    /// protects nothing. Its root of trust and its collateral are written into the run directory's `sim`.
    #[arg(long)]
    simulate: bool,
    /// The GPU of an image for an H100: its address as `lspci -D` prints it, or `auto` for the one that is bound to vfio-pci. Whether it
    /// is in confidential mode is for the guest to see. Not tested on hardware.
    #[arg(long, value_name = "ADDRESS")]
    gpu: Option<GpuChoice>,
    /// Check everything and print the command of QEMU; start nothing. With `--accelerator tdx` on any host.
    #[arg(long)]
    dry_run: bool,
    /// Where the host's /sys and /dev are mounted. Tests have others.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    host_root: PathBuf,
    /// How the guest's instructions are executed.
    #[arg(long, value_enum, default_value = "auto")]
    accelerator: AcceleratorChoice,
    /// KVM is tried if this device can be opened. Tests have another.
    #[arg(long, value_name = "PATH", default_value = "/dev/kvm", hide = true)]
    kvm_device: PathBuf,
    /// The implementation of the guest's vsock.
    #[arg(long, value_enum, default_value = "auto")]
    vsock: VsockChoice,
    /// The guest's vsock context id; with the kernel's vsock each guest of a host needs its own.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..0xffff_ffff))]
    cid: u32,
    /// How long the guest may take until it answers, in seconds.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    boot_timeout_s: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct CheckArguments {
    /// The QEMU to ask [default: the one of --tools, else qemu-system-x86_64 in PATH]
    #[arg(long, value_name = "PATH", conflicts_with = "tools")]
    qemu: Option<String>,
    /// The description of tools whose QEMU to ask.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Memory of the guest, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory_mib: u64,
    /// Where the host's /proc, /sys, /dev and /etc are mounted, for use in a container.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn start(
    arguments: LaunchArguments,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let json = arguments.json;
    let options = Launch {
        manifest: match arguments.image.is_dir() {
            true => arguments.image.join("manifest.json"),
            false => arguments.image,
        },
        tools: arguments.tools,
        config: arguments.config,
        model: arguments.model,
        run: arguments.run,
        accelerator: arguments.accelerator,
        kvm_device: arguments.kvm_device,
        vsock: arguments.vsock,
        cid: arguments.cid,
        boot_timeout: Duration::from_secs(arguments.boot_timeout_s),
        simulate: arguments.simulate,
        gpu: arguments.gpu,
        host_root: arguments.host_root,
    };
    if arguments.dry_run {
        let words = dry_run(&options).await?;
        match json {
            true => println!("{}", json!({ "qemu": words })),
            false => println!("{}", shell_line(&words)),
        }
        return Ok(());
    }
    launch(&options, stop, |ready| announce(ready, json)).await
}

/// The words as a POSIX shell takes them.
fn shell_line(words: &[String]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&b);
    let quoted = words.iter().map(|word| match word.bytes().all(plain) {
        true if !word.is_empty() => word.clone(),
        _ => format!("'{}'", word.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn announce(ready: &Ready, json: bool) {
    let (guest, accelerator) = (ready.guest.to_string(), accelerator_name(ready.accelerator));
    let line = match json {
        true => json!({ "ready": true, "guest": guest, "accelerator": accelerator, "boot_s": ready.boot_s }).to_string(),
        false => format!("The guest answers at {guest} ({accelerator}); stop it with SIGTERM."),
    };
    // The reader may have gone; the guest goes on.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Whether nothing is lacking.
pub(super) async fn check(arguments: CheckArguments) -> Result<bool, Error> {
    let qemu = match (arguments.qemu, &arguments.tools) {
        (Some(program), _) => Tool::of_the_host(program),
        (None, Some(tools)) => Tools::read(tools)?.qemu,
        (None, None) => Tool::of_the_host("qemu-system-x86_64"),
    };
    let host = Host::at(arguments.root);
    let items = host.check(&qemu, arguments.memory_mib).await;
    let ready = items.iter().all(|item| item.ok);
    if arguments.json {
        println!(
            "{}",
            json!({ "ready": ready, "items": items, "caveat": CAVEAT })
        );
        return Ok(ready);
    }
    for item in &items {
        println!("{}", line(item));
    }
    println!("{CAVEAT}");
    Ok(ready)
}

fn line(item: &Item) -> String {
    let Item {
        item: name,
        seen,
        fix,
        source,
        ..
    } = item;
    match item.ok {
        true => format!("ok     {name}: {seen}"),
        false => format!("lacks  {name}: {seen}. Fix: {fix} ({source})"),
    }
}
