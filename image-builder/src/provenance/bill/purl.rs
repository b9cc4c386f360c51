//! Package URLs (package-url/purl-spec): one name for a package in every database.

/// A Debian package: `pkg:deb/debian/g%2B%2B@12.2?arch=amd64&distro=trixie`.
pub fn debian(name: &str, version: &str, architecture: &str, distro: &str) -> String {
    let (name, version) = (escaped(name), escaped(version));
    let (architecture, distro) = (escaped(architecture), escaped(distro));
    format!("pkg:deb/debian/{name}@{version}?arch={architecture}&distro={distro}")
}

/// A crate of the crate registry.
pub fn cargo(name: &str, version: &str) -> String {
    format!("pkg:cargo/{}@{}", escaped(name), escaped(version))
}

/// A project of PyPI. Its names are lower-case there, with `-` for `_` and `.`.
pub fn pypi(name: &str, version: &str) -> String {
    let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
    format!("pkg:pypi/{}@{}", escaped(&name), escaped(version))
}

/// Everything but unreserved characters (RFC 3986, section 2.3) as `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() => out.push(char::from(b)),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_are_those_of_the_specification() {
        assert_eq!(
            debian("g++", "4:14.2.0-1~b+1", "amd64", "trixie"),
            "pkg:deb/debian/g%2B%2B@4%3A14.2.0-1~b%2B1?arch=amd64&distro=trixie"
        );
        assert_eq!(cargo("serde", "1.0.0+a"), "pkg:cargo/serde@1.0.0%2Ba");
        assert_eq!(
            pypi("Nvidia_Cuda.nvrtc", "12.4"),
            "pkg:pypi/nvidia-cuda-nvrtc@12.4"
        );
    }
}
