//! Nine functions of NVIDIA's management library, by the layouts of `nvml.h` of driver 550.

#![expect(unsafe_code, reason = "functions of a library that is loaded")]

use libloading::Library;
use std::error::Error;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::Path;
use wire::GateRefusal;

/// What the loader finds it by.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// The library, loaded and initialised.
pub struct Nvml {
    count: unsafe extern "C" fn(*mut c_uint) -> c_int,
    by_index: unsafe extern "C" fn(c_uint, *mut Device) -> c_int,
    driver_version: unsafe extern "C" fn(*mut c_char, c_uint) -> c_int,
    vbios_version: unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int,
    state: unsafe extern "C" fn(*mut State) -> c_int,
    certificate: unsafe extern "C" fn(Device, *mut Certificates) -> c_int,
    report: unsafe extern "C" fn(Device, *mut Report) -> c_int,
    set_ready: unsafe extern "C" fn(c_uint) -> c_int,
    _library: Library,
}

/// `nvmlDevice_t`: a handle that only the library looks into.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Device(*mut c_void);

/// `nvmlConfComputeSystemState_t`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct State {
    pub(crate) environment: c_uint,
    pub(crate) feature: c_uint,
    pub(crate) tools: c_uint,
}

/// `nvmlConfComputeGpuCertificate_t`.
#[repr(C)]
struct Certificates {
    chain_bytes: c_uint,
    attestation_bytes: c_uint,
    chain: [u8; 0x1000],
    attestation: [u8; 0x1400],
}

/// `nvmlConfComputeGpuAttestationReport_t`.
#[repr(C)]
struct Report {
    has_cec: c_uint,
    bytes: c_uint,
    cec_bytes: c_uint,
    nonce: [u8; 32],
    report: [u8; 0x2000],
    cec: [u8; 0x1000],
}

impl Nvml {
    /// Loads and initialises the library.
    pub fn load(path: &Path) -> Result<Self, GateRefusal> {
        // SAFETY: the library is the image's own, under its measured root; what its initialisers do is the driver's matter, in a
        // process that holds no secret. The functions have the types of nvml.h, and the library is kept as long as they are.
        unsafe {
            let library = Library::new(path).map_err(|error| unusable("opening it", &error))?;
            let initialise: unsafe extern "C" fn() -> c_int = find(&library, "nvmlInit_v2")?;
            let nvml = Nvml {
                count: find(&library, "nvmlDeviceGetCount_v2")?,
                by_index: find(&library, "nvmlDeviceGetHandleByIndex_v2")?,
                driver_version: find(&library, "nvmlSystemGetDriverVersion")?,
                vbios_version: find(&library, "nvmlDeviceGetVbiosVersion")?,
                state: find(&library, "nvmlSystemGetConfComputeState")?,
                certificate: find(&library, "nvmlDeviceGetConfComputeGpuCertificate")?,
                report: find(&library, "nvmlDeviceGetConfComputeGpuAttestationReport")?,
                set_ready: find(&library, "nvmlSystemSetConfComputeGpusReadyState")?,
                _library: library,
            };
            done("nvmlInit_v2", initialise())?;
            Ok(nvml)
        }
    }

    /// How many GPUs the driver sees.
    pub(crate) fn count(&self) -> Result<u32, GateRefusal> {
        let mut count = 0;
        // SAFETY: the function writes one unsigned int, which outlives the call.
        done("nvmlDeviceGetCount_v2", unsafe { (self.count)(&mut count) })?;
        Ok(count)
    }

    /// The first GPU.
    pub(crate) fn device(&self) -> Result<Device, GateRefusal> {
        let mut device = Device(std::ptr::null_mut());
        // SAFETY: the function writes one handle, which outlives the call.
        let code = unsafe { (self.by_index)(0, &mut device) };
        done("nvmlDeviceGetHandleByIndex_v2", code).map(|()| device)
    }

    /// Environment, confidential computing, developer tools.
    pub(crate) fn state(&self) -> Result<State, GateRefusal> {
        let mut state = State::default();
        // SAFETY: the function writes the three fields of the structure.
        let code = unsafe { (self.state)(&mut state) };
        done("nvmlSystemGetConfComputeState", code).map(|()| state)
    }

    /// The driver's version, as the driver says it.
    pub(crate) fn driver_version(&self) -> Result<String, GateRefusal> {
        let mut text = [0; 80];
        // SAFETY: the function writes at most as many bytes as it is told there are.
        let code = unsafe { (self.driver_version)(text.as_mut_ptr().cast(), 80) };
        done("nvmlSystemGetDriverVersion", code).map(|()| words(&text))
    }

    /// The VBIOS's version, as the driver says it.
    pub(crate) fn vbios_version(&self, device: Device) -> Result<String, GateRefusal> {
        let mut text = [0; 32];
        // SAFETY: as above; the handle is the library's own.
        let code = unsafe { (self.vbios_version)(device, text.as_mut_ptr().cast(), 32) };
        done("nvmlDeviceGetVbiosVersion", code).map(|()| words(&text))
    }

    /// The certificates of the key that signs reports, in PEM.
    pub(crate) fn certificates(&self, device: Device) -> Result<Vec<u8>, GateRefusal> {
        let mut all = Certificates {
            chain_bytes: 0,
            attestation_bytes: 0,
            chain: [0; 0x1000],
            attestation: [0; 0x1400],
        };
        // SAFETY: the structure has the layout of nvml.h, and the handle is the library's own.
        let code = unsafe { (self.certificate)(device, &mut all) };
        done("nvmlDeviceGetConfComputeGpuCertificate", code)?;
        first(&all.attestation, all.attestation_bytes, "certificates")
    }

    /// The report for this nonce.
    pub(crate) fn report(&self, device: Device, nonce: &[u8; 32]) -> Result<Vec<u8>, GateRefusal> {
        let mut all = Report {
            has_cec: 0,
            bytes: 0,
            cec_bytes: 0,
            nonce: *nonce,
            report: [0; 0x2000],
            cec: [0; 0x1000],
        };
        // SAFETY: the structure has the layout of nvml.h, and the handle is the library's own.
        let code = unsafe { (self.report)(device, &mut all) };
        done("nvmlDeviceGetConfComputeGpuAttestationReport", code)?;
        first(&all.report, all.bytes, "the report")
    }

    /// Lets the GPU take work.
    pub(crate) fn set_ready(&self) -> Result<(), GateRefusal> {
        // SAFETY: the function takes one number: NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE.
        let code = unsafe { (self.set_ready)(1) };
        done("nvmlSystemSetConfComputeGpusReadyState", code)
    }
}

/// A function of the library.
///
/// # Safety
/// `F` is the type that the library's header gives it.
unsafe fn find<F: Copy>(library: &Library, name: &str) -> Result<F, GateRefusal> {
    // SAFETY: the caller's.
    let found = unsafe { library.get::<F>(name) };
    Ok(*found.map_err(|error| unusable(name, &error))?)
}

fn unusable(doing: &str, error: &dyn Error) -> GateRefusal {
    let why = error
        .source()
        .map_or(error.to_string(), |why| why.to_string());
    GateRefusal::Library(GateRefusal::cut(&format!("{doing}: {why}")))
}

fn done(call: &str, code: c_int) -> Result<(), GateRefusal> {
    match code {
        0 => Ok(()),
        code => Err(GateRefusal::Call {
            call: call.to_owned(),
            code: code.cast_unsigned(),
        }),
    }
}

/// As many bytes as the library says it wrote, if there was room for them.
fn first(bytes: &[u8], length: c_uint, what: &str) -> Result<Vec<u8>, GateRefusal> {
    let written = bytes.get(..length as usize);
    let too_long = || GateRefusal::Evidence(format!("{what}: a length of {length} bytes"));
    Ok(written.ok_or_else(too_long)?.to_vec())
}

/// Text up to its zero, without what a message may not hold.
fn words(text: &[u8]) -> String {
    let text: Vec<u8> = { text.iter().copied() }
        .take_while(|byte| byte.is_ascii_graphic())
        .collect();
    GateRefusal::cut(&String::from_utf8_lossy(&text))
}
