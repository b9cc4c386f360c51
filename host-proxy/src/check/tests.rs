use super::*;
use tempfile::TempDir;

/// A host that has everything, as files.
struct FakeHost {
    directory: TempDir,
}

impl FakeHost {
    fn able() -> Self {
        let fake = FakeHost {
            directory: tempfile::tempdir().expect("a directory"),
        };
        fake.write(
            "proc/cpuinfo",
            "processor\t: 0\nflags\t\t: fpu tdx_host_platform sgx\n",
        );
        fake.write("proc/sys/kernel/osrelease", "6.16.3-amd64\n");
        fake.write(
            "proc/meminfo",
            "MemTotal: 9 kB\nMemAvailable:   16777216 kB\n",
        );
        fake.write("proc/17/comm", "qgs\n");
        fake.write("sys/module/kvm_intel/parameters/tdx", "Y\n");
        fake.write("etc/qgs.conf", "port = 4050\nnumber_threads = 4\n");
        for device in ["kvm", "vhost-vsock", "sgx_enclave", "sgx_provision"] {
            fake.write(&format!("dev/{device}"), "");
        }
        fake.qemu("10.1.2", "tdx-guest");
        fake
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.directory.path().join(path)).expect("removed");
    }

    fn qemu(&self, version: &str, object: &str) {
        let answers = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'QEMU emulator version {version}'; else echo '  {object}'; fi\n"
        );
        self.write("qemu.sh", &answers);
        // Another process writes what is to be run: a test beside this one that starts a program just now would inherit
        // the file, open for writing, and the kernel runs no such file.
        let mut install = std::process::Command::new("install");
        let (text, program) = ("qemu.sh", "qemu");
        install.current_dir(self.directory.path());
        install.args(["-m", "755", text, program]);
        assert!(install.status().expect("coreutils").success());
    }

    async fn lacks(&self) -> Vec<&'static str> {
        let qemu = Tool::of_the_host(self.directory.path().join("qemu").to_string_lossy());
        let items = Host::at(self.directory.path()).check(&qemu, 2048).await;
        assert_eq!(items.len(), 10);
        assert!(
            items.iter().all(|item| !item.seen.is_empty()
                && !item.fix.is_empty()
                && !item.source.is_empty())
        );
        items
            .iter()
            .filter(|item| !item.ok)
            .map(|item| item.item)
            .collect()
    }
}

#[tokio::test]
async fn a_host_with_everything_lacks_nothing() {
    let fake = FakeHost::able();
    assert_eq!(fake.lacks().await, [""; 0]);
    assert!(Host::at(fake.directory.path()).seems_able());
}

#[tokio::test]
async fn an_empty_host_lacks_everything() {
    let fake = FakeHost {
        directory: tempfile::tempdir().expect("a directory"),
    };
    assert_eq!(fake.lacks().await.len(), 10);
    assert!(!Host::at(fake.directory.path()).seems_able());
}

#[tokio::test]
async fn each_thing_that_is_taken_away_is_missed_and_nothing_else() {
    let check = async |take: &dyn Fn(&FakeHost), expected: &[&str]| {
        let fake = FakeHost::able();
        take(&fake);
        assert_eq!(fake.lacks().await, expected);
    };
    check(
        &|fake| {
            fake.write(
                "proc/cpuinfo",
                "flags : fpu tdx_host_platform2 sgx\nbugs : tdx_host_platform\n",
            )
        },
        &["processor"],
    )
    .await;
    check(
        &|fake| fake.write("sys/module/kvm_intel/parameters/tdx", "N\n"),
        &["kvm_intel"],
    )
    .await;
    check(
        &|fake| fake.write("proc/sys/kernel/osrelease", "6.8.0-tdx\n"),
        &[],
    )
    .await;
    let old = |fake: &FakeHost| {
        fake.write("proc/sys/kernel/osrelease", "6.15.9\n");
        fake.remove("sys/module/kvm_intel/parameters/tdx");
    };
    check(&old, &["kernel", "kvm_intel"]).await;
    check(&|fake| fake.remove("dev/kvm"), &["kvm"]).await;
    check(&|fake| fake.remove("dev/vhost-vsock"), &["vhost-vsock"]).await;
    check(&|fake| fake.remove("dev/sgx_provision"), &["sgx"]).await;
    check(
        &|fake| fake.write("etc/qgs.conf", "port = 4051\n"),
        &["quoting service"],
    )
    .await;
    check(
        &|fake| fake.write("proc/17/comm", "qgs2\n"),
        &["quoting service"],
    )
    .await;
    let socket_only = |fake: &FakeHost| {
        fake.remove("etc/qgs.conf");
        fake.write("var/run/tdx-qgs/qgs.socket", "");
    };
    check(&socket_only, &["quoting service"]).await;
    check(
        &|fake| fake.qemu("10.0.13 (Debian)", "tdx-guest"),
        &["qemu"],
    )
    .await;
    check(
        &|fake| fake.qemu("10.1.0", "sev-guest"),
        &["qemu tdx-guest"],
    )
    .await;
    check(
        &|fake| fake.write("proc/meminfo", "MemAvailable: 3145727 kB\n"),
        &["memory"],
    )
    .await;
    check(
        &|fake| fake.write("proc/meminfo", "MemAvailable: lots\n"),
        &["memory"],
    )
    .await;
}
