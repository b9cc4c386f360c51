//! What a machine should measure to, and whether a peer does.
//!
//! **What it is.** The registers of a TDX guest ([`Registers`]), what they follow from ([`predict`], [`acpi`] for a
//! machine's tables, [`MachineSet`] for many machines), the papers that say what they should be ([`ImageManifest`] of
//! an image, [`Manifest`] of a guest), and the one function that turns evidence into a peer: [`verify`].
//!
//! **Trusts.** One [`Root`] certificate named by the caller, Intel's by default; `dcap-qvl` for the certificate
//! chains, the signatures and the TCB levels; the caller's clock. Quotes, collateral and manifests come from
//! strangers and are trusted in nothing until [`verify`] returns.
//!
//! **Promises.** A [`Verified<Peer>`](Verified) exists only if a quote was signed under the root, every attribute
//! of the guest is what the [`Policy`] allows, its registers are exactly ones the policy lists, and it bound the
//! caller's [`ReportData`]. The same bytes and the same time give the same answer. No input makes it panic, and
//! no length is believed before it is bounded.
//!
//! **Lacks.** Files, sockets, a clock, a random source: time and collateral are arguments (the command line
//! program beside this library does the I/O). It fetches no collateral, knows no receipts, and cannot tell whether an
//! attestation key was extracted from its platform. A peer is judged by its quote, a GPU by its own evidence ([`gpu`]); what
//! binds one to the other is not judged here.

pub mod acpi;
pub mod bundle;
mod collateral;
pub mod der;
mod digest32;
mod event_log;
pub mod explain;
pub mod gpu;
mod image;
pub mod limits;
mod machine_set;
mod manifest;
mod platform;
mod policy;
pub mod predict;
mod qemu;
mod quote;
mod refusal;
mod registers;
mod report_data;
mod root;
pub mod smbios;
mod verify;
mod verity;

pub use collateral::{
    ClaimError, Collateral, CollateralClaims, CollateralDates, CollateralError, CollateralPart,
};
pub use digest32::Digest32;
pub use event_log::{Claim, Event, EventLog, EventLogError, EventType, Kind, Replay, Source};
pub use image::{
    BootRegisters, Content, ContentKind, ImageError, ImageFile, ImageFiles, ImageManifest,
    ImagePart, ImageParts, Package, Profile, RoadRegisters, Role, UkiRegisters, VerityRoot,
};
pub use machine_set::{
    Devices, DevicesError, Gpus, Machine, MachineSet, MachineSetError, Membership, SetFirmware,
};
pub use manifest::{Manifest, ManifestError, Mode};
pub use platform::{PckCa, Platform, PlatformError};
pub use policy::{Advisories, Policy, PolicyError, TcbStatus};
pub use qemu::{Accelerator, Backends, Boot, MachineSize, Vsock, guest_shape, qemu_arguments};
pub use quote::{Extended, Quote, QuoteError, ReportType, TdReport};
pub use refusal::{Refusal, Register};
pub use registers::{Digest48, DigestError, Registers, RuntimeEvent, replay};
pub use report_data::{GpuBinding, ReportData};
pub use root::{Root, RootClass, RootError};
pub use verify::{Comparison, Inspected, Peer, Verified, inspect, verify};
pub use verity::{VERITY_BLOCK_BYTES, VerityHash};
