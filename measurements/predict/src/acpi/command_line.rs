//! The shape of a machine that a command line of QEMU makes.
//!
//! It knows the options and devices whose tables were compared, and those that are in no table. Everything else it refuses
//! by name: an option that it passed over could add a table.

mod devices;
mod settings;
mod words;

use super::size::{self, GIB, MIB};
use super::{AddressWidth, Qemu, Serial, Shape};
use crate::limits;
use devices::Devices;
use settings::Settings;
pub use words::words;

/// Why a command line has no shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum CommandLineError {
    #[error("the command line has {got} {what}, more than the {max} allowed")]
    TooLong {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error("the command line ends inside quotes")]
    Quote,
    #[error("line {line} of the command line has {what}: {why}")]
    Shell {
        what: String,
        line: usize,
        why: &'static str,
    },
    #[error("{option} is not understood here: a machine with it was never compared with QEMU's")]
    Option { option: String },
    #[error(
        "{setting:?} of {option} is not understood here: a machine with it was never compared with QEMU's"
    )]
    Setting { option: String, setting: String },
    #[error(
        "the device {device:?} is not understood here: a machine with it was never compared with QEMU's"
    )]
    Device { device: String },
    #[error("{what} is there twice")]
    Twice { what: String },
    #[error("{what} is missing: without it, {why}")]
    Missing {
        what: &'static str,
        why: &'static str,
    },
}

impl Shape {
    /// The machine of a command line, split into words as a POSIX shell splits it.
    pub fn from_command_line(qemu: Qemu, line: &str) -> Result<Shape, CommandLineError> {
        Shape::from_arguments(qemu, &words(line)?)
    }

    /// The machine of a program's arguments; the program's name may stand first.
    pub fn from_arguments<Word: AsRef<str>>(
        qemu: Qemu,
        arguments: &[Word],
    ) -> Result<Shape, CommandLineError> {
        let too_long = |what, got, max| CommandLineError::TooLong { what, got, max };
        let (words, words_max) = (arguments.len(), limits::QEMU_COMMAND_WORDS_MAX);
        if words > words_max {
            return Err(too_long("words", words, words_max));
        }
        let bytes = arguments.iter().map(|word| word.as_ref().len()).sum();
        if bytes > limits::QEMU_COMMAND_BYTES_MAX {
            return Err(too_long("bytes", bytes, limits::QEMU_COMMAND_BYTES_MAX));
        }
        let mut reader = Reader::new(qemu);
        let mut words = arguments.iter().map(AsRef::as_ref).peekable();
        words.next_if(|word| !word.starts_with('-') && word.contains("qemu-system-x86_64"));
        while let Some(option) = words.next() {
            // QEMU takes an option with one dash or with two.
            let name = option.strip_prefix("--").or(option.strip_prefix('-'));
            let name = name.ok_or_else(|| unknown(option))?;
            if FLAGS.contains(&name) {
                reader.nodefaults |= name == "nodefaults";
                continue;
            }
            if !VALUED.contains(&name) && !READ.contains(&name) {
                return Err(unknown(option));
            }
            let value = words.next().ok_or_else(|| unknown(option))?;
            reader.option(name, value)?;
        }
        reader.finish()
    }
}

struct Reader {
    shape: Shape,
    devices: Devices,
    seen: Vec<&'static str>,
    nodefaults: bool,
}

impl Reader {
    fn new(qemu: Qemu) -> Reader {
        Reader {
            shape: Shape::new(qemu, 1, 0),
            devices: Devices::default(),
            seen: Vec::new(),
            nodefaults: false,
        }
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), CommandLineError> {
        match name {
            "machine" | "M" => self.machine(value),
            "m" => self.memory(value),
            "smp" => self.processors(value),
            "cpu" => self.processor(value),
            "global" => self.global(value),
            // What a second port becomes after this changed between versions of QEMU.
            "serial" if value == "none" => self.serial(Serial::Absent),
            "serial" => self.serial(Serial::Board),
            "device" => self.device(value),
            "object" => self.devices.object(value),
            "fw_cfg" => fw_cfg(value),
            "drive" => Settings::read("-drive", value)?.expect("if", &["none"]),
            "vga" | "net" | "nic" if value != "none" => Err(setting(&format!("-{name}"), value)),
            _ => Ok(()),
        }
    }

    fn machine(&mut self, value: &str) -> Result<(), CommandLineError> {
        self.once("-machine")?;
        let mut settings = Settings::read("-machine", value)?;
        let kind = settings.head_or("type")?;
        if !MACHINES.contains(&kind.as_str()) {
            return Err(setting("-machine", &kind));
        }
        for name in ["kernel-irqchip", "kernel_irqchip"] {
            settings.switch(name, &["split"])?;
        }
        let trust_domain = settings.take("confidential-guest-support")?.is_some();
        let mut on = |name: &str, what| {
            let value = settings.switch(name, &["on", "off"])?;
            match value {
                // QEMU turns these off by itself there; that was read and not seen.
                None if trust_domain && name != "hpet" => Err(CommandLineError::Missing {
                    what,
                    why: "what a trust domain has instead was not compared",
                }),
                value => Ok(value.is_none_or(|value| value == "on")),
            }
        };
        self.shape.hpet = on("hpet", "hpet=off")?;
        self.shape.smm = on("smm", "smm=off")?;
        self.shape.pic = on("pic", "pic=off")?;
        settings.only(&["memory-backend", "accel"])
    }

    fn memory(&mut self, value: &str) -> Result<(), CommandLineError> {
        self.once("-m")?;
        let mut settings = Settings::read("-m", value)?;
        let size = settings.head_or("size")?;
        let mib = size::whole(&size, MIB, MIB);
        self.shape.memory_mib = mib.ok_or_else(|| setting("-m", &size))?;
        settings.only(&[])
    }

    fn processors(&mut self, value: &str) -> Result<(), CommandLineError> {
        self.once("-smp")?;
        let mut settings = Settings::read("-smp", value)?;
        let number = |text: &str| {
            let digits = text.bytes().all(|digit| digit.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.ok_or_else(|| setting("-smp", text))
        };
        self.shape.vcpus = number(&settings.head_or("cpus")?)?;
        self.shape.vcpus_max = match settings.take("maxcpus")? {
            Some(most) => number(&most)?,
            None => self.shape.vcpus,
        };
        // One socket and one thread a core is what QEMU takes by itself.
        for one in ["sockets", "dies", "clusters", "modules", "threads"] {
            settings.switch(one, &["1"])?;
        }
        if let Some(cores) = settings.take("cores")?
            && number(&cores)? != self.shape.vcpus_max
        {
            return Err(setting("-smp", &format!("cores={cores}")));
        }
        settings.only(&[])
    }

    /// Of the processor, the tables show how wide OVMF's addresses are.
    fn processor(&mut self, value: &str) -> Result<(), CommandLineError> {
        self.once("-cpu")?;
        let mut settings = Settings::read("-cpu", value)?;
        let model = settings.head_or("model")?;
        let bits = settings.take("phys-bits")?;
        let wide = match &bits {
            Some(bits) => bits
                .parse::<u32>()
                .is_ok_and(|bits| (46..=52).contains(&bits)),
            // That of a TDX host.
            None => model == "host",
        };
        if !wide {
            let got = bits.map_or("without phys-bits".into(), |bits| {
                format!("phys-bits={bits}")
            });
            return Err(setting(&format!("-cpu {model}"), &got));
        }
        self.shape.address_width = match model.as_str() {
            "qemu64" => AddressWidth::Bits40,
            "max" | "host" | "Skylake-Server" => AddressWidth::Bits46,
            _ => return Err(setting("-cpu", &model)),
        };
        let other = |name: &str| {
            let feature = name.strip_prefix(['+', '-']);
            name != "pmu" && feature.is_none_or(|feature| feature == "pdpe1gb")
        };
        settings.none(other)
    }

    fn global(&mut self, value: &str) -> Result<(), CommandLineError> {
        let refused = || setting("-global", value);
        let (name, set) = value.split_once('=').ok_or_else(refused)?;
        match name {
            "ICH9-LPC.acpi-pci-hotplug-with-bridge-support" => {
                self.once("-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support")?;
                self.shape.pci_hotplug = match set {
                    "on" => true,
                    "off" => false,
                    _ => return Err(refused()),
                };
            }
            "q35-pcihost.pci-hole64-size" => {
                self.once("-global q35-pcihost.pci-hole64-size")?;
                let gib = size::whole(set, 1, GIB);
                self.shape.pci_hole64_gib = gib.ok_or_else(refused)?;
            }
            _ => return Err(refused()),
        }
        Ok(())
    }

    fn device(&mut self, value: &str) -> Result<(), CommandLineError> {
        let mut settings = Settings::read("-device", value)?;
        let kind = settings.head_or("driver")?;
        let settings = settings.of(format!("-device {kind}"));
        match kind.as_str() {
            "isa-serial" => {
                settings.only(&["id", "chardev"])?;
                self.serial(Serial::Added)
            }
            "tpm-crb" => {
                settings.only(&["id", "tpmdev"])?;
                self.once("-device tpm-crb")?;
                self.shape.tpm = true;
                Ok(())
            }
            // These sit behind a virtio device and are on no bus that ACPI shows.
            "virtconsole" | "virtserialport" => Ok(()),
            _ => self.devices.pci(&mut self.shape, &kind, settings),
        }
    }

    fn serial(&mut self, serial: Serial) -> Result<(), CommandLineError> {
        self.once("a serial port")?;
        self.shape.serial = serial;
        Ok(())
    }

    fn once(&mut self, what: &'static str) -> Result<(), CommandLineError> {
        if self.seen.contains(&what) {
            return Err(CommandLineError::Twice { what: what.into() });
        }
        self.seen.push(what);
        Ok(())
    }

    fn finish(self) -> Result<Shape, CommandLineError> {
        if !self.nodefaults {
            return Err(CommandLineError::Missing {
                what: "-nodefaults",
                why: "QEMU adds devices that the command line does not name",
            });
        }
        for (what, why) in NEEDED {
            if !self.seen.contains(&what) {
                return Err(CommandLineError::Missing { what, why });
            }
        }
        self.devices.check(&self.shape)?;
        Ok(self.shape)
    }
}

/// Names that end in the number of a GPU: no firmware reads them. The one without a number moves OVMF's window.
fn fw_cfg(value: &str) -> Result<(), CommandLineError> {
    let mut settings = Settings::read("-fw_cfg", value)?;
    let name = settings.head_or("name")?;
    let number = name.strip_prefix("opt/ovmf/X-PciMmio64Mb");
    let number = number.and_then(|number| number.parse::<u8>().ok());
    if number.is_none_or(|number| number == 0) {
        return Err(setting("-fw_cfg", &name));
    }
    settings.only(&["string"])
}

fn unknown(option: &str) -> CommandLineError {
    CommandLineError::Option {
        option: short(option),
    }
}

fn setting(option: &str, got: &str) -> CommandLineError {
    CommandLineError::Setting {
        option: short(option),
        setting: short(got),
    }
}

/// What a reader needs of a text that may be long.
fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).collect()
}

const SHOWN_CHARACTERS_MAX: usize = 80;

/// The machine types that were compared. A plain `q35` is the newest of its QEMU.
const MACHINES: [&str; 4] = ["q35", "pc-q35-8.2", "pc-q35-9.2", "pc-q35-10.0"];

const NEEDED: [(&str, &str); 3] = [
    ("-machine", "QEMU makes a machine that is no q35"),
    ("-m", "QEMU takes a size that no machine compared had"),
    ("-cpu", "the width of the firmware's addresses is not known"),
];

/// Options without a value that are in no table, and `nodefaults`.
const FLAGS: [&str; 9] = [
    "nodefaults",
    "no-user-config",
    "no-reboot",
    "no-shutdown",
    "nographic",
    "enable-kvm",
    "daemonize",
    "S",
    "only-migratable",
];

/// Options whose value decides something.
const READ: [&str; 14] = [
    "machine", "M", "m", "smp", "cpu", "global", "serial", "device", "object", "drive", "vga",
    "net", "nic", "fw_cfg",
];

/// Options that are in no table whatever their value: what stands behind devices, what is booted, how QEMU itself runs.
const VALUED: [&str; 20] = [
    "accel",
    "append",
    "bios",
    "blockdev",
    "chardev",
    "display",
    "initrd",
    "kernel",
    "monitor",
    "mon",
    "msg",
    "name",
    "netdev",
    "overcommit",
    "pidfile",
    "qmp",
    "qtest",
    "qtest-log",
    "sandbox",
    "tpmdev",
];
