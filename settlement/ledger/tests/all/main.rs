//! Everything that is tested from outside, in one binary.

mod attacks;
mod channel;
mod conditions;
mod durable;
mod http;
mod network;
mod reference;
mod registry;
mod settle;
mod stake;
