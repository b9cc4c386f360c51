//! A command line of QEMU is split into words as a POSIX shell splits it, or refused: another word is another machine.

use predict::acpi::{CommandLineError, Qemu, Shape, words};

const BASE: &str = "qemu-system-x86_64 -nodefaults -machine q35,smm=off,pic=off -cpu host -m 4G";

fn check(line: &str, expected: &[&str]) {
    let words = words(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!(words, expected, "{line:?}");
}

fn vcpus(line: &str) -> u32 {
    Shape::from_command_line(Qemu::V10_0_13, line)
        .unwrap()
        .vcpus
}

/// Three lines of hosts' scripts. The first has no `-smp`: it is inside a value.
#[test]
fn a_quoted_letter_ends_no_word() {
    assert_eq!(
        vcpus(&format!(r#"{BASE} -append "a\" -smp 8 -name \"b""#)),
        1
    );
    assert_eq!(vcpus(&format!(r"{BASE} -smp 2 -append 'it'\''s'")), 2);
    assert_eq!(
        vcpus(&format!(r"{BASE} -smp 2 -append root=/dev/vda\ ro")),
        2
    );
    assert_eq!(vcpus(&format!("{BASE} \\\n -smp 2 \\\n")), 2);
}

#[test]
fn quotes_and_backslashes_are_a_shells() {
    check(" a  b\tc ", &["a", "b", "c"]);
    check("'a b'c \"d 'e\" '' \"\"", &["a bc", "d 'e", "", ""]);
    check(
        r#"a\ b \" \' \\ \n \|\$"#,
        &["a b", "\"", "'", "\\", "n", "|$"],
    );
    check(r"'it'\''s'", &["it's"]);
    check(r"'a\'", &[r"a\"]);
    check(r#""a\" -smp 8 \"b""#, &[r#"a" -smp 8 "b"#]);
    // Inside double quotes a backslash escapes five things and is itself before all others.
    check(r#""\$ \` \" \\ \n \' \a""#, &[r#"$ ` " \ \n \' \a"#]);
    check(
        r"'\$ \` \\ $x `y` ~ * # | {a,b}'",
        &[r"\$ \` \\ $x `y` ~ * # | {a,b}"],
    );
    check(
        r#""~ * # | & ; < > ( ) {a,b}""#,
        &["~ * # | & ; < > ( ) {a,b}"],
    );
    check(
        r#"-object "{\"qom-type\":\"tdx-guest\",\"id\":\"tdx0\"}""#,
        &["-object", r#"{"qom-type":"tdx-guest","id":"tdx0"}"#],
    );
    check("a\u{a0}b\u{b}c", &["a\u{a0}b\u{b}c"]);
    check("'a\nb' \"c\nd\"", &["a\nb", "c\nd"]);
}

#[test]
fn lines_and_comments_are_a_shells() {
    // A joined line adds no space.
    check("-m 4\\\nG", &["-m", "4G"]);
    check("-m \\\n  4G \\\n", &["-m", "4G"]);
    check("\"a\\\nb\" 'c\\\nd'", &["ab", "c\\\nd"]);
    check(
        "# a comment \\\n-m 4G # another 'comment\n\n  # a third\n",
        &["-m", "4G"],
    );
    check("a#b \\#c '#d' \"#e\"", &["a#b", "#c", "#d", "#e"]);
    check("-m \\\n#4G", &["-m"]);
    check("", &[]);
    check("\n \n", &[]);
    // Files of another system.
    check("\r\n-m 4G\r\n", &["-m", "4G"]);
    check("-m \\\r\n 4G\r\n\r\n", &["-m", "4G"]);
}

#[test]
fn what_a_shell_would_replace_or_end_is_refused() {
    let check = |line: &str, expected: &str| match words(line) {
        Err(CommandLineError::Shell { .. }) => {
            let said = words(line).unwrap_err().to_string();
            assert!(said.contains(expected), "{line:?}: {said}");
        }
        other => panic!("{line:?}: {other:?}"),
    };
    for line in [
        "-m $MEMORY",
        "\"$MEMORY\"",
        "a${b}",
        "$(c)",
        "\"$((1+1))\"",
        "$'a\\n'",
        "$\"a\"",
        "a$",
    ] {
        check(line, "`$`");
    }
    check("`nproc`", "'`'");
    check("\"`nproc`\"", "'`'");
    for letter in ["|", "&", ";", "<", ">", "(", ")", "*", "?", "[", "{"] {
        check(&format!("-smp 4{letter}8"), &format!("`{letter}`"));
        check(&format!("-smp 4 {letter}"), &format!("`{letter}`"));
    }
    check("-m 4G 2>&1", "`>`");
    check("-m 4G && x", "`&`");
    check("-kernel ~/vmlinuz", "`~`");
    assert_eq!(words("a~ b=~/c").unwrap(), ["a~", "b=~/c"]);
    check("-m 4G\n-smp 8", "line 2");
    check("-m 4G # cut\n-smp 8", "line 2");
    check("-m 4G \\ \n-smp 8", "line 2");
    check("-m 4G \\\n# -smp 4 \\\n-smp 8", "line 3");
    check("-m 4G\r -smp 8", "carriage return");
    check("-m 4G\0", "zero byte");
    check("-m 4G \\", "backslash");
    for open in ["'a", "\"a", "a'", "\"a\\\"", "\"a\\"] {
        assert_eq!(words(open), Err(CommandLineError::Quote), "{open}");
    }
}
