//! Scenarios and the tests that hold the repository together.
