//! The program inside the confidential VM.
