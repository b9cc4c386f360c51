//! What a machine should measure to, and whether a peer does.
