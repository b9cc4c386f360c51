//! An embedded TON: in-process TVM, accounts on disk, toncenter-shaped API.
