//! Sizes as people write them.

/// Bytes of `4096M`, `2g`, `1T` or `0x1000`; a number alone counts `unit` bytes. QEMU's `util/cutils.c`, without fractions.
pub fn bytes(text: &str, unit: u64) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        return u64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| plain)?
            .checked_mul(unit);
    }
    let (digits, unit) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], MIB),
        b'G' => (&text[..text.len() - 1], GIB),
        b'T' => (&text[..text.len() - 1], 1 << 40),
        _ => (text, unit),
    };
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| plain)?
        .checked_mul(unit)
}

/// The same in whole units.
pub fn whole(text: &str, unit: u64, counted: u64) -> Option<u64> {
    let bytes = bytes(text, unit)?;
    bytes.is_multiple_of(counted).then_some(bytes / counted)
}

/// As few digits as it takes.
pub fn of_mib(mib: u64) -> String {
    match mib {
        1.. if mib.is_multiple_of(1024) => format!("{}G", mib / 1024),
        _ => format!("{mib}M"),
    }
}

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them_and_no_other_way() {
        for (text, expected) in [
            ("2048M", Some(2048 * MIB)),
            ("2g", Some(2 * GIB)),
            ("512", Some(512 * MIB)),
            ("0x10", Some(16 * MIB)),
            ("1T", Some(1024 * GIB)),
            ("4K", Some(4096)),
            ("", None),
            ("M", None),
            ("+1M", None),
            ("-1M", None),
            ("1.5G", None),
            ("2GiB", None),
            ("0x", None),
            ("0x+1", None),
            ("99999999999999999999G", None),
            ("18446744073709551615T", None),
        ] {
            assert_eq!(bytes(text, MIB), expected, "{text}");
        }
        assert_eq!(whole("1025K", 1, MIB), None);
        assert_eq!((of_mib(3072), of_mib(2100)), ("3G".into(), "2100M".into()));
    }
}
