//! A command line of QEMU made fit to be looked at: the same machine, with nothing behind its devices.

use super::DIRECTORY;

/// What is started.
pub(super) struct Line {
    /// The arguments, without firmware and accelerator.
    pub arguments: Vec<String>,
    /// Whether the machine has a serial port, on which the firmware says how far it is.
    pub serial: bool,
    /// Whether it has a TPM, which needs a program behind it.
    pub tpm: bool,
}

/// Files and sockets of the host become a null device, a file or the TPM of ours; what is booted goes, and so does who runs
/// the instructions. Devices, their order and their settings stay.
pub(super) fn prepared(words: &[String]) -> Line {
    let mut line = Line {
        arguments: Vec::new(),
        serial: false,
        tpm: false,
    };
    let serial_chardev = id_behind(words, "isa-serial", "chardev");
    let tpmdev = id_behind(words, "tpm-crb", "tpmdev");
    let mut words = words.iter().map(String::as_str).peekable();
    words.next_if(|word| !word.starts_with('-'));
    while let Some(word) = words.next() {
        if !TAKES_VALUE.contains(&word) {
            line.arguments.push(word.to_owned());
            continue;
        }
        let value = words.next().unwrap_or_default();
        let id = setting(value, "id");
        let kept = match word {
            "-bios" | "-kernel" | "-initrd" | "-append" | "-accel" | "-qmp" | "-qtest"
            | "-qtest-log" | "-tpmdev" => None,
            "-serial" if value != "none" && !line.serial => {
                line.serial = true;
                Some(format!("file:{DIRECTORY}/serial"))
            }
            "-chardev" if id.is_some() && id == serial_chardev => {
                line.serial = true;
                Some(format!(
                    "file,id={},path={DIRECTORY}/serial",
                    id.unwrap_or_default()
                ))
            }
            "-chardev" if value.starts_with("socket,") => None,
            "-chardev" => Some(format!("null,id={}", id.unwrap_or_default())),
            "-drive" | "-blockdev" => {
                let name = id.or_else(|| setting(value, "node-name"));
                let nothing = name.map(|name| {
                    format!("driver=null-co,node-name={name},size=1048576,read-only=on")
                });
                line.arguments.extend(
                    nothing
                        .into_iter()
                        .flat_map(|nothing| ["-blockdev".into(), nothing]),
                );
                None
            }
            _ => Some(value.to_owned()),
        };
        line.arguments
            .extend(kept.into_iter().flat_map(|kept| [word.to_owned(), kept]));
    }
    if let Some(id) = tpmdev {
        line.tpm = true;
        for (option, value) in [
            (
                "-chardev",
                format!("socket,id={id},path={DIRECTORY}/tpm.sock"),
            ),
            ("-tpmdev", format!("emulator,id={id},chardev={id}")),
        ] {
            line.arguments.extend([option.to_owned(), value]);
        }
    }
    line
}

/// What stands behind the first device of a kind.
fn id_behind<'a>(words: &'a [String], kind: &str, name: &str) -> Option<&'a str> {
    let mut devices = words.windows(2).filter(|pair| pair[0] == "-device");
    let device = devices.find(|pair| pair[1].split(',').next() == Some(kind))?;
    setting(&device[1], name)
}

fn setting<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut settings = value.split(',').filter_map(|part| part.split_once('='));
    settings
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Options with a value that a machine may have. Of another option QEMU says itself what it thinks.
const TAKES_VALUE: [&str; 26] = [
    "-machine",
    "-M",
    "-m",
    "-smp",
    "-cpu",
    "-global",
    "-device",
    "-object",
    "-netdev",
    "-vga",
    "-display",
    "-monitor",
    "-numa",
    "-bios",
    "-kernel",
    "-initrd",
    "-append",
    "-accel",
    "-qmp",
    "-qtest",
    "-qtest-log",
    "-tpmdev",
    "-serial",
    "-chardev",
    "-drive",
    "-blockdev",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_stays_and_what_stands_behind_it_goes() {
        let words = "/usr/bin/qemu-system-x86_64 -accel kvm -m 4G -kernel k -drive file=a,if=none,id=hd1 \
            -device virtio-blk-pci,drive=hd1 -chardev socket,id=t,path=x -tpmdev emulator,id=tpm0,chardev=t \
            -device tpm-crb,tpmdev=tpm0 -chardev stdio,id=c0 -device isa-serial,chardev=c0 -nographic";
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let line = prepared(&words);
        let expected = "-m 4G -blockdev driver=null-co,node-name=hd1,size=1048576,read-only=on \
            -device virtio-blk-pci,drive=hd1 -device tpm-crb,tpmdev=tpm0 \
            -chardev file,id=c0,path=/run/chrysalis/serial -device isa-serial,chardev=c0 -nographic \
            -chardev socket,id=tpm0,path=/run/chrysalis/tpm.sock -tpmdev emulator,id=tpm0,chardev=tpm0";
        assert_eq!(line.arguments.join(" "), expected);
        assert!(line.serial && line.tpm);
        assert!(!prepared(&["-m".into(), "2G".into()]).serial);
    }
}
