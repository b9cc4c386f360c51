//! Tokens of OpenSSL and of an authority of our own.

mod authority;
mod tokens;
