//! A shape as a file: JSON for people to write and to keep beside an image.
//!
//! Every field must be there and no other may be. A shape that reads well is a machine in words; whether its tables are
//! known is for [`acpi_files`](super::acpi_files) to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::size::{self, GIB, MIB};
use super::{AcpiError, AddressWidth, Qemu, Serial, Shape, Slot};
use crate::limits;

/// Why bytes are no shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ShapeError {
    #[error("the shape has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("the shape is not valid: {0}")]
    Json(String),
    #[error("the shape has version {got}; this program reads version {VERSION}")]
    Version { got: u32 },
    #[error("the shape's {field} is not a size in whole {unit}, like 2G: {got:?}")]
    Size {
        field: &'static str,
        unit: &'static str,
        got: String,
    },
    #[error(
        "the shape's address_bits are {got}; OVMF takes 40 (a processor without pages of 1 GiB) or 46"
    )]
    AddressBits { got: u32 },
    #[error("the shape has slot {slot} twice")]
    SameSlot { slot: u8 },
    #[error(transparent)]
    Qemu(#[from] AcpiError),
}

impl Shape {
    /// Reads a shape file.
    pub fn from_json(bytes: &[u8]) -> Result<Shape, ShapeError> {
        if bytes.len() > limits::SHAPE_BYTES_MAX {
            return Err(ShapeError::TooLong {
                got: bytes.len(),
                max: limits::SHAPE_BYTES_MAX,
            });
        }
        let written: Written =
            serde_json::from_slice(bytes).map_err(|error| ShapeError::Json(error.to_string()))?;
        written.shape()
    }

    /// The file of this shape: fixed order of fields, two spaces, one final newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(&Written::of(self))
            .expect("a shape has only strings, numbers and lists, which always serialise");
        bytes.push(b'\n');
        bytes
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    qemu: String,
    vcpus: u32,
    maxcpus: u32,
    memory: String,
    hpet: bool,
    smm: bool,
    pic: bool,
    pci_hotplug: bool,
    serial: WrittenSerial,
    tpm: bool,
    address_bits: u32,
    pci_hole64: String,
    slots: Vec<WrittenSlot>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenSerial {
    None,
    Board,
    Isa,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "device", rename_all = "kebab-case", deny_unknown_fields)]
enum WrittenSlot {
    Plain {
        slot: u8,
    },
    Virtio {
        slot: u8,
    },
    Port {
        slot: u8,
    },
    PortWith {
        slot: u8,
        largest_bar: String,
        further_bars: String,
    },
    PortWithPassed {
        slot: u8,
        /// Of the slot.
        function: u8,
        reserved: String,
    },
}

impl Written {
    fn of(shape: &Shape) -> Written {
        let devices = shape.devices();
        let slots = devices.iter();
        Written {
            version: VERSION,
            qemu: shape.qemu.as_str().into(),
            vcpus: shape.vcpus,
            maxcpus: shape.vcpus_max,
            memory: size::of_mib(shape.memory_mib),
            hpet: shape.hpet,
            smm: shape.smm,
            pic: shape.pic,
            pci_hotplug: shape.pci_hotplug,
            serial: match shape.serial {
                Serial::Absent => WrittenSerial::None,
                Serial::Board => WrittenSerial::Board,
                Serial::Added => WrittenSerial::Isa,
            },
            tpm: shape.tpm,
            address_bits: match shape.address_width {
                AddressWidth::Bits40 => 40,
                AddressWidth::Bits46 => 46,
            },
            pci_hole64: format!("{}G", shape.pci_hole64_gib),
            slots: slots
                .map(|(place, device)| WrittenSlot::of(*place, *device))
                .collect(),
        }
    }

    fn shape(self) -> Result<Shape, ShapeError> {
        if self.version != VERSION {
            return Err(ShapeError::Version { got: self.version });
        }
        let (mut slots, mut functions) = (BTreeMap::new(), BTreeMap::new());
        for written in self.slots {
            let ((slot, function), device) = written.slot()?;
            let earlier = match function {
                0 => slots.insert(slot, device),
                _ => functions.insert((slot, function), device),
            };
            if earlier.is_some() {
                return Err(ShapeError::SameSlot { slot });
            }
        }
        Ok(Shape {
            qemu: Qemu::parse(&self.qemu)?,
            vcpus: self.vcpus,
            vcpus_max: self.maxcpus,
            memory_mib: mib("memory", &self.memory)?,
            hpet: self.hpet,
            smm: self.smm,
            pic: self.pic,
            pci_hotplug: self.pci_hotplug,
            serial: match self.serial {
                WrittenSerial::None => Serial::Absent,
                WrittenSerial::Board => Serial::Board,
                WrittenSerial::Isa => Serial::Added,
            },
            tpm: self.tpm,
            slots,
            functions,
            address_width: match self.address_bits {
                40 => AddressWidth::Bits40,
                46 => AddressWidth::Bits46,
                got => return Err(ShapeError::AddressBits { got }),
            },
            pci_hole64_gib: gib("pci_hole64", &self.pci_hole64)?,
        })
    }
}

impl WrittenSlot {
    fn of((slot, function): (u8, u8), device: Slot) -> WrittenSlot {
        match device {
            Slot::Plain => WrittenSlot::Plain { slot },
            Slot::Virtio => WrittenSlot::Virtio { slot },
            Slot::Port => WrittenSlot::Port { slot },
            Slot::PortWith { bar_gib, more_mib } => WrittenSlot::PortWith {
                slot,
                largest_bar: format!("{bar_gib}G"),
                further_bars: size::of_mib(more_mib),
            },
            Slot::PortWithPassed { reserved_gib } => WrittenSlot::PortWithPassed {
                slot,
                function,
                reserved: format!("{reserved_gib}G"),
            },
        }
    }

    fn slot(self) -> Result<((u8, u8), Slot), ShapeError> {
        Ok(match self {
            WrittenSlot::Plain { slot } => ((slot, 0), Slot::Plain),
            WrittenSlot::Virtio { slot } => ((slot, 0), Slot::Virtio),
            WrittenSlot::Port { slot } => ((slot, 0), Slot::Port),
            WrittenSlot::PortWith {
                slot,
                largest_bar,
                further_bars,
            } => {
                let device = Slot::PortWith {
                    bar_gib: gib("largest_bar", &largest_bar)?,
                    more_mib: mib("further_bars", &further_bars)?,
                };
                ((slot, 0), device)
            }
            WrittenSlot::PortWithPassed {
                slot,
                function,
                reserved,
            } => {
                let reserved_gib = gib("reserved", &reserved)?;
                ((slot, function), Slot::PortWithPassed { reserved_gib })
            }
        })
    }
}

fn mib(field: &'static str, text: &str) -> Result<u64, ShapeError> {
    sized(field, text, "MiB", MIB)
}

fn gib(field: &'static str, text: &str) -> Result<u64, ShapeError> {
    sized(field, text, "GiB", GIB)
}

/// A number alone is refused: some programs count it in bytes and some in MiB.
fn sized(
    field: &'static str,
    text: &str,
    unit: &'static str,
    bytes: u64,
) -> Result<u64, ShapeError> {
    let named = text.ends_with(|last: char| last.is_ascii_alphabetic()) && !text.starts_with("0x");
    let size = size::whole(text, 1, bytes).filter(|_| named);
    size.ok_or_else(|| ShapeError::Size {
        field,
        unit,
        got: text.chars().take(40).collect(),
    })
}

const VERSION: u32 = 1;
