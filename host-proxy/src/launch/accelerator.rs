//! What runs the guest's instructions: TDX, KVM or TCG.
//!
//! An image that needs TDX gets TDX or nothing (SECURITY.md 5). A simulated one gets KVM where KVM is seen to boot it, else
//! TCG: a `/dev/kvm` that opens may still be of no use, for instance inside another virtual machine.

use attest::Profile;
use predict::qemu::Accelerator;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AcceleratorChoice {
    /// TDX for an image that needs it; for a simulated one KVM if it works, else TCG.
    Auto,
    /// A trust domain.
    Tdx,
    /// The host's KVM, without TDX. For simulated images only.
    Kvm,
    /// QEMU's emulation. For simulated images only.
    Tcg,
}

/// A choice that an image does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AcceleratorError {
    #[error(
        "an image of profile {0:?} runs as a TDX trust domain or not at all; `host-proxy check` shows what this host lacks"
    )]
    NeedsTdx(Profile),
    #[error("an image of profile Sim has a simulated TDX module; it cannot run as a trust domain")]
    Simulated,
}

/// What to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) first: Accelerator,
    /// What to start over with if the first does not bring the guest to its first program.
    pub(super) fallback: Option<Accelerator>,
}

/// What a choice means for an image on this host.
pub(super) fn plan(
    choice: AcceleratorChoice,
    profile: Profile,
    tdx: impl FnOnce() -> bool,
    kvm: impl FnOnce() -> bool,
) -> Result<Plan, AcceleratorError> {
    let only = |first| Plan {
        first,
        fallback: None,
    };
    match (choice, profile) {
        (AcceleratorChoice::Tdx, Profile::Sim) => Err(AcceleratorError::Simulated),
        (AcceleratorChoice::Auto, Profile::Sim) if kvm() => Ok(Plan {
            first: Accelerator::Kvm,
            fallback: Some(Accelerator::Tcg),
        }),
        (AcceleratorChoice::Auto | AcceleratorChoice::Tcg, Profile::Sim) => {
            Ok(only(Accelerator::Tcg))
        }
        (AcceleratorChoice::Kvm, Profile::Sim) => Ok(only(Accelerator::Kvm)),
        (AcceleratorChoice::Tdx, _) => Ok(only(Accelerator::Tdx)),
        (AcceleratorChoice::Auto, _) if tdx() => Ok(only(Accelerator::Tdx)),
        (_, profile) => Err(AcceleratorError::NeedsTdx(profile)),
    }
}

/// As in `launched.json` and in what `launch` prints.
pub(crate) fn name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Tcg => "tcg",
        Accelerator::Kvm => "kvm",
        Accelerator::Tdx => "tdx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_falls_back_to_less_than_its_profile() {
        let check = |choice, profile, tdx: bool, kvm: bool, expected| {
            let planned = plan(choice, profile, || tdx, || kvm);
            assert_eq!(
                planned, expected,
                "{choice:?} {profile:?} tdx {tdx} kvm {kvm}"
            );
        };
        use Accelerator::{Kvm, Tcg, Tdx};
        let then = |first, fallback| Ok(Plan { first, fallback });
        for tdx in [false, true] {
            check(
                AcceleratorChoice::Auto,
                Profile::Sim,
                tdx,
                true,
                then(Kvm, Some(Tcg)),
            );
            check(
                AcceleratorChoice::Auto,
                Profile::Sim,
                tdx,
                false,
                then(Tcg, None),
            );
            check(
                AcceleratorChoice::Tdx,
                Profile::Sim,
                tdx,
                true,
                Err(AcceleratorError::Simulated),
            );
        }
        check(
            AcceleratorChoice::Tcg,
            Profile::Sim,
            false,
            true,
            then(Tcg, None),
        );
        check(
            AcceleratorChoice::Kvm,
            Profile::Sim,
            false,
            false,
            then(Kvm, None),
        );
        for profile in [Profile::Cpu, Profile::H100, Profile::Dev] {
            let refused = Err(AcceleratorError::NeedsTdx(profile));
            check(AcceleratorChoice::Auto, profile, false, true, refused);
            check(AcceleratorChoice::Kvm, profile, true, true, refused);
            check(AcceleratorChoice::Tcg, profile, true, true, refused);
            check(
                AcceleratorChoice::Auto,
                profile,
                true,
                true,
                then(Tdx, None),
            );
            check(
                AcceleratorChoice::Tdx,
                profile,
                false,
                false,
                then(Tdx, None),
            );
        }
    }
}
