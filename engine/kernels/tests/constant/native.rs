//! AVX-512, which valgrind lacks: the disassembly is read.

use std::process::Command;

/// Whether an instruction reads or writes some lanes of memory and not others, by AT&T's syntax.
fn leaves_out_lanes(instruction: &str) -> bool {
    let (name, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
    let gathers = [
        "vpgather",
        "vgather",
        "vpscatter",
        "vscatter",
        "vmaskmov",
        "vpmaskmov",
        "maskmov",
    ];
    let masked = operands.contains("{%k") && operands.contains('(');
    gathers.iter().any(|gather| name.starts_with(gather)) || masked
}

#[test]
fn the_disassembly_has_no_gather_and_no_load_under_a_mask() {
    for (instruction, expected) in [
        ("vpgatherdd (%r10,%ymm17,1),%ymm18{%k1}", true),
        ("vmovdqu32 (%rdi),%zmm0{%k1}{z}", true),
        ("vpaddd 0x40(%rax),%zmm1,%zmm2{%k3}", true),
        ("vpmaskmovd (%rdi),%ymm1,%ymm0", true),
        ("vmovdqu64 (%rdi),%zmm0", false),
        ("vpaddd %zmm0,%zmm1,%zmm2{%k3}", false),
        ("vpermd %zmm0,%zmm1,%zmm2", false),
    ] {
        assert_eq!(leaves_out_lanes(instruction), expected, "{instruction}");
    }
    let objdump = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", "--demangle"])
        .arg(std::env::current_exe().unwrap())
        .output();
    let Ok(output) = objdump else {
        return without::skip("objdump", "it is not installed");
    };
    let (mut function, mut ours, mut bad) = (String::new(), 0, Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(name) = line.strip_suffix(">:") {
            function = name.to_owned();
            continue;
        }
        if !["kernels::oblivious", "kernels::sampling"]
            .iter()
            .any(|ours| function.contains(ours))
        {
            continue;
        }
        let Some((_, instruction)) = line.split_once(":\t") else {
            continue;
        };
        ours += 1;
        let instruction = instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        if leaves_out_lanes(&instruction) {
            bad.push(format!("{function}: {instruction}"));
        }
    }
    assert!(
        ours > 5_000,
        "the functions are not found: {ours} instructions"
    );
    assert_eq!(bad, Vec::<String>::new());
}
