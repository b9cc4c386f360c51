//! What a verifier accepts of a guest whose signatures are good.

mod file;
mod tcb;

pub use file::PolicyError;
pub(crate) use tcb::PlatformTcb;
pub use tcb::{Advisories, TcbStatus};

use crate::{Manifest, Profile, Refusal, TdReport};
use registers::{Digest48, Register, Registers};

/// What a peer may be. Everything here is an exact value or a closed list; what is not listed is refused.
///
/// Some checks are no field because no policy may switch them off: a debuggable, migratable or service-bound guest,
/// a TDX module that Intel did not sign, and a revoked platform are always refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Guests to accept. All five registers must be those of one entry; an empty list accepts nobody.
    pub registers: Vec<Registers>,
    /// Platform states to accept.
    pub tcb_statuses: Vec<TcbStatus>,
    /// Advisories that a platform in an accepted state other than `UpToDate` may have against it.
    pub advisories: Advisories,
    /// Accept a platform that is out of date, and nothing worse, this many days after the date of its level: the
    /// `tcbDate` in the collateral, up to which all fixes are in. Not from the day on which a newer level came out: so
    /// the number bounds how old the missing fixes may be. Where the quoting enclave is out of date too, or alone, the
    /// older of the two dates counts. 0 accepts none.
    pub out_of_date_grace_days: u32,
    /// The lowest TCB evaluation number to accept: the highest one ever seen, so that a host cannot go back to
    /// collateral from before an advisory.
    pub tcb_evaluation_number_min: u32,
    /// Attribute bits a guest may have. SEPT_VE_DISABLE must be set besides.
    pub td_attributes_allowed: u64,
    /// Extended CPU state a guest must have.
    pub xfam_required: u64,
    /// Extended CPU state a guest may have.
    pub xfam_allowed: u64,
    /// The exact MRCONFIGID.
    pub mr_config_id: Digest48,
    /// The exact MROWNER.
    pub mr_owner: Digest48,
    /// The exact MROWNERCONFIG.
    pub mr_owner_config: Digest48,
}

impl Policy {
    /// Exactly this guest on an up-to-date platform; everything the host may choose about it is zero.
    pub fn exact(registers: Registers) -> Policy {
        Policy::with_registers(vec![registers])
    }

    /// As strict as [`Policy::exact`] over these guests. Of none, it accepts nobody.
    pub fn with_registers(registers: Vec<Registers>) -> Policy {
        Policy {
            registers,
            tcb_statuses: vec![TcbStatus::UpToDate],
            advisories: Advisories::Only(Vec::new()),
            out_of_date_grace_days: 0,
            tcb_evaluation_number_min: 0,
            td_attributes_allowed: SEPT_VE_DISABLE | PKS | LASS | ICSSD,
            xfam_required: XFAM_X87_SSE,
            xfam_allowed: XFAM_COMPUTE,
            mr_config_id: Digest48::ZERO,
            mr_owner: Digest48::ZERO,
            mr_owner_config: Digest48::ZERO,
        }
    }

    /// Exactly the guest a manifest describes; nobody, if that is one for developers, whose console is a way in. Who wants
    /// such a guest all the same lists its registers in a policy of his own.
    pub fn from_manifest(manifest: &Manifest) -> Policy {
        if manifest.profile() == Profile::Dev.as_str() {
            return Policy::with_registers(Vec::new());
        }
        Policy::exact(*manifest.registers())
    }

    /// The attributes of the guest and of the module below it. Fixed order: the gravest first.
    pub(crate) fn check_attributes(&self, td: &TdReport) -> Result<(), Refusal> {
        let bits = td.td_attributes;
        if bits & TUD != 0 {
            return Err(Refusal::Debug {
                td_attributes: bits,
            });
        }
        if bits & MIGRATABLE != 0 {
            return Err(Refusal::Migratable {
                td_attributes: bits,
            });
        }
        if bits & SERVTD_EXT != 0 || td.mr_service_td != Digest48::ZERO {
            return Err(Refusal::ServiceTd {
                mr_service_td: td.mr_service_td,
                td_attributes: bits,
            });
        }
        if let Some(extended) = &td.extended {
            let bound = [
                extended.init_service_td_hash,
                extended.current_service_td_hash,
            ];
            if let Some(hash) = bound.iter().find(|hash| **hash != Digest48::ZERO) {
                return Err(Refusal::ServiceTd {
                    mr_service_td: *hash,
                    td_attributes: bits,
                });
            }
            if extended.vm_id != 0 {
                return Err(Refusal::Partitioned {
                    vm_id: extended.vm_id,
                });
            }
        }
        if bits & SEPT_VE_DISABLE == 0 {
            return Err(Refusal::SeptVeDisable {
                td_attributes: bits,
            });
        }
        if bits & PERFMON & !self.td_attributes_allowed != 0 {
            return Err(Refusal::Perfmon {
                td_attributes: bits,
            });
        }
        if bits & !self.td_attributes_allowed != 0 {
            return Err(Refusal::TdAttributes {
                got: bits,
                allowed: self.td_attributes_allowed,
            });
        }
        if td.mr_signer_seam != Digest48::ZERO {
            return Err(Refusal::SeamSigner {
                got: td.mr_signer_seam,
            });
        }
        if td.seam_attributes != 0 {
            return Err(Refusal::SeamAttributes {
                got: td.seam_attributes,
            });
        }
        if td.xfam & self.xfam_required != self.xfam_required || td.xfam & !self.xfam_allowed != 0 {
            return Err(Refusal::Xfam {
                got: td.xfam,
                required: self.xfam_required,
                allowed: self.xfam_allowed,
            });
        }
        Ok(())
    }

    /// The values a host chooses at launch.
    pub(crate) fn check_owner(&self, td: &TdReport) -> Result<(), Refusal> {
        if td.mr_config_id != self.mr_config_id {
            return Err(Refusal::MrConfigId {
                got: td.mr_config_id,
                allowed: self.mr_config_id,
            });
        }
        if td.mr_owner != self.mr_owner {
            return Err(Refusal::MrOwner {
                got: td.mr_owner,
                allowed: self.mr_owner,
            });
        }
        if td.mr_owner_config != self.mr_owner_config {
            return Err(Refusal::MrOwnerConfig {
                got: td.mr_owner_config,
                allowed: self.mr_owner_config,
            });
        }
        Ok(())
    }

    /// Registers of one entry as a whole: a mix of two accepted guests is a third guest.
    pub(crate) fn check_registers(&self, got: &Registers) -> Result<(), Refusal> {
        if self.registers.contains(got) {
            return Ok(());
        }
        // For the sentence, name the first register that fits no entry, or else the first that differs from the
        // entry which fits longest.
        let (mut fits, mut register) = (self.registers.iter().collect::<Vec<_>>(), Register::Mrtd);
        for candidate in Register::ALL {
            register = candidate;
            let still: Vec<_> = fits
                .iter()
                .copied()
                .filter(|entry| candidate.of(entry) == candidate.of(got))
                .collect();
            if still.is_empty() {
                break;
            }
            fits = still;
        }
        let allowed = fits.iter().map(|entry| register.of(entry)).collect();
        Err(Refusal::RegisterMismatch {
            register,
            got: register.of(got),
            allowed,
        })
    }
}

// Intel TDX Module ABI specification, 348551, table of TD attributes.
/// Bits 7:0: the guest is under debug or profiled by the host.
const TUD: u64 = 0xff;
/// Defence against counting instructions while single-stepping.
const ICSSD: u64 = 1 << 16;
/// Service TDs are bound through an extended structure.
const SERVTD_EXT: u64 = 1 << 17;
/// Linear address space separation.
const LASS: u64 = 1 << 27;
/// The host cannot make the guest fault on a page it took away (else it may steer the guest's exception handler).
const SEPT_VE_DISABLE: u64 = 1 << 28;
/// A migration service may move the guest to another machine.
const MIGRATABLE: u64 = 1 << 29;
/// Supervisor protection keys.
const PKS: u64 = 1 << 30;
/// Performance counters run inside the guest, a precise clock for whoever shares the core.
const PERFMON: u64 = 1 << 63;

/// x87 and SSE, without which no TD starts.
const XFAM_X87_SSE: u64 = 0b11;
/// x87, SSE, AVX, AVX-512 (5-7), PKRU (9), CET (11, 12), AMX (17, 18). Not processor trace (8), user interrupts (14),
/// last-branch records (15): they watch the guest and no engine needs them.
const XFAM_COMPUTE: u64 = 0b111 | 0b111 << 5 | 1 << 9 | 0b11 << 11 | 0b11 << 17;

#[cfg(test)]
mod tests {
    use super::*;
    use registers::Digest32;

    fn registers(values: [u8; 5]) -> Registers {
        let [mrtd, a, b, c, d] = values.map(|value| Digest48([value; 48]));
        Registers {
            mrtd,
            rtmr: [a, b, c, d],
        }
    }

    fn check(allowed: &[[u8; 5]], got: [u8; 5], expected: Option<(Register, &[u8])>) {
        let mut policy = Policy::exact(registers([0; 5]));
        policy.registers = allowed.iter().map(|values| registers(*values)).collect();
        let refusal = policy.check_registers(&registers(got)).err();
        let expected = expected.map(|(register, allowed)| Refusal::RegisterMismatch {
            register,
            got: register.of(&registers(got)),
            allowed: allowed.iter().map(|value| Digest48([*value; 48])).collect(),
        });
        assert_eq!(refusal, expected);
    }

    #[test]
    fn registers_are_accepted_only_as_a_whole() {
        let two = [[1, 1, 1, 1, 1], [1, 1, 2, 2, 2]];
        check(&two, two[0], None);
        check(&two, two[1], None);
        check(&two, [1, 1, 1, 1, 2], Some((Register::Rtmr3, &[1])));
        check(&two, [1, 1, 3, 1, 1], Some((Register::Rtmr1, &[1, 2])));
        check(&two, [9, 1, 1, 1, 1], Some((Register::Mrtd, &[1, 1])));
    }

    #[test]
    fn a_guest_for_developers_is_in_no_policy_that_a_manifest_makes() {
        let of = |profile| {
            let image = crate::GuestImage {
                digest: Digest32([3; 32]),
                lock: Digest32([4; 32]),
                profile,
                booted: registers([1, 2, 3, 4, 0]),
                agent: Digest48([5; 48]),
            };
            Manifest::vm(&image, Digest48([2; 48]), &[])
        };
        let cpu = of(Profile::Cpu);
        assert_eq!(Policy::from_manifest(&cpu).registers, [*cpu.registers()]);
        let manifest = of(Profile::Dev);
        assert!(manifest.note().starts_with("INSECURE"));
        assert_eq!(manifest.profile(), "dev");
        let policy = Policy::from_manifest(&manifest);
        assert!(policy.check_registers(manifest.registers()).is_err());
        assert_eq!(policy.registers, []);
    }

    #[test]
    fn an_empty_list_accepts_no_registers() {
        check(&[], [0; 5], Some((Register::Mrtd, &[])));
    }
}
