//! What a test may want to be wrong with a guest or a platform, with every signature still valid.

use registers::Digest48;
use std::ops::Range;

/// What is wrong. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Flaws {
    /// Attribute bits to set.
    pub td_attributes_set: u64,
    /// Attribute bits to clear.
    pub td_attributes_clear: u64,
    /// Another XFAM.
    pub xfam: Option<u64>,
    /// An MRCONFIGID other than zero.
    pub mr_config_id: Option<Digest48>,
    /// An MROWNER other than zero.
    pub mr_owner: Option<Digest48>,
    /// An MROWNERCONFIG other than zero.
    pub mr_owner_config: Option<Digest48>,
    /// Service TDs; such a guest always has a version 5 quote, as on hardware.
    pub mr_service_td: Option<Digest48>,
    /// A TDX module of another signer, which the collateral lists.
    pub seam_signer: Option<Digest48>,
    /// A TDX module of another signer than the collateral lists.
    pub seam_signer_unlisted: Option<Digest48>,
    /// TDX module attributes, which the collateral lists.
    pub seam_attributes: u64,
    /// Quotes of version 5 with a TD report 1.5. Not a flaw, another platform.
    pub quote_version_5: bool,
    /// Quotes with the extended TD report of TDX 1.5. Not a flaw either.
    pub quote_extended: bool,
    /// Service TDs bound after the guest was made; such a guest always has an extended report.
    pub current_service_td: Option<Digest48>,
    /// The guest is inside a partitioned one; it always has an extended report.
    pub vm_id: u8,
    /// The state of the platform.
    pub platform: Platform,
    /// The quoting enclave is older than the collateral's newest, since an earlier day than an out-of-date platform.
    pub quoting_enclave_out_of_date: bool,
    /// When the platform's certificate is valid, in seconds since 1970, if not as long as its issuer.
    pub platform_certificate_valid: Option<Range<u64>>,
    /// The same of the certificate whose key signs TCB info and QE identity.
    pub tcb_signer_valid: Option<Range<u64>>,
    /// The platform's certificate is on the revocation list.
    pub platform_certificate_revoked: bool,
    /// The platform's certificate was issued under another root with the same names.
    pub platform_under_another_root: bool,
    /// The quoting enclave has a signer that the collateral does not list.
    pub quoting_enclave_unlisted: bool,
    /// The collateral is for another family of platforms.
    pub collateral_for_another_platform: bool,
    /// TCB info and QE identity were signed by a key that the root did not certify.
    pub collateral_signed_by_other_key: bool,
    /// The evaluation number of the collateral.
    pub tcb_evaluation_number: Option<u32>,
}

/// How the collateral judges the simulated platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// All fixes are in.
    #[default]
    UpToDate,
    /// Software must mitigate something.
    SwHardeningNeeded,
    /// Firmware settings are wrong.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSwHardeningNeeded,
    /// Fixes are missing.
    OutOfDate,
    /// Fixes are missing and firmware settings are wrong.
    OutOfDateConfigurationNeeded,
    /// The TDX module was updated since the guest was started; quotes are of version 5.
    TdRelaunchAdvised,
    /// The module was so old that its state is out of date; the processor is not.
    ModuleOutOfDate,
    /// Its keys leaked.
    Revoked,
    /// Older than every level in the collateral.
    BelowEveryLevel,
}
