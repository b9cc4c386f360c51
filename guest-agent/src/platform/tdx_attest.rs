//! Intel's library `libtdx_attest.so.1`, by the declarations of its `tdx_attest.h`: quotes, extensions and reports by whichever
//! interface of the kernel the library finds. With the feature `tdx-attest` alone.
//!
//! For whoever builds a dynamic agent: the shipped one is a static program, in which no library can be opened. The library runs in
//! the process that holds the keys, so it has to be as trusted, and as measured, as the agent itself. What it reads of its own
//! accord, `/etc/tdx-attest.conf` and `DCAP_TDX_QUOTE_CONFIGFS_PATH`, chooses who makes a quote; clients believe a quote by its signature.
//!
//! Not yet run on TDX hardware: the tests compile a library with the same functions.

#![expect(unsafe_code, reason = "functions of a library that is loaded")]

use super::{Platform, PlatformError};
use libloading::Library;
use registers::{Digest48, Registers, ReportData};
use std::fmt;
use std::path::Path;
use std::ptr::{null, null_mut};
use wire::limits::QUOTE_BYTES_MAX;

/// The library, loaded.
pub struct TdxAttest {
    quote: GetQuote,
    free: FreeQuote,
    report: GetReport,
    extend: Extend,
    _library: Library,
}

// The types of tdx_attest.h, whose structures are packed arrays of bytes; its enumeration is an unsigned int.
type GetQuote = unsafe extern "C" fn(
    *const [u8; 64],
    *const [u8; 16],
    u32,
    *mut [u8; 16],
    *mut *mut u8,
    *mut u32,
    u32,
) -> u32;
type FreeQuote = unsafe extern "C" fn(*mut u8) -> u32;
type GetReport = unsafe extern "C" fn(*const [u8; 64], *mut [u8; REPORT_BYTES]) -> u32;
type Extend = unsafe extern "C" fn(*const RtmrEvent) -> u32;

/// `tdx_rtmr_event_t` without event data, which the library does not support.
#[repr(C, packed)]
struct RtmrEvent {
    version: u32,
    rtmr_index: u64,
    extend_data: [u8; 48],
    event_type: u32,
    event_data_size: u32,
}

/// The code that the library answers in place of success; its text is the name that the header gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TdxAttestError(pub u32);

/// `TDX_ATTEST_ERROR_` and so on, from code 1 on.
const NAMES: &str = "UNEXPECTED INVALID_PARAMETER OUT_OF_MEMORY VSOCK_FAILURE REPORT_FAILURE EXTEND_FAILURE NOT_SUPPORTED \
                     QUOTE_FAILURE BUSY DEVICE_FAILURE INVALID_RTMR_INDEX UNSUPPORTED_ATT_KEY_ID";

impl fmt::Display for TdxAttestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.split(' ').zip(1..).find(|(_, code)| *code == self.0) {
            Some((name, _)) => write!(f, "TDX_ATTEST_ERROR_{name}"),
            None => write!(
                f,
                "the code {:#x}, which tdx_attest.h does not name",
                self.0
            ),
        }
    }
}

impl TdxAttest {
    /// Loads the library of this absolute path. A bare name would be looked for where environment variables say.
    pub fn load(path: &Path) -> Result<Self, PlatformError> {
        let refused = |why: String| PlatformError::Refused {
            doing: "loading Intel's attestation library",
            why: format!("{}: {why}", path.display()),
        };
        if !path.is_absolute() {
            return Err(refused("not an absolute path".to_owned()));
        }
        let unusable = |error: libloading::Error| refused(error.to_string());
        // SAFETY: the operator of the image chose this file, and it is measured with the image; its initialisers run as any of the
        // agent's own libraries' would. The functions have the types of tdx_attest.h, and the library is kept as long as they are.
        unsafe {
            let library = Library::new(path).map_err(unusable)?;
            Ok(TdxAttest {
                quote: *library.get("tdx_att_get_quote").map_err(unusable)?,
                free: *library.get("tdx_att_free_quote").map_err(unusable)?,
                report: *library.get("tdx_att_get_report").map_err(unusable)?,
                extend: *library.get("tdx_att_extend").map_err(unusable)?,
                _library: library,
            })
        }
    }
}

impl Platform for TdxAttest {
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError> {
        let event = RtmrEvent {
            version: 1,
            rtmr_index: 3,
            extend_data: digest.0,
            event_type: 0,
            event_data_size: 0,
        };
        // SAFETY: the function reads the 68 bytes of the event, which outlives the call, and no event data.
        done("tdx_att_extend", unsafe { (self.extend)(&event) })
    }

    fn registers(&mut self) -> Result<Registers, PlatformError> {
        let call = "tdx_att_get_report";
        let mut report = [0; REPORT_BYTES];
        // SAFETY: the function reads 64 bytes and writes 1024, and both outlive the call.
        done(call, unsafe { (self.report)(&[0; 64], &mut report) })?;
        // TDX Module ABI, REPORTTYPE: 0x81 is a trust domain. So a report that was not written is none with registers of zeros.
        if report[0] != 0x81 {
            return Err(PlatformError::Refused {
                doing: call,
                why: format!("a report of type {:#04x}, not of a trust domain", report[0]),
            });
        }
        let register = |at: usize| {
            let bytes = report[at..].first_chunk();
            Digest48(*bytes.expect("the last one ends 112 bytes before the report does"))
        };
        // TDX Module ABI, TDREPORT_STRUCT: TDINFO_STRUCT begins at 512; in it MRTD at 16 and RTMR0 at 208.
        Ok(Registers {
            mrtd: register(528),
            rtmr: [720, 768, 816, 864].map(register),
        })
    }

    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        let call = "tdx_att_get_quote";
        let (mut start, mut bytes) = (null_mut::<u8>(), 0);
        let (data, got) = (&report_data.0, &mut bytes);
        // SAFETY: the function reads 64 bytes and writes one pointer and one length, which outlive the call; the list of keys and the
        // place for the chosen one may be null.
        let code = unsafe { (self.quote)(data, null(), 0, null_mut(), &mut start, got, 0) };
        done(call, code)?;
        let refused = |got| Err(PlatformError::Answer { doing: call, got });
        if start.is_null() {
            return refused(0);
        }
        let got = bytes as usize;
        let quote = match got {
            // SAFETY: the library allocated as many bytes as it says. They are ours to read until it frees them below.
            1..=QUOTE_BYTES_MAX => Ok(unsafe { std::slice::from_raw_parts(start, got) }.to_vec()),
            _ => refused(got),
        };
        // SAFETY: the pointer is this library's, was not freed before and is not used again.
        done("tdx_att_free_quote", unsafe { (self.free)(start) })?;
        quote
    }
}

fn done(call: &'static str, code: u32) -> Result<(), PlatformError> {
    match code {
        0 => Ok(()),
        code => Err(PlatformError::TdxAttest(call, TdxAttestError(code))),
    }
}

/// `TDX_REPORT_SIZE`.
const REPORT_BYTES: usize = 1024;
