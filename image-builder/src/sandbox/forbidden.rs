//! Why a system refuses user namespaces, and what its administrator would change.

use std::fs;

use nix::errno::Errno;

use super::SandboxError;

/// Turns the refusal of a namespace, or of the first mount in one, into a sentence with the fix.
pub fn refused(error: Errno) -> SandboxError {
    SandboxError::Forbidden(refusal(error))
}

/// The sentence alone.
pub fn refusal(error: Errno) -> String {
    reason(error, |name| {
        fs::read_to_string(format!("/proc/sys/{name}")).ok()
    })
}

fn reason(error: Errno, setting: impl Fn(&str) -> Option<String>) -> String {
    let is = |name: &str, value: &str| setting(name).is_some_and(|text| text.trim() == value);
    if is("user/max_user_namespaces", "0") {
        return "it allows no user namespaces; `sysctl user.max_user_namespaces=15000` allows them"
            .into();
    }
    // Debian's kernels before 2021, and derivatives.
    if is("kernel/unprivileged_userns_clone", "0") {
        return "it keeps user namespaces for root; `sysctl kernel.unprivileged_userns_clone=1` allows them".into();
    }
    // Ubuntu since 23.10: the namespace is made, and has no capabilities.
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor takes the rights out of user namespaces; \
                `sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them"
            .into();
    }
    match error {
        // user_namespaces(7): a limit was reached, or namespaces are nested 32 deep.
        Errno::ENOSPC | Errno::EUSERS => {
            "too many user namespaces are in use; `sysctl user.max_user_namespaces` is the limit"
                .into()
        }
        Errno::EINVAL => {
            "its kernel was built without namespaces (CONFIG_USER_NS and the like)".into()
        }
        _ => format!(
            "{}; a container's seccomp profile, a security module or a chroot forbids it, so run outside of that, or let the \
             container make namespaces (`--security-opt seccomp=unconfined`)",
            error.desc()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_the_one_that_is_named() {
        let check = |error, settings: &[(&str, &str)], word: &str| {
            let got = reason(error, |name| {
                let found = settings.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| format!("{value}\n"))
            });
            assert!(got.contains(word), "{got}");
        };
        let max = "user/max_user_namespaces";
        let clone = "kernel/unprivileged_userns_clone";
        let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
        check(
            Errno::ENOSPC,
            &[(max, "0")],
            "sysctl user.max_user_namespaces=15000",
        );
        check(
            Errno::EPERM,
            &[(max, "9"), (clone, "0"), (apparmor, "0")],
            "sysctl kernel.unprivileged_userns_clone=1",
        );
        check(
            Errno::EACCES,
            &[(max, "9"), (clone, "1"), (apparmor, "1")],
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        );
        check(Errno::ENOSPC, &[(max, "9")], "too many");
        check(Errno::EINVAL, &[], "CONFIG_USER_NS");
        check(Errno::EPERM, &[(max, "9")], "seccomp");
    }
}
