//! Amounts, vouchers, charges, channels.
