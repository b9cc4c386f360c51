//! The program itself: `serve`, `settle`, `collateral`, `launch` and `check`, run as an operator runs them.

mod collateral;
mod guest;
mod launch;
mod process;
mod serving;
