//! What files measure to, what a file is, and who is called verified.

use crate::mutation::{Mutation, Test};

const fn attest(name: &'static str) -> Test {
    Test::lib("attest", name)
}
const fn predict(name: &'static str) -> Test {
    Test::of("predict", "it", name)
}
const fn program(name: &'static str) -> Test {
    Test::of("measurements", "it", name)
}

const SOMETHING_ELSE: Test =
    attest("quote_file::tests::what_is_something_else_is_named_with_what_is_wanted");
const RELEASES: Test =
    predict("releases::releases_lay_their_events_out_in_three_ways_before_they_measure_smbios");
const WRITTEN: Test = predict("releases::a_release_is_written_in_one_of_four_ways");
const ESCAPED: Test = program("shell_words::a_quoted_letter_ends_no_word");
const GPUS: Test = Test::of(
    "diagnose",
    "it",
    "bundle::gpus_are_judged_with_the_rims_of_the_bundle",
);

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "a certificate of the quote that is not valid yet is the collateral's fault",
        file: "measurements/attest/src/verify.rs",
        text: "check_dates(&parsed, now_unix_s)?;",
        with: "let _ = check_dates;",
        test: Test::of(
            "attest",
            "it",
            "fault::a_certificate_in_the_quote_of_another_day_is_not_the_collaterals_fault",
        ),
    },
    Mutation {
        fault: "collateral that is older than some already seen is taken",
        file: "measurements/attest/src/verify.rs",
        text: "if claims.tcb.eval_data_number < policy.tcb_evaluation_number_min {",
        with: "if false {",
        test: Test::of(
            "attest",
            "it",
            "simulated::collateral_older_than_some_already_seen_is_refused",
        ),
    },
    Mutation {
        fault: "a quote in base64 is no quote",
        file: "measurements/attest/src/quote_file.rs",
        text: ".find_map(|alphabet| engine(&alphabet).decode(base64).ok()),",
        with: ".find_map(|alphabet| engine(&alphabet).decode(base64).ok().filter(|_| false)),",
        test: attest("quote_file::tests::a_quote_is_read_in_every_form"),
    },
    Mutation {
        fault: "an ACPI table in the place of a log is bytes of no kind",
        file: "measurements/attest/src/quote_file.rs",
        text: "if length(4).is_some_and(|n| n >= 36 && n as usize == bytes.len()) =>",
        with: "if length(4).is_some_and(|n| n < 36 && n as usize == bytes.len()) =>",
        test: SOMETHING_ELSE,
    },
    Mutation {
        fault: "an answer of Intel's service is JSON of no kind",
        file: "measurements/attest/src/quote_file.rs",
        text: "() if has(\"tcbInfo\") => FileKind::TcbInfo,",
        with: "",
        test: SOMETHING_ELSE,
    },
    Mutation {
        fault: "edk2 from stable202302 to stable202408 measures its second separator into RTMR1",
        file: "measurements/predict/src/release.rs",
        text: "last: Edk2Release::of(2024, 8),\n            acpi: true,\n            boot_variables: Register::Rtmr0,\n            separator: Register::Rtmr0,",
        with: "last: Edk2Release::of(2024, 8),\n            acpi: true,\n            boot_variables: Register::Rtmr0,\n            separator: Register::Rtmr1,",
        test: RELEASES,
    },
    Mutation {
        fault: "edk2 stable202211 measures its boot variables into RTMR0",
        file: "measurements/predict/src/release.rs",
        text: "boot_variables: Register::Rtmr1,",
        with: "boot_variables: Register::Rtmr0,",
        test: RELEASES,
    },
    Mutation {
        fault: "edk2 stable202211 measures ACPI files",
        file: "measurements/predict/src/release.rs",
        text: "acpi: false,",
        with: "acpi: true,",
        test: RELEASES,
    },
    Mutation {
        fault: "a release as distributions write it is refused",
        file: "measurements/predict/src/release.rs",
        text: "let parts = number.split_once('.').or(number.split_at_checked(4));",
        with: "let parts = number.split_at_checked(4);",
        test: WRITTEN,
    },
    Mutation {
        fault: "a month in which edk2 has no release is one",
        file: "measurements/predict/src/release.rs",
        text: ".filter(|release| [2, 5, 8, 11].contains(&release.month))",
        with: "",
        test: WRITTEN,
    },
    Mutation {
        fault: "a known firmware is called something else",
        file: "measurements/predict/src/build.rs",
        text: "Some(known) if known != build => Err(FirmwareError::Known {",
        with: "Some(known) if known != build && false => Err(FirmwareError::Known {",
        test: predict("releases::a_known_file_is_called_nothing_else"),
    },
    Mutation {
        fault: "registers are predicted for a firmware that measures nothing",
        file: "measurements/predict/src/build.rs",
        text: "false => Err(FirmwareError::MeasuresNothing),",
        with: "false => Ok(Firmware { bytes, build }),",
        test: predict("volumes::a_firmware_without_it_measures_nothing"),
    },
    Mutation {
        fault: "an escaped quote ends its word, and the rest is another machine's",
        file: "measurements/predict/src/acpi/command_line/words.rs",
        text: "letter @ ('$' | '`' | '\"' | '\\\\') => self.push(letter)?,",
        with: "letter @ ('$' | '`' | '\\\\') => self.push(letter)?,\n                    '\"' => return Ok(()),",
        test: ESCAPED,
    },
    Mutation {
        fault: "a backslash before a space ends the word",
        file: "measurements/predict/src/acpi/command_line/words.rs",
        text: "Some(letter) => self.push(letter)?,",
        with: "Some(letter) => self.unquoted(letter)?,",
        test: program("shell_words::quotes_and_backslashes_are_a_shells"),
    },
    Mutation {
        fault: "zeros behind a GPU's report are not called zeros",
        file: "measurements/gpu/src/report.rs",
        text: "zeros: behind.iter().all(|byte| *byte == 0),",
        with: "zeros: behind.is_empty(),",
        test: Test::of(
            "gpu",
            "it",
            "hostile::bytes_behind_a_signature_are_counted_and_called_zeros_if_they_are",
        ),
    },
    Mutation {
        fault: "a register that was not computed is verified",
        file: "measurements/predict/src/image/check.rs",
        text: "!self.checks.iter().any(differs) && self.unchecked().into_iter().all(allowed)",
        with: "!self.checks.iter().any(differs) && self.unchecked().into_iter().all(|one| allowed(one) || true)",
        test: program("image::a_forged_register_that_cannot_be_computed_is_refused"),
    },
    Mutation {
        fault: "a quote about which nothing was compared ends with 0",
        file: "measurements/src/cli/quote.rs",
        text: "QuoteCommand::Verify(arguments) => Ok(check(arguments)? == Some(true)),",
        with: "QuoteCommand::Verify(arguments) => Ok(check(arguments)?.is_some()),",
        test: program("cli::a_quote_alone_is_inspected_and_never_called_verified"),
    },
    Mutation {
        fault: "the maker of a bundle decides that revocation is not checked",
        file: "measurements/diagnose/src/bundle/appraise.rs",
        text: "&& (unchecked || gpus.revocation_checked())",
        with: "&& (unchecked || gpus.revocation_checked() || true)",
        test: GPUS,
    },
    Mutation {
        fault: "evidence of GPUs that the quote does not bind is verified",
        file: "measurements/diagnose/src/bundle/appraise.rs",
        text: "&& self.gpus_bound\n",
        with: "\n",
        test: GPUS,
    },
    Mutation {
        fault: "firmware of another generation is no suspect",
        file: "measurements/diagnose/src/explain/suspects.rs",
        text: "return Some(of_machine(None, image.machine, None, around.layout));",
        with: "return None;",
        test: program("explain::firmware_of_another_generation_is_named"),
    },
    Mutation {
        fault: "an explanation does not say in which field two configurations differ",
        file: "measurements/diagnose/src/explain/application.rs",
        text: "compare(\"\", &stated, &got, &mut found);",
        with: "if false {\n        compare(\"\", &stated, &got, &mut found);\n    }",
        test: Test::lib(
            "diagnose",
            "explain::application::tests::fields_that_differ_are_named",
        ),
    },
];
