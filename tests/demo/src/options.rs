//! What a person may ask of the demo.

/// The command line, parsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// One JSON object on the last line of standard output, and no words.
    pub json: bool,
    /// One byte is changed there.
    pub tamper: Option<Tamper>,
    /// The guest is a process instead of a measured virtual machine.
    pub process: bool,
    /// Everything is left running until Ctrl-C.
    pub keep: bool,
}

/// Where one byte is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// The TDX quote, on its way to the client.
    Quote,
    /// The signed envelope, between proxy and guest.
    Envelope,
    /// The sealed answer, on its way to the client.
    Answer,
    /// The receipt, after the client opened the seal: only a lying guest could do this.
    Receipt,
    /// The charge in the clear, on its way to the client.
    Charge,
    /// The signed voucher, on its way to the provider.
    Voucher,
    /// The image's initrd: one byte appended.
    Initrd,
    /// The image's root: one byte of a file that the agent reads when it starts.
    Rootfs,
    /// The kernel's command line.
    Cmdline,
    /// The firmware's measured volume.
    Firmware,
}

/// Why the demo does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Help or the version was asked for; this is it.
    Help(String),
    /// The options make no sense; this says why.
    Misuse(String),
}

impl Tamper {
    const ALL: [(&'static str, Tamper, &'static str); 10] = [
        (
            "quote",
            Tamper::Quote,
            "the TDX quote, on its way to the client",
        ),
        (
            "envelope",
            Tamper::Envelope,
            "the signed envelope, between proxy and guest",
        ),
        (
            "answer",
            Tamper::Answer,
            "the sealed answer, on its way to the client",
        ),
        (
            "receipt",
            Tamper::Receipt,
            "the receipt, as only a lying guest could",
        ),
        (
            "charge",
            Tamper::Charge,
            "the charge in the clear, on its way to the client",
        ),
        (
            "voucher",
            Tamper::Voucher,
            "the signed voucher, on its way to the provider",
        ),
        (
            "initrd",
            Tamper::Initrd,
            "the image's initrd: one byte appended",
        ),
        (
            "rootfs",
            Tamper::Rootfs,
            "the image's root: a file that the agent reads when it starts",
        ),
        ("cmdline", Tamper::Cmdline, "the kernel's command line"),
        (
            "firmware",
            Tamper::Firmware,
            "the firmware's measured volume",
        ),
    ];

    /// Whether it happens between client and proxy. A receipt travels inside the seal, and the proxy itself looks
    /// at envelopes, so a changed one is put in behind it.
    pub fn is_before_proxy(self) -> bool {
        use Tamper::{Answer, Charge, Quote, Voucher};
        matches!(self, Quote | Answer | Charge | Voucher)
    }

    /// Whether it happens to the files of the machine, before it starts.
    pub fn is_in_image(self) -> bool {
        use Tamper::{Cmdline, Firmware, Initrd, Rootfs};
        matches!(self, Initrd | Rootfs | Cmdline | Firmware)
    }

    fn parse(name: &str) -> Result<Tamper, Stop> {
        let found = Tamper::ALL.iter().find(|(known, ..)| *known == name);
        found.map(|(_, tamper, _)| *tamper).ok_or_else(|| {
            let names = Tamper::ALL.map(|(known, ..)| known).join(", ");
            Stop::Misuse(format!("--tamper {name}: allowed are {names}"))
        })
    }
}

impl Options {
    /// Parses the command line without the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, Stop> {
        let mut options = Options::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--process" => options.process = true,
                "--keep" => options.keep = true,
                "--tamper" => {
                    let place = arguments.next();
                    options.tamper = Some(Tamper::parse(place.as_deref().unwrap_or_default())?);
                }
                "--help" | "-h" => return Err(Stop::Help(help())),
                "--version" | "-V" => return Err(Stop::Help(VERSION.to_owned())),
                other => match other.strip_prefix("--tamper=") {
                    Some(place) => options.tamper = Some(Tamper::parse(place)?),
                    None => return Err(Stop::Misuse(format!("unexpected argument {other}"))),
                },
            }
        }
        let misuse = |why: &str| Err(Stop::Misuse(why.to_owned()));
        if options.keep && options.tamper.is_some() {
            return misuse("--keep cannot be used with --tamper");
        }
        if options.process && options.tamper.is_some_and(Tamper::is_in_image) {
            return misuse("--process has no image to tamper with");
        }
        Ok(options)
    }
}

fn help() -> String {
    let mut help = HELP.to_owned();
    for (name, _, what) in Tamper::ALL {
        help.push_str(&format!("  {name:<9} {what}\n"));
    }
    help
}

const VERSION: &str = concat!("demo ", env!("CARGO_PKG_VERSION"), "\n");
const HELP: &str = "\
One private answer, end to end: sealed, attested, signed, verified, paid

Builds a guest image from the committed lock, predicts what it measures to, boots it in QEMU beside an embedded TON
ledger and the proxy, then does what a developer does. The TDX module and the value of the coins are SIMULATED:
this shows that the parts fit and what each refuses, not that this machine keeps secrets.

Usage: cargo demo -- [OPTIONS]

Options:
      --json            Print one JSON object on the last line of standard output, and no words
      --tamper <WHAT>   Change one byte; ends with exit code 1 and who refused it
      --process         Run the guest as a process of this host: no image, no machine, a few seconds once compiled
      --keep            Leave everything running, with the OpenAI API on 127.0.0.1:10000, until Ctrl-C
  -h, --help            Print help
  -V, --version         Print version

--tamper changes a byte of:
";

#[test]
fn options_are_parsed_and_misuse_is_named() {
    let parse = |words: &str| Options::parse(words.split_whitespace().map(str::to_owned));
    let tampered = Options {
        tamper: Some(Tamper::Quote),
        process: true,
        ..Options::default()
    };
    assert_eq!(parse(""), Ok(Options::default()));
    assert_eq!(parse("--process --tamper quote"), Ok(tampered));
    assert_eq!(parse("--tamper=quote --process"), Ok(tampered));
    for misuse in [
        "--unknown",
        "--tamper",
        "--tamper nothing",
        "--keep --tamper quote",
        "--process --tamper initrd",
        "quote",
    ] {
        assert!(matches!(parse(misuse), Err(Stop::Misuse(_))), "{misuse}");
    }
    let Err(Stop::Help(help)) = parse("--json --help") else {
        panic!("help is given");
    };
    for (name, ..) in Tamper::ALL {
        assert!(help.contains(&format!("\n  {name} ")), "{name}");
    }
}
