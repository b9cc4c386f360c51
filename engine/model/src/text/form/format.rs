//! Formats of strings, as regular expressions. Each matches no text that is not of its format.

/// RFC 3339, section 5.6: `full-date`, with the lengths of the months and leap years.
macro_rules! date {
    () => {
        concat!(
            "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])",
            "|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))",
            "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29"
        )
    };
}
/// `full-time`, without leap seconds.
macro_rules! time {
    () => {
        "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
    };
}
macro_rules! byte {
    () => {
        "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}

/// The expression of a format; `None` if it is not known here.
pub(super) fn pattern(name: &str) -> Option<&'static str> {
    Some(match name {
        "date" => concat!("^(", date!(), ")$"),
        "time" => concat!("^", time!(), "$"),
        "date-time" => concat!("^(", date!(), ")T", time!(), "$"),
        "uuid" => "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        "ipv4" => concat!("^(", byte!(), r"\.){3}", byte!(), "$"),
        "email" => r"^[0-9A-Za-z_+-]+(\.[0-9A-Za-z_+-]+)*@([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,6}$",
        _ => return None,
    })
}
