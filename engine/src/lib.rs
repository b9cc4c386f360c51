//! Tokens in, tokens out: Burn models.
