//! The five registers of a TDX guest, by name and by value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest48;

/// What a guest measured to: the build-time register MRTD and the four run-time registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "RegistersJson", from = "RegistersJson")]
pub struct Registers {
    /// The initial memory of the guest: its firmware.
    pub mrtd: Digest48,
    /// RTMR0 (firmware configuration), RTMR1 (kernel), RTMR2 (command line, initrd), RTMR3 (the application).
    pub rtmr: [Digest48; 4],
}

/// One of the five registers. In files, its name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Register {
    /// Initial memory.
    Mrtd,
    /// Firmware configuration.
    Rtmr0,
    /// Kernel.
    Rtmr1,
    /// Command line and initrd.
    Rtmr2,
    /// The application.
    Rtmr3,
}

impl Register {
    /// All five, in order.
    pub const ALL: [Register; 5] = [
        Register::Mrtd,
        Register::Rtmr0,
        Register::Rtmr1,
        Register::Rtmr2,
        Register::Rtmr3,
    ];

    /// Its value among all five.
    pub fn of(self, registers: &Registers) -> Digest48 {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = registers.rtmr;
        match self {
            Register::Mrtd => registers.mrtd,
            Register::Rtmr0 => rtmr0,
            Register::Rtmr1 => rtmr1,
            Register::Rtmr2 => rtmr2,
            Register::Rtmr3 => rtmr3,
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Register::Mrtd => "MRTD",
            Register::Rtmr0 => "RTMR0",
            Register::Rtmr1 => "RTMR1",
            Register::Rtmr2 => "RTMR2",
            Register::Rtmr3 => "RTMR3",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistersJson {
    mrtd: Digest48,
    rtmr0: Digest48,
    rtmr1: Digest48,
    rtmr2: Digest48,
    rtmr3: Digest48,
}

impl From<Registers> for RegistersJson {
    fn from(r: Registers) -> Self {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = r.rtmr;
        RegistersJson {
            mrtd: r.mrtd,
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
        }
    }
}

impl From<RegistersJson> for Registers {
    fn from(j: RegistersJson) -> Self {
        Registers {
            mrtd: j.mrtd,
            rtmr: [j.rtmr0, j.rtmr1, j.rtmr2, j.rtmr3],
        }
    }
}
