//! What the process that computes may no longer ask of the kernel, before it loads libcuda and before it sees a prompt.
//!
//! A list of what is refused, not of what is allowed: which calls libcuda makes is not known without hardware. What it has to do,
//! open and map device files, start threads, wait, stays allowed. The rest of the confinement is the agent's: a user of its own, an
//! empty environment, one inherited socket. It is less than a list of allowed calls would be, and docs/image-h100.md says so.

#![expect(
    unsafe_code,
    reason = "a filter is installed by prctl, and nix has no call for it"
)]

use nix::errno::Errno;
use nix::libc::{self, c_long, sock_filter, sock_fprog};
use std::io;

/// From now on this thread and each that it starts gains no privileges, talks to nobody new, starts no program, and reaches into no
/// other process. Nothing takes that back.
pub(crate) fn confine() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let mut filter = filter();
    let program = sock_fprog {
        len: u16::try_from(filter.len()).expect("a hundred instructions"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, whose length and address are those of a vector that outlives the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    Errno::result(set).map(drop).map_err(io::Error::from)
}

/// Classic BPF over `struct seccomp_data` (linux/seccomp.h): number of the call at 0, machine at 4, first argument at 16.
fn filter() -> Vec<sock_filter> {
    let (load, equal) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
    );
    let (above, any) = (
        libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
        libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
    );
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut program = Vec::new();
    let mut add = |code: u32, jt: usize, jf: usize, k: u32| {
        let jump = |to: usize| u8::try_from(to).expect("fewer than 256 instructions");
        program.push(sock_filter {
            code: code as u16,
            jt: jump(jt),
            jf: jump(jf),
            k,
        });
    };
    let count = REFUSED.len();
    add(load, 0, 0, 4);
    add(equal, 1, 0, AUDIT_ARCH_X86_64);
    add(answer, 0, 0, libc::SECCOMP_RET_KILL_PROCESS);
    add(load, 0, 0, 0);
    // The second numbering that x86-64 has, in which the list would have holes.
    add(above, count + 5, 0, X32);
    for (at, call) in REFUSED.iter().enumerate() {
        add(equal, count - at + 4, 0, *call as u32);
    }
    // Its flags lie in memory, which no filter reads. Whoever hears that it does not exist takes `clone`.
    add(equal, 5, 0, libc::SYS_clone3 as u32);
    add(equal, 0, 2, libc::SYS_clone as u32);
    add(load, 0, 0, 16);
    add(any, 0, 1, libc::CLONE_THREAD as u32);
    add(answer, 0, 0, libc::SECCOMP_RET_ALLOW);
    add(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    add(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    program
}

/// linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

#[rustfmt::skip]
const REFUSED: &[c_long] = &[
    // Others to talk to.
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept,
    libc::SYS_accept4, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_kcmp, libc::SYS_kill,
    libc::SYS_rt_sigqueueinfo, libc::SYS_fork, libc::SYS_vfork, libc::SYS_execve, libc::SYS_execveat,
    // The kernel.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_keyctl, libc::SYS_add_key,
    libc::SYS_request_key, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_kexec_file_load, libc::SYS_reboot, libc::SYS_syslog, libc::SYS_acct, libc::SYS_iopl, libc::SYS_ioperm,
    libc::SYS_modify_ldt, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_swapon,
    libc::SYS_swapoff,
    // What it sees of files.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount, libc::SYS_mount_setattr, libc::SYS_open_tree,
    libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_setns, libc::SYS_unshare, libc::SYS_mknod, libc::SYS_mknodat, libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at, libc::SYS_fanotify_init,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    fn refused<T>(done: io::Result<T>) -> bool {
        done.err().and_then(|error| error.raw_os_error()) == Some(libc::EPERM)
    }

    /// Of a thread: those beside it stay as they are.
    #[test]
    fn what_is_refused_gives_eperm_and_ordinary_work_goes_on() {
        let confined = std::thread::spawn(|| {
            confine().unwrap();
            assert!(refused(UnixStream::pair()));
            assert!(refused(UnixStream::connect("/nowhere")));
            assert!(refused(std::net::TcpStream::connect("127.0.0.1:9")));
            assert!(refused(Command::new("/bin/true").status()));
            // Each call of the list, with arguments that none would take.
            for call in REFUSED {
                // SAFETY: the kernel refuses the call before it looks at an argument.
                let done = unsafe { libc::syscall(*call, -1, 0, 0, 0, 0, 0) };
                assert_eq!((done, Errno::last()), (-1, Errno::EPERM), "call {call}");
            }
            // SAFETY: refused likewise; its flags are of a process.
            let forked = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
            assert_eq!((forked, Errno::last()), (-1, Errno::EPERM));
            // SAFETY: refused by its number, which is of the second numbering.
            let read = unsafe { libc::syscall(libc::SYS_getpid | i64::from(X32)) };
            assert_eq!((read, Errno::last()), (-1, Errno::EPERM));
            let text = std::thread::spawn(|| {
                assert!(refused(UnixStream::pair()), "a thread inherits it");
                std::fs::read_to_string("/proc/thread-self/status").unwrap()
            });
            let text = text.join().unwrap();
            assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"));
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), vec![1; 1 << 20]).unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap().len(), 1 << 20);
        });
        confined.join().unwrap();
        assert!(UnixStream::pair().is_ok());
    }
}
