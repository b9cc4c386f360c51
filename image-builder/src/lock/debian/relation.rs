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
    /// Another architecture than ours, of which the package has to be: nothing here fulfils that.
    pub architecture: Option<String>,
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
    /// The last two are deprecated, and mean what apt and dpkg take them for (Debian Policy 7.1).
    const ALL: [(&'static str, Self); 7] = [
        ("<<", Self::Earlier),
        ("<=", Self::EarlierOrEqual),
        (">=", Self::LaterOrEqual),
        (">>", Self::Later),
        ("=", Self::Equal),
        ("<", Self::EarlierOrEqual),
        (">", Self::LaterOrEqual),
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
        self.architecture.is_none()
            && match &self.constraint {
                None => true,
                Some((comparison, wanted)) => comparison.holds(version.cmp(wanted)),
            }
    }

    /// Whether a package that provides the name does. "If a relationship field has a version number attached, only … versioned
    /// virtual packages will be considered" (Debian Policy 7.5).
    pub fn allows_provided(&self, version: Option<&Version>) -> bool {
        match version {
            Some(version) => self.allows(version),
            None => self.architecture.is_none() && self.constraint.is_none(),
        }
    }

    /// Reads `name[:architecture] [(sign version)] [[architectures]] [<profiles>]…`. `Some(None)` if it does not apply to an amd64
    /// that builds nothing (Debian Policy 7.1; the last two are for sources, and say the same in an index).
    fn parse(text: &str) -> Option<Option<Self>> {
        let end = text.find(|c: char| c.is_ascii_whitespace() || "([<".contains(c));
        let (name, mut rest) = text.split_at(end.unwrap_or(text.len()));
        let mut constraint = None;
        let (mut applies, mut profiles) = (true, None);
        rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('(') {
            let (inner, behind) = inner.split_once(')')?;
            constraint = Some(parse_constraint(inner.trim())?);
            rest = behind.trim_start();
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (inner, behind) = inner.split_once(']')?;
            applies = names_amd64(inner)?;
            rest = behind.trim_start();
        }
        while let Some(inner) = rest.strip_prefix('<') {
            let (inner, behind) = inner.split_once('>')?;
            let mut terms = inner.split_ascii_whitespace().peekable();
            terms.peek()?;
            // No profile is active: a list holds if all of its terms deny one, and one list is enough.
            let holds = terms.all(|term| term.starts_with('!'));
            profiles = Some(profiles.unwrap_or(false) || holds);
            rest = behind.trim_start();
        }
        if !rest.is_empty() {
            return None;
        }
        let (name, architecture) = match name.split_once(':') {
            None => (name, None),
            // Only amd64 and all are in the index, and both are ours.
            Some((name, "any" | "native" | "amd64" | "all")) => (name, None),
            Some((name, other)) => (
                name,
                is_architecture(other).then(|| Some(other.to_owned()))?,
            ),
        };
        let relation = is_package_name(name).then(|| Self {
            name: name.to_owned(),
            architecture,
            constraint,
        })?;
        Some((applies && profiles.unwrap_or(true)).then_some(relation))
    }
}

/// Whether a list of architectures (`amd64 i386`, `!s390x`, `linux-any`) takes in ours. None if it is not such a list.
fn names_amd64(list: &str) -> Option<bool> {
    let mut denied = None;
    let mut named = false;
    for word in list.split_ascii_whitespace() {
        let (denies, word) = word
            .strip_prefix('!')
            .map_or((false, word), |word| (true, word));
        // All of a list's words deny, or none does.
        if *denied.get_or_insert(denies) != denies || !is_architecture(word) {
            return None;
        }
        let (system, processor) = word.rsplit_once('-').unwrap_or(("linux", word));
        let system = match (system, word) {
            (_, "any") => true,
            (system, _) => system
                .split('-')
                .all(|part| ["any", "linux", "gnu", "base"].contains(&part)),
        };
        named |= system && ["amd64", "any"].contains(&processor);
    }
    Some(named != denied?)
}

/// Whether an architecture can be called so.
pub(super) fn is_architecture(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !word.is_empty() && word.bytes().all(plain)
}

fn parse_constraint(text: &str) -> Option<(Comparison, Version)> {
    let signs = Comparison::ALL;
    let found = signs
        .iter()
        .find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?)));
    let (comparison, version) = found?;
    Some((comparison, Version::parse(version.trim_start())?))
}

/// A whole field: all groups have to be fulfilled, each by one of its alternatives; a comma may stand at the end. `None` when it is
/// not of that form, or names more than [`RELATIONS_MAX`].
pub fn parse_field(text: &str) -> Option<Vec<Vec<Relation>>> {
    let groups = split(text)?;
    let alternatives = |group: &str| {
        let relations = group.split('|').map(|one| Relation::parse(one.trim()));
        relations.collect::<Option<Vec<_>>>()
    };
    let groups = groups
        .into_iter()
        .map(alternatives)
        .collect::<Option<Vec<_>>>()?;
    // A group of which nothing applies asks for nothing.
    let applying = groups
        .into_iter()
        .map(|group| group.into_iter().flatten().collect());
    Some(
        applying
            .filter(|group: &Vec<_>| !group.is_empty())
            .collect(),
    )
}

/// What a package stands in for, each name with the version if it has one; and what its field says that provides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provides {
    /// What others may depend on.
    pub names: Vec<(String, Option<Version>)>,
    /// As it stands in the field: alternatives, other signs than `=`, and what is no relation at all.
    pub ignored: Vec<String>,
}

/// A `Provides` field: names, some with `(= version)`. What is more than that is passed over, as apt does, and so are names for
/// other architectures. `None` for more than [`RELATIONS_MAX`].
pub fn parse_provides(text: &str) -> Option<Provides> {
    let mut provides = Provides::default();
    for item in split(text)? {
        match Relation::parse(item.trim()) {
            None => provides.ignored.push(item.trim().to_owned()),
            Some(None) => {}
            Some(Some(relation)) => match relation.constraint {
                _ if relation.architecture.is_some() => {}
                None => provides.names.push((relation.name, None)),
                Some((Comparison::Equal, version)) => {
                    provides.names.push((relation.name, Some(version)))
                }
                Some(_) => provides.ignored.push(item.trim().to_owned()),
            },
        }
    }
    Some(provides)
}

/// The first group of a field that is not of the form that one has.
pub(super) fn first_malformed(field: &str) -> &str {
    let bad = |group: &&str| {
        group
            .split('|')
            .any(|one| Relation::parse(one.trim()).is_none())
    };
    let groups = split(field).unwrap_or_default();
    groups.into_iter().find(bad).map_or(field, str::trim)
}

/// The parts between commas, without an empty one at the end.
fn split(text: &str) -> Option<Vec<&str>> {
    if text.matches([',', '|']).count() >= RELATIONS_MAX {
        return None;
    }
    let mut parts: Vec<&str> = text.split(',').collect();
    if parts.last().is_some_and(|last| last.trim().is_empty()) {
        parts.pop();
    }
    Some(parts)
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(architecture) = &self.architecture {
            write!(f, ":{architecture}")?;
        }
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
            ",",
            ",,",
            "a1,,",
            "a1 |",
            "a1 (1)",
            "a1 (=> 1)",
            "a1 (== 1)",
            "a1 (>= )",
            "a1 (>= 1",
            "a1 >= 1)",
            "A1",
            "a1:",
            "a1:i386:amd64",
            "a1:I386",
            ":i386",
            "a1 []",
            "a1 [amd64 !i386]",
            "a1 [amd64",
            "a1 <>",
            "a1 <!nocheck",
            "a1 [amd64] (>= 1)",
            "a1 (>= 1) b2",
            "a1 (>= 1 2)",
        ] {
            assert_eq!(parse_field(text), None, "{text}");
        }
    }

    #[test]
    fn a_comma_at_the_end_is_taken_and_deprecated_signs_are_the_ones_with_an_equals() {
        for (text, expected) in [
            ("a1, ", "a1"),
            ("a1 | b2,", "a1 | b2"),
            ("a1 (< 2), b2(> 1),", "a1 (<= 2), b2 (>= 1)"),
            ("a1(<2:1~)", "a1 (<= 2:1~)"),
        ] {
            let show = |group: &Vec<Relation>| {
                let shown: Vec<_> = group.iter().map(Relation::to_string).collect();
                shown.join(" | ")
            };
            let groups = parse_field(text).expect(text);
            assert_eq!(
                groups.iter().map(show).collect::<Vec<_>>().join(", "),
                expected
            );
        }
    }

    #[test]
    fn what_has_to_be_of_another_architecture_is_fulfilled_by_nothing() {
        let version = Version::parse("2").expect("a version");
        let one = |text: &str| parse_field(text).expect(text).remove(0).remove(0);
        for text in ["a1:i386", "a1:i386 (>= 1)", "a1:kfreebsd-amd64", "a1:s390x"] {
            let relation = one(text);
            assert!(!relation.allows(&version), "{text}");
            assert!(!relation.allows_provided(Some(&version)) && !relation.allows_provided(None));
            assert_eq!(relation.to_string(), text);
        }
        for text in ["a1:any", "a1:native", "a1:amd64", "a1:all", "a1:any (>= 1)"] {
            assert!(one(text).allows(&version), "{text}");
            assert_eq!(one(text).name, "a1");
        }
    }

    #[test]
    fn what_does_not_apply_to_an_amd64_that_builds_nothing_is_left_out() {
        for (text, expected) in [
            ("a1 [amd64]", 1),
            ("a1 (>= 1) [amd64 arm64] <!nocheck>", 1),
            ("a1 [i386 arm64]", 0),
            ("a1 [!i386]", 1),
            ("a1 [!amd64]", 0),
            ("a1 [linux-any]", 1),
            ("a1 [any]", 1),
            ("a1 [any-amd64]", 1),
            ("a1 [gnu-any-any]", 1),
            ("a1 [musl-linux-amd64]", 0),
            ("a1 [hurd-any]", 0),
            ("a1 [!hurd-any]", 1),
            ("a1 [!linux-any]", 0),
            ("a1 <nocheck>", 0),
            ("a1 <!nocheck !stage1>", 1),
            ("a1 <!nocheck stage1>", 0),
            ("a1 <nocheck> <!stage1>", 1),
            ("a1 [i386] | b2", 1),
        ] {
            let groups = parse_field(text).expect(text);
            assert_eq!(groups.concat().len(), expected, "{text}");
            assert_eq!(groups.len(), expected.min(1), "{text}");
        }
    }

    #[test]
    fn a_package_provides_what_its_field_says_plainly_and_nothing_else() {
        let provides =
            parse_provides("a1, b2 (= 1), c3 (>= 1), d4 | e5, f6:i386, g7:any (= 2), H8, ");
        let provides = provides.expect("few enough");
        let names: Vec<_> = provides
            .names
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["a1", "b2", "g7"]);
        assert_eq!(provides.ignored, ["c3 (>= 1)", "d4 | e5", "H8"]);
        assert_eq!(parse_provides(" "), Some(Provides::default()));
        assert_eq!(parse_provides(&"a1,".repeat(RELATIONS_MAX)), None);
    }
}
