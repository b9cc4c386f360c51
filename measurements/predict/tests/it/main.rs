//! Predictions against real boots, other implementations and hostile files.

mod acpi;
mod boots;
mod common;
mod hostile;
mod kernel_header;
mod layout;
mod oracles;
mod production;
mod releases;
mod rtmr0;
mod smbios;
mod uki;
mod volumes;
