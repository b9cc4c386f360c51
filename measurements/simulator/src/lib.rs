//! A simulated TDX module that signs with a test root of trust.
