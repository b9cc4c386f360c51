//! Versions of QEMU, and what was compared of each.

use super::shape::AddressWidth;
use super::{AcpiError, Serial, Shape, Slot};

/// A version of QEMU whose tables were compared. Only these exact versions: a table changes with the program, not with the
/// machine type, and nobody announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qemu {
    /// Of one machine only, as another project's predictor has it.
    V9_2_1,
    /// Debian 13's.
    V10_0_13,
    /// Of production machines with passed-through devices.
    V10_1_0,
    /// Of one machine only, which was a trust domain.
    V10_2_1,
    /// That of Debian 13's backports.
    V11_1_3,
}

impl Qemu {
    /// All of them, the oldest first.
    pub const ALL: [Qemu; 5] = [
        Qemu::V9_2_1,
        Qemu::V10_0_13,
        Qemu::V10_1_0,
        Qemu::V10_2_1,
        Qemu::V11_1_3,
    ];

    /// As QEMU's `--version` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Qemu::V9_2_1 => "9.2.1",
            Qemu::V10_0_13 => "10.0.13",
            Qemu::V10_1_0 => "10.1.0",
            Qemu::V10_2_1 => "10.2.1",
            Qemu::V11_1_3 => "11.1.3",
        }
    }

    /// The version that is written so; a Debian package's version names it too: what stands between an epoch and the first
    /// `+` or `-`.
    pub fn parse(text: &str) -> Result<Qemu, AcpiError> {
        let upstream = text.split_once(':').map_or(text, |(_, rest)| rest);
        let upstream = upstream.split(['+', '-']).next();
        let known = Qemu::ALL
            .into_iter()
            .find(|version| upstream == Some(version.as_str()));
        known.ok_or_else(|| AcpiError::Version {
            got: text.chars().take(VERSION_CHARACTERS_MAX).collect(),
        })
    }

    /// The only machine that was compared, for versions of which there is only one.
    pub(super) fn only_machine(self) -> Option<Shape> {
        let like_a_guest = |vcpus, memory_mib| Shape {
            smm: false,
            pic: false,
            ..Shape::new(self, vcpus, memory_mib)
        };
        match self {
            Qemu::V9_2_1 => Some(Shape {
                hpet: false,
                serial: Serial::Board,
                ..like_a_guest(4, 2048)
            }),
            Qemu::V10_2_1 => Some(Shape {
                slots: [
                    (1, Slot::Virtio),
                    (2, Slot::Plain),
                    (3, Slot::Virtio),
                    (4, Slot::Virtio),
                    (5, Slot::Virtio),
                ]
                .into(),
                address_width: AddressWidth::Bits46,
                pci_hole64_gib: 4096,
                ..like_a_guest(8, 16 * 1024)
            }),
            Qemu::V10_0_13 | Qemu::V10_1_0 | Qemu::V11_1_3 => None,
        }
    }
}

const VERSION_CHARACTERS_MAX: usize = 40;
