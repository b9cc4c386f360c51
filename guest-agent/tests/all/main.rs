//! The agent from outside: as a program, and over an in-memory stream.

mod program;
mod serving;
