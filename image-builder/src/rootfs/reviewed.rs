//! Maintainer scripts that were read, by digest, and what each makes when its package is installed into an empty root. To review
//! another one: `dpkg-deb -e PACKAGE.deb DIRECTORY`, read the script as if `$1` were `install` or `configure` and `$2` empty, and
//! write down everything that stays. A script that starts, restarts or converts something of a running system leaves nothing.

use super::scripts::Effect;
use super::scripts::Effect::{Alternative, Copy, Directory, Empty, Link, Replace};

/// One script.
pub struct Reviewed {
    /// Its package.
    pub package: &'static str,
    /// `preinst` or `postinst`.
    pub script: &'static str,
    /// Of its bytes.
    pub sha256: &'static str,
    /// What it would have made.
    pub effects: &'static [Effect],
    /// The same in words, for a log.
    pub says: &'static str,
}

/// Debian 13.
pub const REVIEWED: &[Reviewed] = &[
    Reviewed {
        package: "base-files",
        script: "preinst",
        sha256: "e593a5b0e3be354a3c0c0c0b5905de242da960e50bc0bb6d8f128247f125088a",
        effects: &[],
        says: "checks that directories are merged into usr, which they are, and diverts directories that nobody has",
    },
    Reviewed {
        package: "base-files",
        script: "postinst",
        sha256: "c3afcbe1aa12e56b62955e75bbf432f21446c4901e66f19468f68351791b08be",
        effects: BASE_FILES,
        says: "files and directories of /etc, /root, /usr/local and /var are made",
    },
    Reviewed {
        package: "base-passwd",
        script: "preinst",
        sha256: "47f6f8ee55faa32f7ff23337772c05bfcc7c01aa0804e1ffeffd71ebff0e21b9",
        effects: &[],
        says: "writes the files that base-passwd's master files are copied to",
    },
    Reviewed {
        package: "base-passwd",
        script: "postinst",
        sha256: "1cff0ea9b8dd12bcb4f6da505bdbd225c905df423f89f4a1be871667ab40c7c6",
        effects: &[
            Copy("/usr/share/base-passwd/passwd.master", "/etc/passwd"),
            Copy("/usr/share/base-passwd/group.master", "/etc/group"),
            Empty("/etc/subuid", 0o644, 0),
            Empty("/etc/subgid", 0o644, 0),
        ],
        says: "/etc/passwd and /etc/group are copies of the master files",
    },
    Reviewed {
        package: "bash",
        script: "postinst",
        sha256: "6d1b5aafa381703582cefe6ba5e4b7b0cfa7f10b0b0a9b299361c4afd5172a21",
        effects: &[Link("/usr/bin/sh", "bash")],
        says: "/bin/sh is bash unless a package has another one",
    },
    Reviewed {
        package: "debconf",
        script: "postinst",
        sha256: "5a2e9dd3174db7116b8baca7479df372bc898a04cf9136ebefca3c98de959f3c",
        effects: &[],
        says: "starts a database of questions, of which none is asked",
    },
    Reviewed {
        package: "debianutils",
        script: "postinst",
        sha256: "d15926d4a2130c02b368e2a609fbeb563455355e717007937e36893f88668eff",
        effects: &[
            Copy("/usr/share/debianutils/shells", "/etc/shells"),
            Alternative("/usr/bin/which", "which", "/usr/bin/which.debianutils", 0),
        ],
        says: "/etc/shells is the package's list, without shells that other packages would add",
    },
    Reviewed {
        package: "gawk",
        script: "postinst",
        sha256: "95e1e850c9df6ac5534ec74e67f94b3f1e579216d54ce7e83a06860dc6c40439",
        effects: &[
            Alternative("/usr/bin/awk", "awk", "/usr/bin/gawk", 10),
            Alternative("/usr/bin/nawk", "nawk", "/usr/bin/gawk", 10),
        ],
        says: "awk is gawk",
    },
    Reviewed {
        package: "init-system-helpers",
        script: "postinst",
        sha256: "22b1db010859db57c9bbc2ff275774375204043884a79f9b55368b21a7d46006",
        effects: &[],
        says: "repairs systems that an installer made",
    },
    Reviewed {
        package: "kmod",
        script: "postinst",
        sha256: "3993124dce901f2dcae630075c9bfae5639e83e20f82b0cbe36eb4d5b4067c53",
        effects: &[],
        says: "a file /etc/modules that says it is obsolete is left out",
    },
    Reviewed {
        package: "libc-bin",
        script: "postinst",
        sha256: "3daa7e3ffd429c1d77287f0fc840a490a607697906d2303452f70578647ce0d4",
        effects: &[Copy(
            "/usr/share/libc-bin/nsswitch.conf",
            "/etc/nsswitch.conf",
        )],
        says: "/etc/nsswitch.conf is the package's, and /etc/ld.so.cache is made",
    },
    Reviewed {
        package: "libc6",
        script: "preinst",
        sha256: "964a417b9c330f80213fe8aebb1f44eaea307203962aecb0de493742583bb454",
        effects: &[],
        says: "asks about the running kernel and services, and diverts a file that nobody else has",
    },
    Reviewed {
        package: "libc6",
        script: "postinst",
        sha256: "ff2a3a7a0e74ceac331ca5ad22e7ef57c974a7b891a9b1e7f3def4377ec6f1b5",
        effects: &[],
        says: "restarts services",
    },
    Reviewed {
        package: "libpam-modules",
        script: "preinst",
        sha256: "87c5a9bcde481ad65bb699df2693b69756622e6d0a6592b2f2d5d881b97e0580",
        effects: &[],
        says: "acts on upgrades",
    },
    Reviewed {
        package: "libpam-modules",
        script: "postinst",
        sha256: "ddf77f362eeeb9720f05fa59cc2583aeda90a25ec721dd6807e0eda568ce84d1",
        effects: &[
            Empty("/etc/security/opasswd", 0o600, 0),
            Empty("/etc/environment", 0o644, 0),
        ],
        says: "two empty files in /etc are made",
    },
    Reviewed {
        package: "libpam0g",
        script: "postinst",
        sha256: "115eb8d446552fa63d3dff297ab1c69c065c44a50f7dd69c34284c8991b589c6",
        effects: &[],
        says: "restarts services",
    },
    Reviewed {
        package: "libreadline8t64",
        script: "preinst",
        sha256: "3e80595cce09408210cd772572b7ebcfba3d04f21a882bd6863b9eac27eba75b",
        effects: &[],
        says: "diverts files that nobody else has",
    },
    Reviewed {
        package: "libselinux1",
        script: "postinst",
        sha256: "d12ce1c34fbc5460fd38659e871fb0018db5f6114d4a7ef4556b017c823c61b4",
        effects: &[],
        says: "acts on upgrades",
    },
    Reviewed {
        package: "mawk",
        script: "postinst",
        sha256: "216a91194494d22d4f72f5fd96e5b8c0649dee5c81dbaea342c7bb24f365a766",
        effects: &[
            Alternative("/usr/bin/awk", "awk", "/usr/bin/mawk", 5),
            Alternative("/usr/bin/nawk", "nawk", "/usr/bin/mawk", 5),
        ],
        says: "awk is mawk unless there is gawk",
    },
    Reviewed {
        package: "procps",
        script: "postinst",
        sha256: "0f97b851e74c3ddff77d5f22698bafc46ba773ab38ee873b3c978b35a97b637a",
        effects: &[],
        says: "sets parameters of a running kernel",
    },
    Reviewed {
        package: "readline-common",
        script: "postinst",
        sha256: "94506bc8b626670c34c3f328df3615033b8520e4b686e3a9e74814bf0219aee1",
        effects: &[Copy("/usr/share/readline/inputrc", "/etc/inputrc")],
        says: "/etc/inputrc is the package's",
    },
    Reviewed {
        package: "util-linux",
        script: "postinst",
        sha256: "d781477cac1b221378593aaacc180228b91cc8e17196a6f898e141b48dbd3109",
        effects: &[Alternative("/usr/bin/pager", "pager", "/usr/bin/more", 50)],
        says: "pager is more",
    },
];

/// Groups are those of base-passwd: mail 8, utmp 43.
const BASE_FILES: &[Effect] = &[
    Link("/etc/dpkg/origins/default", "debian"),
    Copy(
        "/usr/share/base-files/dot.profile",
        concat!("/root", "/.profile"),
    ),
    Copy(
        "/usr/share/base-files/dot.bashrc",
        concat!("/root", "/.bashrc"),
    ),
    Copy("/usr/share/base-files/profile", "/etc/profile"),
    Copy("/usr/share/base-files/motd", "/etc/motd"),
    Directory("/mnt", 0o755, 0),
    Directory("/srv", 0o755, 0),
    Directory("/opt", 0o755, 0),
    Directory("/etc/opt", 0o755, 0),
    Directory("/var/opt", 0o755, 0),
    Directory("/media", 0o755, 0),
    Directory("/var/mail", 0o2775, 8),
    Link("/var/spool/mail", "../mail"),
    Replace("/var/run", "/run"),
    Replace("/var/lock", "/run/lock"),
    Directory("/usr/local", 0o755, 0),
    Directory("/usr/local/share", 0o755, 0),
    Directory("/usr/local/share/man", 0o755, 0),
    Directory("/usr/local/bin", 0o755, 0),
    Directory("/usr/local/games", 0o755, 0),
    Directory("/usr/local/lib", 0o755, 0),
    Directory("/usr/local/libexec", 0o755, 0),
    Directory("/usr/local/include", 0o755, 0),
    Directory("/usr/local/sbin", 0o755, 0),
    Directory("/usr/local/src", 0o755, 0),
    Directory("/usr/local/etc", 0o755, 0),
    Link("/usr/local/man", "share/man"),
    Empty("/var/log/wtmp", 0o664, 43),
    Empty("/var/log/btmp", 0o660, 43),
    Empty("/var/log/lastlog", 0o664, 43),
    Copy("/usr/share/base-files/info.dir", "/usr/share/info/dir"),
];
