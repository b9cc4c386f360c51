//! The simulated module: registers, and quotes over them.

use registers::{Digest48, Registers};
use sha2::{Digest, Sha256};

use crate::{
    Flaws,
    asn1::SgxExtension,
    collateral::{self, FMSPC, PCE_SVN, cpu_svn},
    key::Key,
    pki::{Pki, Validity},
    quote::QuotingEnclave,
};

/// A TDX module, its quoting enclave and its certificate service, all made for one run.
pub struct SimulatedModule {
    registers: Registers,
    /// The registers came from the boot of a machine.
    booted: bool,
    flaws: Flaws,
    pki: Pki,
    quoting_enclave: QuotingEnclave,
    collateral_json: Vec<u8>,
}

/// A process's before it starts.
const ZERO: Registers = Registers {
    mrtd: Digest48::ZERO,
    rtmr: [Digest48::ZERO; 4],
};

/// Why the module refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SimulatorError {
    #[error(
        "register {index} cannot be extended: a guest's software extends RTMR2 and RTMR3, its firmware the others"
    )]
    RegisterIndex { index: u8 },
    #[error(
        "register 2 cannot be extended: in a launched machine it holds what the firmware measured"
    )]
    RegisterOfBoot,
    #[error("a launched machine's registers are those that its boot measured, and are not reset")]
    Launched,
    #[error("the simulated certificates could not be made: {0}")]
    Certificates(String),
}

impl From<rcgen::Error> for SimulatorError {
    fn from(error: rcgen::Error) -> SimulatorError {
        SimulatorError::Certificates(error.to_string())
    }
}

impl SimulatedModule {
    /// A good guest on an up-to-date platform, all registers zero. Certificates and collateral are valid from a day before
    /// `now_unix_s` until 30 days after. `random` fills buffers; all keys come from it.
    pub fn new(
        now_unix_s: u64,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Result<SimulatedModule, SimulatorError> {
        SimulatedModule::with_flaws(now_unix_s, random, Flaws::default())
    }

    /// The same with flaws, for tests of what a verifier refuses.
    pub fn with_flaws(
        now_unix_s: u64,
        random: &mut impl FnMut(&mut [u8]),
        flaws: Flaws,
    ) -> Result<SimulatedModule, SimulatorError> {
        let validity = Validity {
            issued_unix_s: now_unix_s.saturating_sub(DAY_S),
            expires_unix_s: now_unix_s.saturating_add(30 * DAY_S).min(YEAR_9999_UNIX_S),
        };
        let mut ppid = [0; 16];
        random(&mut ppid);
        let sgx = SgxExtension {
            ppid,
            cpu_svn: cpu_svn(flaws.platform),
            pce_svn: PCE_SVN,
            fmspc: FMSPC,
        };
        let pki = Pki::generate(validity, &sgx, &flaws, random)?;
        let qe_signer: [u8; 32] = Sha256::digest(QE_SIGNER_NAME).into();
        let quoting_enclave =
            QuotingEnclave::certify(&pki.platform_key, &qe_signer, &flaws, random);
        let collateral_json =
            collateral::json(&pki, &qe_signer, validity, &flaws, &Key::generate(random));
        Ok(SimulatedModule {
            registers: ZERO,
            booted: false,
            flaws,
            pki,
            quoting_enclave,
            collateral_json,
        })
    }

    /// Sets the registers that the boot of a machine left. From then on only RTMR3 can be extended: no software of this
    /// project extends RTMR2, which so remains evidence of the boot.
    pub fn boot(&mut self, registers: Registers) {
        self.registers = registers;
        self.booted = true;
    }

    /// Sets the registers of a process to zero, as they were before it started. A machine's are those of its boot.
    pub fn reset(&mut self) -> Result<(), SimulatorError> {
        if self.booted {
            return Err(SimulatorError::Launched);
        }
        self.registers = ZERO;
        Ok(())
    }

    /// Extends RTMR2 or RTMR3, the two that a guest's own software may; after [`SimulatedModule::boot`] RTMR3 only.
    pub fn extend(&mut self, index: u8, digest: &Digest48) -> Result<(), SimulatorError> {
        match index {
            2 if self.booted => Err(SimulatorError::RegisterOfBoot),
            2 | 3 => {
                let register = &mut self.registers.rtmr[usize::from(index)];
                *register = register.extended_by(digest);
                Ok(())
            }
            _ => Err(SimulatorError::RegisterIndex { index }),
        }
    }

    /// The registers now.
    pub fn registers(&self) -> Registers {
        self.registers
    }

    /// A quote over the registers now and these 64 bytes.
    pub fn quote(&self, report_data: &[u8; 64]) -> Vec<u8> {
        self.quoting_enclave
            .quote(&self.registers, report_data, &self.pki, &self.flaws)
    }

    /// The root of this run, to be named as an insecure test root.
    pub fn root_der(&self) -> &[u8] {
        &self.pki.root_der
    }

    /// The collateral of this run.
    pub fn collateral_json(&self) -> &[u8] {
        &self.collateral_json
    }
}

const DAY_S: u64 = 86_400;
/// X.509 times end with the year 9999.
pub(crate) const YEAR_9999_UNIX_S: u64 = 253_402_300_799;
const QE_SIGNER_NAME: &[u8] = b"Chrysalis simulated signer of quoting enclaves (not Intel)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_extends_only_its_own_registers() {
        let mut seed = 0u8;
        let mut module = SimulatedModule::new(1_790_000_000, &mut |buffer| {
            buffer.fill_with(|| {
                seed = seed.wrapping_mul(5).wrapping_add(3);
                seed
            });
        })
        .unwrap();
        for index in [0, 1, 4, 255] {
            assert_eq!(
                module.extend(index, &Digest48::ZERO),
                Err(SimulatorError::RegisterIndex { index })
            );
        }
        let event = Digest48::of(b"agent");
        module.extend(3, &event).unwrap();
        assert_eq!(
            module.registers().rtmr[3],
            Digest48::ZERO.extended_by(&event)
        );
        assert_eq!(module.registers().rtmr[2], Digest48::ZERO);
    }

    #[test]
    fn after_a_boot_only_rtmr3_goes_on() {
        let mut module = SimulatedModule::new(1_790_000_000, &mut |buffer| buffer.fill(3)).unwrap();
        let registers = Registers {
            mrtd: Digest48::of(b"mrtd"),
            rtmr: [
                Digest48::of(b"0"),
                Digest48::of(b"1"),
                Digest48::of(b"2"),
                Digest48::ZERO,
            ],
        };
        module.boot(registers);
        for (index, expected) in [
            (0, SimulatorError::RegisterIndex { index: 0 }),
            (1, SimulatorError::RegisterIndex { index: 1 }),
            (2, SimulatorError::RegisterOfBoot),
            (4, SimulatorError::RegisterIndex { index: 4 }),
        ] {
            assert_eq!(module.extend(index, &Digest48::ZERO), Err(expected));
        }
        assert_eq!(module.reset(), Err(SimulatorError::Launched));
        assert_eq!(module.registers(), registers);
        let event = Digest48::of(b"agent");
        module.extend(3, &event).unwrap();
        let rtmr3 = Digest48::ZERO.extended_by(&event);
        assert_eq!(
            module.registers().rtmr,
            [
                registers.rtmr[0],
                registers.rtmr[1],
                registers.rtmr[2],
                rtmr3
            ]
        );
    }
}
