//! The value of a field of dependencies: what is read, written and read again is the same.
#![no_main]

use image_builder::lock::debian::relation::{Relation, parse_field, parse_provides};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_provides(text);
    if let Some(groups) = parse_field(text) {
        let group = |group: &Vec<Relation>| {
            let relations: Vec<_> = group.iter().map(Relation::to_string).collect();
            relations.join(" | ")
        };
        let written: Vec<_> = groups.iter().map(group).collect();
        assert_eq!(parse_field(&written.join(", ")), Some(groups));
    }
});
