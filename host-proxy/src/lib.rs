//! The untrusted courier: relays, keeps vouchers, settles.
