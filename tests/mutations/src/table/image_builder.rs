//! Archives as apt reads them, models that are whole, and images that nobody verified.

use crate::mutation::{Mutation, Test};

const fn inside(name: &'static str) -> Test {
    Test::lib("image-builder", name)
}
const fn outside(name: &'static str) -> Test {
    Test::of("image-builder", "it", name)
}
const fn model(name: &'static str) -> Test {
    Test::of("model", "model", name)
}

const FOREIGN: Test = inside(
    "lock::debian::relation::tests::what_has_to_be_of_another_architecture_is_fulfilled_by_nothing",
);
const DEPRECATED: Test = inside(
    "lock::debian::relation::tests::a_comma_at_the_end_is_taken_and_deprecated_signs_are_the_ones_with_an_equals",
);
const STREAMS: Test = outside(
    "debian::hostile::what_lies_behind_a_compressed_stream_is_judged_alike_in_every_format",
);
const INDEX: Test = model("whole::an_index_and_its_shards_are_whole_together");

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "an index is asked for by its name while the mirror has the old one there",
        file: "image-builder/src/lock/debian/suite_release.rs",
        text: "let by_hash = self.by_hash.then_some(by_hash);",
        with: "let by_hash = (self.by_hash && false).then_some(by_hash);",
        test: outside(
            "debian::locking::an_index_is_fetched_by_its_digest_while_the_mirror_still_has_the_old_one_by_its_name",
        ),
    },
    Mutation {
        fault: "an alternative of another architecture is no relation",
        file: "image-builder/src/lock/debian/relation.rs",
        text: "is_architecture(other).then(|| Some(other.to_owned()))?,",
        with: "is_architecture(other).then(|| Some(other.to_owned())).filter(|_| false)?,",
        test: FOREIGN,
    },
    Mutation {
        fault: "an alternative of another architecture is fulfilled by ours",
        file: "image-builder/src/lock/debian/relation.rs",
        text: "self.architecture.is_none()\n            && match",
        with: "true\n            && match",
        test: FOREIGN,
    },
    Mutation {
        fault: "a deprecated sign means what it looks like",
        file: "image-builder/src/lock/debian/relation.rs",
        text: "(\"<\", Self::EarlierOrEqual),",
        with: "(\"<\", Self::Earlier),",
        test: DEPRECATED,
    },
    Mutation {
        fault: "a comma at the end is one relation more",
        file: "image-builder/src/lock/debian/relation.rs",
        text: "parts.pop();",
        with: "",
        test: DEPRECATED,
    },
    Mutation {
        fault: "one odd paragraph of a package that nobody needs refuses the suite",
        file: "image-builder/src/lock/debian/index.rs",
        text: "if self.odd.len() > INDEX_ODD_MAX {",
        with: "if !self.odd.is_empty() {",
        test: outside(
            "debian::locking::an_odd_paragraph_of_a_package_that_nobody_needs_refuses_nothing",
        ),
    },
    Mutation {
        fault: "an odd paragraph of a package that is needed is passed over",
        file: "image-builder/src/lock/debian/index.rs",
        text: "self.odd.push(odd(line, problem));",
        with: "let _ = odd(line, problem);",
        test: inside(
            "lock::debian::index::tests::an_odd_paragraph_refuses_who_needs_its_package_and_nobody_else",
        ),
    },
    Mutation {
        fault: "a field's name is read with its case",
        file: "image-builder/src/lock/debian/suite_release.rs",
        text: ".position(|field| field.eq_ignore_ascii_case(name))",
        with: ".position(|field| *field == name)",
        test: inside("lock::debian::suite_release::tests::fields_are_read_whatever_their_case"),
    },
    Mutation {
        fault: "a date with the zone Z is none",
        file: "image-builder/src/lock/debian/date.rs",
        text: "matches!(zone, \"UTC\" | \"GMT\" | \"Z\")",
        with: "matches!(zone, \"UTC\" | \"GMT\")",
        test: inside("lock::debian::date::tests::dates_are_read_as_apt_reads_them"),
    },
    Mutation {
        fault: "a date that is none is refused without its field",
        file: "image-builder/src/lock/debian/suite_release.rs",
        text: "let wrong = |why| ReleaseError::Malformed(format!(\"has {field} `{text}`, {why}\"));",
        with: "let wrong = |why| ReleaseError::Malformed(format!(\"has {text}, {why}\"));\n            let _ = field;",
        test: inside(
            "lock::debian::suite_release::tests::a_date_that_is_none_is_told_with_its_field_and_why",
        ),
    },
    Mutation {
        fault: "a second line of debian-binary refuses the package",
        file: "image-builder/src/formats/deb.rs",
        text: ".split(|byte| *byte == b'\\n')\n        .next()\n",
        with: ".strip_suffix(b\"\\n\")\n",
        test: outside(
            "debian::hostile::the_first_line_of_debian_binary_says_the_format_and_more_lines_say_nothing",
        ),
    },
    Mutation {
        fault: "of two xz streams only the first is read",
        file: "image-builder/src/formats/compression.rs",
        text: "State::Xz(stream) => (stream.into_inner(), false),",
        with: "State::Xz(_) => return Ok(0),",
        test: STREAMS,
    },
    Mutation {
        fault: "what lies behind a stream and is none is passed over",
        file: "image-builder/src/formats/compression.rs",
        text: "return Err(invalid(\n                    \"it goes on behind its end with other bytes than a further stream\",\n                ));",
        with: "return Ok(State::Ended);",
        test: STREAMS,
    },
    Mutation {
        fault: "a signed image with a register that was not computed is verified",
        file: "image-builder/src/release/verify.rs",
        text: "Outcome::NotComputed(_) => !allowed.contains(&&*check.what),",
        with: "Outcome::NotComputed(_) => allowed.is_empty() && false,",
        test: outside("provenance::release::a_signed_manifest_with_a_forged_rtmr0_is_not_verified"),
    },
    Mutation {
        fault: "a shard that an index names and that is not there is packed away",
        file: "engine/model/src/whole.rs",
        text: "None if missing.insert(shard) => {",
        with: "None if false && missing.insert(shard) => {",
        test: INDEX,
    },
    Mutation {
        fault: "weights that no index names are packed beside it",
        file: "engine/model/src/whole.rs",
        text: "flaws.push((path, Flaw::NotInIndex));",
        with: "let _ = path;",
        test: INDEX,
    },
    Mutation {
        fault: "a Git LFS pointer is packed as the file that it points to",
        file: "engine/model/src/whole.rs",
        text: "true => Err(Flaw::LfsPointer),\n        false =>",
        with: "_ =>",
        test: model("whole::other_files_are_no_pointers_and_pieces_are_pieces"),
    },
    Mutation {
        fault: "tensors leave a gap or share bytes",
        file: "engine/model/src/tensors.rs",
        text: "if from != end {",
        with: "if false {",
        test: model("whole::the_tensors_of_a_file_cover_it_exactly"),
    },
    Mutation {
        fault: "a file goes on behind its last tensor",
        file: "engine/model/src/tensors.rs",
        text: "if end != bytes {",
        with: "if end > bytes {",
        test: model("whole::the_tensors_of_a_file_cover_it_exactly"),
    },
    Mutation {
        fault: "a file that is called JSON and is none is packed",
        file: "engine/model/src/whole.rs",
        text: "json::check(content)?;",
        with: "let _ = json::check(content);",
        test: outside(
            "model_whole::everything_that_is_refused_is_told_at_once_with_the_words_to_leave_it_out",
        ),
    },
    Mutation {
        fault: "a model that a guest cannot load is packed",
        file: "image-builder/src/model/loaded.rs",
        text: "loadable::check(family, &files).map_err(told)?;",
        with: "let _ = (loadable::check(family, &files), told);",
        test: outside(
            "model_whole::a_model_of_a_family_that_guests_load_is_packed_only_if_they_could",
        ),
    },
];
