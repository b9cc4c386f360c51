//! Where a TON node is.

/// `https://host` or `http://host:port`, and an optional path in front of the API's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    /// Whether it is asked over TLS, whose certificate the system's store must know.
    pub tls: bool,
    /// `host:port`.
    pub authority: String,
    /// Empty, or a path without a slash at its end.
    pub prefix: String,
}

impl NodeUrl {
    /// Takes `https://host[:port][/path]`, or `http://`.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const FORM: &str = "it must have the form https://host/path or http://host:port/path";
        let (tls, rest, port) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest, 443),
            (None, Some(rest)) => (false, rest, 80),
            (None, None) => return Err(FORM),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\');
        if authority.is_empty() || !rest.chars().all(plain) {
            return Err(FORM);
        }
        let authority = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:{port}"),
        };
        Ok(NodeUrl {
            tls,
            authority,
            prefix: path.trim_end_matches('/').to_owned(),
        })
    }

    /// Whether it is on this host, so that nobody is in between.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}
