//! What an event of a manifest measures: file and packages, as far as the manifest says.

use super::{Component, Difference, Planned};
use predict::EventKind;
use predict::image::{ImageManifest, Role};
use registers::Register;

pub(super) fn of(
    planned: &Planned<'_>,
    image: Option<&ImageManifest>,
    difference: Option<&Difference>,
) -> Option<Component> {
    let Some(event) = planned.event else {
        return Some(Component {
            what: format!("the application's event {:?}", planned.what),
            file: None,
            packages: Vec::new(),
            advice: APPLICATION,
        });
    };
    let image = image?;
    let packages = |role| {
        let of_role = image.packages.iter().filter(|p| p.role == role);
        of_role
            .map(|p| format!("{} {}", p.name, p.version))
            .collect()
    };
    let (what, file, packages, advice) = match (event.register, event.kind) {
        (Register::Rtmr1, EventKind::BootServicesApplication) => (
            "the kernel".into(),
            Some(&image.files.kernel),
            packages(Role::Kernel),
            KERNEL,
        ),
        (Register::Rtmr2, _) if event.from.contains("LoadOptions") => {
            let root = difference
                .and_then(|difference| difference.words.as_ref())
                .is_some_and(|words| words.added.iter().any(|w| w.starts_with("chrysalis.root=")));
            match root {
                true => (
                    "the root file system, through the hash of its tree in the command line".into(),
                    Some(&image.files.root),
                    Vec::new(),
                    ROOT,
                ),
                false => ("the command line".into(), None, Vec::new(), COMMAND_LINE),
            }
        }
        (Register::Rtmr2, _) => (
            "the initrd".into(),
            Some(&image.files.initrd),
            Vec::new(),
            INITRD,
        ),
        (_, EventKind::HandoffTables2) => (
            "the memory size of the machine".into(),
            None,
            Vec::new(),
            MACHINE,
        ),
        (Register::Rtmr0, EventKind::PlatformConfigFlags) => (
            format!("what QEMU gives the firmware: {}", event.from),
            None,
            Vec::new(),
            MACHINE,
        ),
        (Register::Rtmr0, _) => (
            format!("the firmware or its settings: {}", event.from),
            Some(&image.files.firmware),
            packages(Role::Firmware),
            FIRMWARE,
        ),
        _ => (event.from.clone(), None, Vec::new(), ROAD),
    };
    Some(Component {
        what,
        file: file.map(|file| file.name.clone()),
        packages,
        advice,
    })
}

const APPLICATION: &str = "Compare the agent and its measured configuration with those the guest manifest was written from.";
const KERNEL: &str = "Whoever launched the guest gave it another kernel, or a QEMU that changes the kernel's header; launch the manifest's file.";
const INITRD: &str =
    "Whoever launched the guest gave it another initrd; launch the manifest's file.";
const COMMAND_LINE: &str =
    "Whoever launched the guest gave it another command line; launch the manifest's.";
const ROOT: &str =
    "Whoever launched the guest named another root file system; launch the manifest's image whole.";
pub(super) const MACHINE: &str = "The image may be the right one: the provider's machine is another. Predict for that machine, or have it launched as the manifest says.";
const FIRMWARE: &str = "The guest has another firmware or other settings of it; launch the manifest's file as the manifest says.";
const ROAD: &str = "The manifest's guest is started directly, with QEMU's -kernel, and measures this on the way; this one did not. Ask how it was started.";
