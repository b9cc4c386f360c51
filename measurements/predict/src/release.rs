//! Releases of edk2, and which register each of them extends by what.
//!
//! | from | ACPI files | boot variables | second separator | settings of fw_cfg, SMBIOS |
//! |---|---|---|---|---|
//! | stable202211 | – | RTMR1 | RTMR0 | – |
//! | stable202302 | RTMR0 | RTMR0 | RTMR0 | – |
//! | stable202411 | RTMR0 | RTMR0 | RTMR1 | – |
//! | stable202505 | RTMR0 | RTMR0 | RTMR1 | RTMR0 |
//!
//! Read in edk2's `TdTcg2Dxe` and `AcpiPlatformDxe` at each tag (commit efaf8931bb moved the separator); `docs/measurements-evidence.md`
//! says which rows logs of hardware confirm. A TPM's log cannot: a TPM gets one separator for each register.

use std::fmt;
use std::str::FromStr;

use super::{EventKind, PredictedEvent, boot, boot_options};
use registers::Register;

/// A stable release of edk2. Distributions name their firmware by it: `2025.02-8+deb13u1` is built from 202502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edk2Release {
    year: u32,
    month: u32,
}

/// Text that names no release that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{got:?} is no edk2 release from {} to {}: edk2 releases in February, May, August and November, written like 202502, 2025.02 or edk2-stable202502",
    Edk2Release::FIRST,
    Edk2Release::LAST
)]
pub struct Edk2ReleaseError {
    /// The text, its beginning.
    pub got: String,
}

impl Edk2Release {
    /// The first whose layout is known.
    pub const FIRST: Edk2Release = Edk2Release::of(2022, 11);
    /// The last whose layout is known.
    pub const LAST: Edk2Release = Edk2Release::of(2026, 8);
    /// Debian 13's.
    pub const STABLE202502: Edk2Release = Edk2Release::of(2025, 2);

    pub(crate) const fn of(year: u32, month: u32) -> Edk2Release {
        Edk2Release { year, month }
    }

    /// Which register it extends by what.
    pub fn layout(self) -> &'static Layout {
        let mut from = Layout::ALL.iter().rev();
        let found = from.find(|layout| layout.first <= self);
        found.unwrap_or(&Layout::ALL[0])
    }
}

/// `202502`, `2025.02`, and both after `edk2-stable` or `stable`.
impl FromStr for Edk2Release {
    type Err = Edk2ReleaseError;

    fn from_str(text: &str) -> Result<Edk2Release, Edk2ReleaseError> {
        let unknown = || Edk2ReleaseError {
            got: text.chars().take(SHOWN_CHARACTERS_MAX).collect(),
        };
        let tag = text.strip_prefix("edk2-").unwrap_or(text);
        let number = tag.strip_prefix("stable");
        let number = number.or((tag == text).then_some(text));
        // The one tag with a third number: a fix that changes no event.
        let number = match number.ok_or_else(unknown)? {
            "202408.01" => "202408",
            number => number,
        };
        let parts = number.split_once('.').or(number.split_at_checked(4));
        let digits = |part: &str, count| {
            let all = part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| all)
        };
        let release = parts
            .and_then(|(year, month)| Some(Edk2Release::of(digits(year, 4)?, digits(month, 2)?)));
        release
            .filter(|release| (Edk2Release::FIRST..=Edk2Release::LAST).contains(release))
            .filter(|release| [2, 5, 8, 11].contains(&release.month))
            .ok_or_else(unknown)
    }
}

impl fmt::Display for Edk2Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}", self.year, self.month)
    }
}

/// What releases that follow one another have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    first: Edk2Release,
    last: Edk2Release,
    /// Whether ACPI files are measured.
    pub(crate) acpi: bool,
    /// What `BootOrder` and the options that it lists extend.
    pub(crate) boot_variables: Register,
    /// What the separator before the first boot option extends. The one after the Secure Boot variables extends RTMR0.
    pub(crate) separator: Register,
    /// Whether settings of fw_cfg and SMBIOS are measured, and the firmware lists a second boot option.
    pub(crate) settings: bool,
}

impl Layout {
    /// All that are known, the oldest first.
    pub const ALL: &'static [Layout] = &[
        Layout {
            first: Edk2Release::FIRST,
            last: Edk2Release::FIRST,
            acpi: false,
            boot_variables: Register::Rtmr1,
            separator: Register::Rtmr0,
            settings: false,
        },
        Layout {
            first: Edk2Release::of(2023, 2),
            last: Edk2Release::of(2024, 8),
            acpi: true,
            boot_variables: Register::Rtmr0,
            separator: Register::Rtmr0,
            settings: false,
        },
        Layout {
            first: Edk2Release::of(2024, 11),
            last: Edk2Release::STABLE202502,
            acpi: true,
            boot_variables: Register::Rtmr0,
            separator: Register::Rtmr1,
            settings: false,
        },
        Layout {
            first: Edk2Release::of(2025, 5),
            last: Edk2Release::LAST,
            acpi: true,
            boot_variables: Register::Rtmr0,
            separator: Register::Rtmr1,
            settings: true,
        },
    ];

    /// The layout that a register's events have, if they are those of a direct boot. RTMR1 has one that is not unique.
    pub fn of(register: Register, events: &[PredictedEvent]) -> Option<&'static Layout> {
        let key = |event: &PredictedEvent| (event.kind, event.digest);
        Layout::ALL.iter().rev().find(|layout| {
            let same = layout.relaid(register, events);
            same.is_some_and(|same| same.iter().map(key).eq(events.iter().map(key)))
        })
    }

    /// The events of RTMR0 or RTMR1 of a direct boot, as firmware with this layout would have measured the same machine and
    /// kernel. None if it would have measured what is not among them.
    pub fn relaid(
        &self,
        register: Register,
        events: &[PredictedEvent],
    ) -> Option<Vec<PredictedEvent>> {
        let is = |kind| move |event: &PredictedEvent| event.kind == kind;
        let boots = self.boot_variables == register;
        let variables: Vec<PredictedEvent> = boots
            .then(|| boot_options::events(self))
            .into_iter()
            .flatten()
            .collect();
        let closing = (self.separator == register).then(|| boot::separator(register));
        let mut relaid = Vec::new();
        match register {
            Register::Rtmr0 => {
                let middle = 1 + events.iter().position(is(EventKind::Separator))?;
                let (before, after) = events.split_at(middle);
                let settings = |event: &&PredictedEvent| {
                    self.settings || event.kind != EventKind::PlatformConfigFlags
                };
                relaid.extend(before.iter().filter(settings).cloned());
                let of = |kind| {
                    after
                        .iter()
                        .filter(move |event| event.kind == kind)
                        .cloned()
                };
                let tables: Vec<_> = of(EventKind::PlatformConfigFlags).collect();
                let smbios: Vec<_> = of(EventKind::HandoffTables).collect();
                if self.acpi && tables.is_empty() || self.settings && smbios.is_empty() {
                    return None;
                }
                relaid.extend(tables.into_iter().filter(|_| self.acpi));
                relaid.extend(of(EventKind::VariableAuthority));
                relaid.extend(smbios.into_iter().filter(|_| self.settings));
                relaid.extend(variables);
                relaid.extend(closing);
            }
            Register::Rtmr1 => {
                let kept = |event: &&PredictedEvent| {
                    ![EventKind::Separator, EventKind::VariableBoot].contains(&event.kind)
                };
                let kept: Vec<_> = events.iter().filter(kept).cloned().collect();
                let calling = kept.iter().position(is(EventKind::Action))?;
                let (program, rest) = kept.split_at(calling);
                let (calling, rest) = rest.split_first()?;
                relaid.extend_from_slice(program);
                relaid.extend(variables);
                relaid.push(calling.clone());
                relaid.extend(closing);
                relaid.extend_from_slice(rest);
            }
            _ => return None,
        }
        Some(relaid)
    }
}

/// `edk2 stable202302 to stable202408`.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edk2 stable{}", self.first)?;
        match self.first == self.last {
            true => Ok(()),
            false => write!(f, " to stable{}", self.last),
        }
    }
}

const SHOWN_CHARACTERS_MAX: usize = 80;
