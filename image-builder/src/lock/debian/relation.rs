//! Relationship fields, `Depends: a (>= 1) | b, c:any` (Debian Policy 7.1).

use std::cmp::Ordering;
use std::fmt;

use super::is_package_name;
use super::version::Version;
use crate::limits::RELATIONS_MAX;

/// One alternative of a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The package, real or virtual.
    pub name: String,
    /// What its version has to be; none allows all.
    pub constraint: Option<(Comparison, Version)>,
}

/// How a version has to compare with the one that a relation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Comparison {
    const ALL: [(&'static str, Self); 5] = [
        ("<<", Self::Earlier),
        ("<=", Self::EarlierOrEqual),
        (">=", Self::LaterOrEqual),
        (">>", Self::Later),
        ("=", Self::Equal),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

impl Relation {
    /// Whether a real package of this version fulfils it.
    pub fn allows(&self, version: &Version) -> bool {
        match &self.constraint {
            None => true,
            Some((comparison, wanted)) => comparison.holds(version.cmp(wanted)),
        }
    }

    /// Whether a package that provides the name does. "If a relationship field has a version number attached, only … versioned
    /// virtual packages will be considered" (Debian Policy 7.5).
    pub fn allows_provided(&self, version: Option<&Version>) -> bool {
        match version {
            Some(version) => self.allows(version),
            None => self.constraint.is_none(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = match text.split_once('(') {
            Some((name, rest)) => (name.trim_end(), Some(rest)),
            None => (text, None),
        };
        // Only amd64 and all are in the index, so `:any` and `:amd64` say nothing; another architecture cannot be had.
        let name = name
            .strip_suffix(":any")
            .or_else(|| name.strip_suffix(":amd64"))
            .unwrap_or(name);
        let constraint = match rest {
            None => None,
            Some(rest) => Some(parse_constraint(rest.strip_suffix(')')?.trim())?),
        };
        is_package_name(name).then(|| Self {
            name: name.to_owned(),
            constraint,
        })
    }
}

fn parse_constraint(text: &str) -> Option<(Comparison, Version)> {
    let signs = Comparison::ALL;
    let found = signs
        .iter()
        .find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?)));
    let (comparison, version) = found?;
    Some((comparison, Version::parse(version.trim_start())?))
}

/// A whole field: all groups have to be fulfilled, each by one of its alternatives. `None` when it is not of that form, or
/// names more than [`RELATIONS_MAX`].
pub fn parse_field(text: &str) -> Option<Vec<Vec<Relation>>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    if text.matches([',', '|']).count() >= RELATIONS_MAX {
        return None;
    }
    let alternatives = |group: &str| {
        let relations = group.split('|').map(|one| Relation::parse(one.trim()));
        relations.collect::<Option<Vec<_>>>()
    };
    text.split(',').map(alternatives).collect()
}

/// A `Provides` field: names, some with `(= version)`.
pub fn parse_provides(text: &str) -> Option<Vec<(String, Option<Version>)>> {
    let groups = parse_field(text)?.into_iter();
    groups
        .map(|group| match <[Relation; 1]>::try_from(group) {
            Ok([relation]) => match relation.constraint {
                None => Some((relation.name, None)),
                Some((Comparison::Equal, version)) => Some((relation.name, Some(version))),
                Some(_) => None,
            },
            Err(_) => None,
        })
        .collect()
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some((comparison, version)) = &self.constraint {
            let sign = Comparison::ALL.iter().find(|(_, of)| of == comparison);
            write!(f, " ({} {version})", sign.map_or("", |(sign, _)| sign))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_reads_back_as_it_was() {
        let text = "libc6 (>= 2.38), a1 | b2 (<< 1:2~) | c3, python3:any, d4(=1)";
        let groups = parse_field(text).expect("well formed");
        let shown: Vec<Vec<String>> = groups
            .iter()
            .map(|group| group.iter().map(Relation::to_string).collect())
            .collect();
        assert_eq!(shown[0], ["libc6 (>= 2.38)"]);
        assert_eq!(shown[1], ["a1", "b2 (<< 1:2~)", "c3"]);
        assert_eq!(shown[2], ["python3"]);
        assert_eq!(shown[3], ["d4 (= 1)"]);
        assert_eq!(parse_field(" "), Some(Vec::new()));
    }

    #[test]
    fn constraints_hold_as_their_signs_say() {
        let version = Version::parse("2").expect("a version");
        for (sign, expected) in [
            ("<<", [false, false, true]),
            ("<=", [false, true, true]),
            ("=", [false, true, false]),
            (">=", [true, true, false]),
            (">>", [true, false, false]),
        ] {
            for (wanted, expected) in ["1", "2", "3"].iter().zip(expected) {
                let text = format!("ab ({sign} {wanted})");
                let field = parse_field(&text).expect("well formed");
                assert_eq!(field[0][0].allows(&version), expected, "{text}");
                assert_eq!(field[0][0].allows_provided(Some(&version)), expected);
                assert!(!field[0][0].allows_provided(None), "{text}");
            }
        }
    }

    #[test]
    fn a_malformed_field_is_refused() {
        for text in [
            "a1,",
            ",",
            "a1 |",
            "a1 (1)",
            "a1 (> 1)",
            "a1 (>= )",
            "a1 (>= 1",
            "a1 >= 1)",
            "A1",
            "a1:i386",
            "a1 (>= 1) b2",
            "a1 (>= 1 2)",
        ] {
            assert_eq!(parse_field(text), None, "{text}");
        }
        assert_eq!(parse_provides("a1 | b2"), None);
        assert_eq!(parse_provides("a1 (>= 1)"), None);
        assert!(parse_provides("a1, b2 (= 1)").is_some());
    }
}
