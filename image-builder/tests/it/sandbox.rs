//! What is in the sandbox, and above all what is not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::host_sandbox::{IMAGE_BUILDER, executable, host_sandbox};
use image_builder::sandbox::{ENVIRONMENT, Sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far above the milliseconds that it takes, so that a busy machine does not matter.
const SOON: Duration = Duration::from_secs(10);

/// Runs a script in `sandbox` to its end.
fn shell(sandbox: &Sandbox, script: &str) -> Output {
    let mut command = sandbox.command("sh", ["-c", script]);
    command.stdin(Stdio::null());
    command.output().expect("image-builder starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a script that must succeed.
fn says(sandbox: &Sandbox, script: &str) -> String {
    let output = shell(sandbox, script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A script that says `ready` once it runs, its output still open.
fn start(sandbox: &Sandbox, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = sandbox.command("sh", ["-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("image-builder starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a pipe");
    assert_eq!(line, "ready\n");
    (child, output)
}

/// Waits until nobody holds the output any more, which is when every process of the sandbox is gone.
fn all_end(mut output: BufReader<std::process::ChildStdout>) {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).expect("a pipe");
        let _ = done.send(());
    });
    ended
        .recv_timeout(SOON)
        .expect("the program is gone and its output closed");
}

/// Whether this process ignores a signal, which what it starts inherits: background jobs of scripts ignore SIGINT, for
/// one (proc_pid_status(5)).
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.expect("it says").trim(), 16).expect("a mask");
    mask & (1 << (signal as u32 - 1)) != 0
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

#[test]
fn the_exit_code_is_the_programs() {
    let (_tree, sandbox) = host_sandbox();
    let check = |script: &str, code: i32| {
        assert_eq!(
            shell(&sandbox, script).status.code(),
            Some(code),
            "{script}"
        );
    };
    check("exit 0", 0);
    check("exit 7", 7);
    check("exit 255", 255);
    check("kill -KILL $$", 128 + 9);
    check("kill -SEGV $$", 128 + 11);
    // A process that its parent leaves behind is buried, and does not hold up the sandbox.
    check("(sleep 1000 &) ; exit 3", 3);
}

#[test]
fn a_program_that_is_not_there_or_does_not_run_is_told_from_one_that_fails() {
    let (_tree, sandbox) = host_sandbox();
    let check = |sandbox: &Sandbox, program: &str, code: i32, word: &str| {
        let output = sandbox.command(program, [""; 0]).output().expect("starts");
        assert_eq!(output.status.code(), Some(code));
        let sentence = text(&output.stderr);
        assert!(sentence.contains(word), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    };
    check(&sandbox, "no-such-program", 127, "no-such-program");
    check(&sandbox, "/usr", 126, "/usr");
    check(&sandbox.clone().cwd("/nowhere"), "true", 2, "/nowhere");
    check(
        &sandbox.clone().read("/no-such-file", "/x"),
        "true",
        125,
        "/no-such-file",
    );
    check(
        &sandbox.clone().device("/etc/passwd"),
        "true",
        2,
        "/etc/passwd",
    );
    check(
        &sandbox.clone().device("/dev/../etc/passwd"),
        "true",
        2,
        "passwd",
    );
}

#[test]
fn the_environment_is_the_fixed_one() {
    let (_tree, sandbox) = host_sandbox();
    let mut command = sandbox.command("env", [""; 0]);
    command.env("SECRET", "shown").env("LD_PRELOAD_X", "shown");
    let output = command.output().expect("starts");
    let mut lines: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    let fixed = ENVIRONMENT
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    assert_eq!(lines, fixed.collect::<Vec<_>>());

    let more = sandbox.env("TZ", "Europe/Berlin").env("A", "b=c");
    assert_eq!(says(&more, "echo $TZ $A $HOME"), "Europe/Berlin b=c /tmp\n");
    assert_eq!(
        says(&more, "hostname; id -u; umask; pwd"),
        "chrysalis\n0\n0022\n/tmp\n"
    );
}

#[test]
fn there_is_no_network() {
    let (_tree, sandbox) = host_sandbox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    TcpStream::connect(address).expect("it can be reached from outside");
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}", address.port());
    let output = sandbox
        .command("bash", ["-c", &script])
        .output()
        .expect("starts");
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("unreachable"),
        "{}",
        text(&output.stderr)
    );
    let devices = says(
        &sandbox,
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '",
    );
    assert_eq!(devices, "lo\n");
}

#[test]
fn files_of_the_host_do_not_show() {
    let (_tree, sandbox) = host_sandbox();
    let secret = tempfile::tempdir().expect("a directory");
    fs::write(secret.path().join("file"), "secret").expect("written");
    let path = secret.path().display();
    assert!(!shell(&sandbox, &format!("ls {path}")).status.success());
    // What every sandbox has, and the links and directories of this tree.
    let mut found: Vec<_> = says(&sandbox, "ls -A /")
        .lines()
        .map(str::to_owned)
        .collect();
    found.retain(|name| !["usr", "bin", "sbin", "lib", "lib64"].contains(&name.as_str()));
    assert_eq!(found, ["dev", "proc", "tmp"]);
    assert_eq!(says(&sandbox, "ls -A /tmp"), "");
    let nodes = "fd full null random shm stderr stdin stdout urandom zero";
    assert_eq!(says(&sandbox, "ls /dev | tr '\\n' ' '").trim(), nodes);
    // Processes of the host neither: process 1 is the sandbox's own.
    let processes = says(
        &sandbox,
        "for p in /proc/[0-9]*; do echo ${p#/proc/}; done | wc -l",
    );
    assert!(processes.trim().parse::<u32>().expect("a number") < 6);
}

#[test]
fn open_files_of_the_caller_do_not_come_along() {
    let (_tree, sandbox) = host_sandbox();
    let directory = File::open("/").expect("a directory");
    // `dup` gives a number that the next program inherits, as a careless caller would leave one.
    let inherited = nix::unistd::dup(&directory).expect("a number");
    let number = inherited.as_raw_fd();
    let plain = Command::new("ls")
        .arg(format!("/proc/self/fd/{number}/"))
        .output();
    assert!(
        plain.expect("ls starts").status.success(),
        "it is inherited"
    );
    assert!(
        !shell(&sandbox, &format!("ls /proc/self/fd/{number}/"))
            .status
            .success()
    );
}

#[test]
fn inputs_cannot_be_written_and_outputs_can() {
    let (_tree, sandbox) = host_sandbox();
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["in", "out"] {
        fs::create_dir(directory.path().join(name)).expect("a directory");
    }
    let (input, output) = (directory.path().join("in"), directory.path().join("out"));
    fs::write(input.join("file"), "before").expect("written");
    fs::write(directory.path().join("single"), "one").expect("written");
    let sandbox = sandbox
        .read(&input, "/data/in")
        .read(directory.path().join("single"), "/data/single")
        .write(&output, "/data/out");
    assert_eq!(
        says(&sandbox, "cat /data/in/file /data/single"),
        "beforeone"
    );
    for script in [
        "echo x > /data/in/file",
        "echo x > /data/in/new",
        "rm /data/in/file",
        "chmod 777 /data/in",
        "echo x > /data/single",
        "touch /file",
        "mkdir /data/more",
        "touch /usr/x",
        // Root in its own namespace, and yet it may not undo the mounts.
        "mount -o remount,rw,bind /data/in",
        "umount /data/in",
        "umount -l /usr",
    ] {
        assert!(!shell(&sandbox, script).status.success(), "{script}");
    }
    let before = fs::read_to_string(input.join("file")).expect("there");
    assert_eq!(before, "before");
    says(&sandbox, "echo done > /data/out/file; echo scratch > file");
    let written = fs::read_to_string(output.join("file")).expect("there");
    assert_eq!(written, "done\n");
    // An input in an output, whatever their order.
    let nested = sandbox.read(&input, "/data/out/sub");
    let script = "cat /data/out/sub/file; ! touch /data/out/sub/new";
    assert_eq!(says(&nested, script), "before");
    let owner = fs::metadata(output.join("file")).expect("there").uid();
    assert_eq!(owner, nix::unistd::getuid().as_raw());
}

#[test]
fn a_mount_below_an_input_is_read_only_too() {
    // `/dev` has other mounts below it nearly everywhere (`/dev/shm`, `/dev/pts`), and writable ones.
    let (_tree, sandbox) = host_sandbox();
    let sandbox = sandbox.read("/dev", "/host-dev");
    let mounts = says(&sandbox, "cat /proc/self/mountinfo");
    // Of mounts on top of each other the last is the one that shows, and it cannot be taken off.
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let pairs = fields.map(|field| (field[4].to_owned(), field[5].to_owned()));
    let mut shown: BTreeMap<String, String> = pairs.collect();
    shown.retain(|path, _| path.starts_with("/host-dev"));
    assert!(!shown.is_empty(), "{mounts}");
    for (path, flags) in shown {
        assert!(flags.starts_with("ro"), "{path} {flags}");
    }
    assert!(!shell(&sandbox, "echo x > /host-dev/null").status.success());
}

#[test]
fn a_link_does_not_lead_a_bind_astray() {
    let (tree, sandbox) = host_sandbox();
    symlink("/usr", tree.path().join("absolute")).expect("a link");
    let file = tempfile::NamedTempFile::new().expect("a file");
    for inside in ["/absolute/x", "/absolute"] {
        let sandbox = sandbox.clone().read(file.path(), inside);
        let output = shell(&sandbox, "true");
        assert_eq!(output.status.code(), Some(2), "{inside}");
        assert!(
            text(&output.stderr).contains("is a link"),
            "{}",
            text(&output.stderr)
        );
    }
    let taken = sandbox.clone().read(file.path(), "/usr/no-such-place");
    assert_eq!(shell(&taken, "true").status.code(), Some(2));
    // A link of the host is followed, because its owner put it there.
    let link = tree.path().join("link");
    symlink(file.path(), &link).expect("a link");
    fs::write(file.path(), "through").expect("written");
    assert_eq!(says(&sandbox.read(&link, "/file"), "cat /file"), "through");
}

#[test]
fn a_listed_device_is_there_and_works() {
    let (_tree, sandbox) = host_sandbox();
    assert!(!shell(&sandbox, "echo x > /dev/tty").status.success());
    let output = says(
        &sandbox,
        "head -c 4 /dev/zero | wc -c; echo x > /dev/null; : > /dev/shm/x",
    );
    assert_eq!(output.trim(), "4");
    let listed = sandbox.device("/dev/tty");
    assert_eq!(says(&listed, "test -c /dev/tty && echo yes"), "yes\n");
}

#[test]
fn the_program_ends_when_its_starter_is_killed() {
    let (_tree, sandbox) = host_sandbox();
    let (mut child, output) = start(&sandbox, "trap '' TERM INT HUP; echo ready; sleep 1000");
    let killed = Instant::now();
    kill(pid(&child), Signal::SIGKILL).expect("it runs");
    all_end(output);
    assert!(killed.elapsed() < SOON);
    child.wait().expect("it has ended");
}

#[test]
fn the_program_ends_when_its_starters_starter_is_killed() {
    let (_tree, sandbox) = host_sandbox();
    let inner = sandbox.command("sh", ["-c", "echo ready; sleep 1000"]);
    // A shell between: what is killed has no say in the matter.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$@\"; :", "sh"])
        .arg(inner.get_program());
    shell
        .args(inner.get_args())
        .stdout(Stdio::piped())
        .stdin(Stdio::null());
    let mut child = shell.spawn().expect("a shell");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a pipe");
    assert_eq!(line, "ready\n");
    kill(pid(&child), Signal::SIGKILL).expect("it runs");
    child.wait().expect("it has ended");
    all_end(output);
}

#[test]
fn signals_reach_the_program() {
    let (_tree, sandbox) = host_sandbox();
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        if is_ignored(signal) {
            println!("{signal} is ignored by whoever started this test, and so by what it starts");
            continue;
        }
        let (mut child, output) = start(&sandbox, "echo ready; exec sleep 1000");
        kill(pid(&child), signal).expect("it runs");
        all_end(output);
        let status = child.wait().expect("it has ended");
        assert_eq!(status.code(), Some(code));
    }
    // A program that has something to tidy up does so.
    let script = "trap 'echo tidy; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let (mut child, mut output) = start(&sandbox, script);
    kill(pid(&child), Signal::SIGTERM).expect("it runs");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("a pipe");
    assert_eq!(
        (rest.as_str(), child.wait().expect("ended").code()),
        ("tidy\n", Some(5))
    );
}

#[test]
fn a_signal_that_comes_early_is_not_lost() {
    let (_tree, sandbox) = host_sandbox();
    for wait_ms in [0, 1, 2, 4, 8, 16, 32] {
        let mut command = sandbox.command("sleep", ["1000"]);
        let mut child = command.stdin(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(wait_ms));
        kill(pid(&child), Signal::SIGTERM).expect("it is our child");
        let started = Instant::now();
        while child.try_wait().expect("our child").is_none() {
            if started.elapsed() > SOON {
                child.kill().expect("it runs");
                panic!("a signal {wait_ms} ms after the start was lost");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn it_works_for_another_user_than_root() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("skipped: not root, so every other test here has shown it");
        return;
    }
    let (tree, sandbox) = host_sandbox();
    // The directory of a build is often closed to others: the program goes where everybody can read it.
    let program = executable(IMAGE_BUILDER.as_ref(), &tree.path().join("image-builder"));
    open_to_all(tree.path());
    let mut command = sandbox
        .launcher(&program)
        .command("sh", ["-c", "id -u; cat /proc/self/uid_map"]);
    command.uid(65534).gid(65534);
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let numbers: Vec<_> = text(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(numbers, ["0", "0", "0", "1"]);
}

fn open_to_all(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("ours");
}

#[test]
fn where_namespaces_are_forbidden_the_sentence_names_the_setting() {
    let (tree, sandbox) = host_sandbox();
    // In a sandbox of one's own one may lower the limit that an administrator would have lowered for everybody.
    let sandbox = sandbox
        .read(IMAGE_BUILDER, "/opt/image-builder")
        .read(tree.path(), "/opt/tree");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec /opt/image-builder run --tree /opt/tree -- true";
    let output = shell(&sandbox, script);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    let sentence = text(&output.stderr);
    assert!(
        sentence.contains("sysctl user.max_user_namespaces=15000"),
        "{sentence}"
    );
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    // The limit is what made the difference: without it, a sandbox in a sandbox works.
    let inner = "exec /opt/image-builder run --tree /opt/tree --read /usr=/usr -- true";
    let output = shell(&sandbox, inner);
    assert!(output.status.success(), "{}", text(&output.stderr));
}
