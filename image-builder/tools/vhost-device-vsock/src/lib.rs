//! Empty: the manifest beside it says what this package is for.
