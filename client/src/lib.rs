//! The sidecar and SDK of the developer.
