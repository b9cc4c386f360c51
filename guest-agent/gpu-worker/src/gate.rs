//! The gate's side of the words in `wire::gate`.

use crate::nvml::{Nvml, State};
use std::io::{self, Read, Write};
use std::path::Path;
use wire::limits::GATE_BYTES_MAX;
use wire::{GateAnswer, GateRefusal, GateRequest, GpuReport};

/// Answers an agent: evidence first, then, if it says so, work. A refusal is the last answer. An error is the agent's.
pub fn serve(mut agent: impl Read + Write, library: &Path) -> io::Result<()> {
    let answered = answer(&mut agent, library)?;
    let last = answered.map_or_else(GateAnswer::Refused, |()| GateAnswer::Ready);
    match agent.write_all(&last.encode()) {
        // The agent wanted evidence and no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Everything but the last answer. The outer error is the agent's, the inner one the machine's.
fn answer(agent: &mut (impl Read + Write), library: &Path) -> io::Result<Result<(), GateRefusal>> {
    let Some(GateRequest::Report(nonce)) = read(agent)? else {
        return Ok(Err(GateRefusal::Request));
    };
    let (nvml, report) = match evidence(library, &nonce) {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    agent.write_all(&GateAnswer::Report(report).encode())?;
    Ok(match read(agent)? {
        Some(GateRequest::SetReady) => nvml.set_ready(),
        Some(GateRequest::Report(_)) | None => Err(GateRefusal::Request),
    })
}

/// The evidence of the one GPU there is, if it may be shown.
fn evidence(library: &Path, nonce: &[u8; 32]) -> Result<(Nvml, GpuReport), GateRefusal> {
    let nvml = Nvml::load(library)?;
    match nvml.count()? {
        1 => {}
        other => return Err(GateRefusal::Count(other)),
    }
    match nvml.state()? {
        State { feature, .. } if feature != FEATURE_ON => Err(GateRefusal::ConfidentialOff),
        State { tools, .. } if tools != TOOLS_OFF => Err(GateRefusal::DeveloperTools),
        State { environment, .. } if environment != PRODUCTION => {
            Err(GateRefusal::Environment(environment))
        }
        _ => Ok(()),
    }?;
    let device = nvml.device()?;
    let unread =
        |error: &dyn std::fmt::Display| GateRefusal::Evidence(GateRefusal::cut(&error.to_string()));
    let pem = nvml.certificates(device)?;
    let certificates = pki::pem::certificates(&pem, gpu::limits::GPU_CHAIN_CERTIFICATES_MAX)
        .ok_or_else(|| unread(&"the certificates are not in PEM"))?;
    let report = nvml.report(device, nonce)?;
    let read = gpu::GpuEvidence::from_der(&report, &certificates).map_err(|e| unread(&e))?;
    let fields = read.fields();
    for (says, reported) in [
        (nvml.driver_version()?, &fields.driver_version),
        (nvml.vbios_version(device)?, &fields.vbios_version),
    ] {
        if !says.eq_ignore_ascii_case(reported) {
            let reported = GateRefusal::cut(reported);
            return Err(GateRefusal::Version { says, reported });
        }
    }
    Ok((nvml, GpuReport::new(report, certificates)))
}

/// One request; `None` is the end or something else.
fn read(agent: &mut impl Read) -> io::Result<Option<GateRequest>> {
    let mut length = [0; 4];
    match agent.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > GATE_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    agent.read_exact(&mut bytes)?;
    Ok(GateRequest::decode(&bytes).ok())
}

// nvml.h of driver 550: NVML_CC_SYSTEM_FEATURE_ENABLED, _DEVTOOLS_MODE_OFF, _ENVIRONMENT_PROD.
const FEATURE_ON: u32 = 1;
const TOOLS_OFF: u32 = 0;
const PRODUCTION: u32 = 2;
