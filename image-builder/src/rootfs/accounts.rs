//! `/etc/passwd` and `/etc/group`: what `base-passwd` has, and what the packages' `sysusers.d` add (sysusers.d(5)).
//!
//! No `shadow`: no password opens anything in an image. A number that a package leaves open is the highest free one up to 999,
//! in the order of the files' names and their lines, as `systemd-sysusers` gives them on a system where nothing was before.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAKER, unmakeable};
use crate::error::Error;
use crate::formats::entry::{Entry, What};
use crate::limits::ACCOUNTS_BYTES_MAX;

/// Adds the lines of `sysusers.d` to both files, and makes the files if there is a line and no file.
pub fn add(entries: &mut Vec<Entry>) -> Result<(), Error> {
    let mut lines = Vec::new();
    // Entries may be in any order here; a file of the same name in /etc would win, and no package has one.
    let mut files: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries.iter() {
        let name = entry.path.strip_prefix("/usr/lib/sysusers.d/");
        if let Some(name) = name.filter(|name| name.ends_with(".conf") && !name.contains('/')) {
            files.insert(name, entry);
        }
        if entry.path.starts_with("/etc/sysusers.d/") && matches!(entry.what, What::File { .. }) {
            return Err(unmakeable(
                entry,
                "overrides accounts, which this version does not know how to make",
            ));
        }
    }
    for file in files.into_values() {
        for line in text(file)?.lines() {
            let words = words(line).ok_or_else(|| not_a_line(file, line))?;
            if !words.is_empty() {
                lines.push((file, words));
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let mut accounts = Accounts::of(entries)?;
    for (file, words) in &lines {
        accounts
            .take(words)
            .ok_or_else(|| not_a_line(file, &words.join(" ")))?;
    }
    let (passwd, group) = accounts.texts();
    for (path, text) in [(PASSWD, passwd), (GROUP, group)] {
        entries.retain(|entry| entry.path != path);
        entries.push(Entry::memory(path, 0o644, text.into_bytes(), MAKER.into()));
    }
    Ok(())
}

fn not_a_line(file: &Entry, line: &str) -> Error {
    let line: String = line.chars().take(80).collect();
    unmakeable(
        file,
        format!("has a line that this version does not know how to make: {line}"),
    )
}

/// Both files under way.
#[derive(Default)]
struct Accounts {
    /// Lines of passwd: fields by name, in order.
    users: Vec<Vec<String>>,
    groups: Vec<Vec<String>>,
}

impl Accounts {
    fn of(entries: &[Entry]) -> Result<Self, Error> {
        let table = |path: &str, fields: usize| -> Result<Vec<Vec<String>>, Error> {
            let Some(entry) = entries.iter().find(|entry| entry.path == path) else {
                return Ok(Vec::new());
            };
            let mut table = Vec::new();
            for line in text(entry)?.lines() {
                let row: Vec<String> = line.split(':').map(String::from).collect();
                if row.len() != fields {
                    return Err(not_a_line(entry, line));
                }
                table.push(row);
            }
            Ok(table)
        };
        Ok(Self {
            users: table(PASSWD, 7)?,
            groups: table(GROUP, 4)?,
        })
    }

    /// Does what one line asks for; `None` when it asks for what is not known here.
    fn take(&mut self, words: &[String]) -> Option<()> {
        let word = |at: usize| {
            words
                .get(at)
                .map(String::as_str)
                .filter(|word| *word != "-")
        };
        let name = word(1).filter(|name| is_account(name))?;
        match word(0)? {
            "g" => self.group(name, word(2)).map(drop),
            "u" | "u!" => {
                if self.users.iter().any(|user| user[0] == name) {
                    return Some(());
                }
                let (user, group) = self.numbers(name, word(2))?;
                let (comment, home) = (word(3).unwrap_or(""), word(4).unwrap_or("/"));
                let shell = word(5).unwrap_or("/usr/sbin/nologin");
                let number = [user.to_string(), group.to_string()];
                let [user, group] = number.each_ref().map(String::as_str);
                self.users.push(
                    [name, "!*", user, group, comment, home, shell]
                        .map(String::from)
                        .into(),
                );
                Some(())
            }
            "m" => {
                let user = name;
                self.group(word(2)?, None)?;
                let group = self
                    .groups
                    .iter_mut()
                    .find(|group| Some(group[0].as_str()) == word(2))?;
                let members = &mut group[3];
                if !members.split(',').any(|member| member == user) {
                    let comma = if members.is_empty() { "" } else { "," };
                    members.push_str(&format!("{comma}{user}"));
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Of a user and the group that it gets: `NUMBER`, `NUMBER:GROUP` or nothing, which is the highest that is free for both.
    fn numbers(&mut self, name: &str, id: Option<&str>) -> Option<(u32, u32)> {
        let (user, group) = match id {
            None => (None, None),
            Some(id) => match id.split_once(':') {
                None => (Some(id.parse().ok()?), None),
                Some((user, group)) => (Some(user.parse().ok()?), Some(group)),
            },
        };
        if let Some(group) = group {
            let number = match group.parse() {
                Ok(number) => number,
                Err(_) => self.group(group, None)?,
            };
            return Some((user?, number));
        }
        if let Some(found) = self.groups.iter().find(|row| row[0] == name) {
            let group = found[2].parse().ok()?;
            return Some((user.or(Some(group))?, group));
        }
        let number: u32 = user.or_else(|| self.free())?;
        let group = self.group(name, Some(&number.to_string()))?;
        Some((number, group))
    }

    /// The number of the group, which is made if it is not there.
    fn group(&mut self, name: &str, id: Option<&str>) -> Option<u32> {
        if let Some(found) = self.groups.iter().find(|group| group[0] == name) {
            return found[2].parse().ok();
        }
        let number = match id {
            Some(id) => id.parse().ok()?,
            None => self.free()?,
        };
        if !is_account(name) {
            return None;
        }
        self.groups.push(vec![
            name.into(),
            "!*".into(),
            number.to_string(),
            String::new(),
        ]);
        Some(number)
    }

    fn free(&self) -> Option<u32> {
        let rows = self.users.iter().chain(&self.groups);
        let taken: BTreeSet<u32> = rows.filter_map(|row| row[2].parse().ok()).collect();
        (100..=999).rev().find(|number| !taken.contains(number))
    }

    fn texts(&self) -> (String, String) {
        let text = |rows: &[Vec<String>]| rows.iter().map(|row| row.join(":") + "\n").collect();
        (text(&self.users), text(&self.groups))
    }
}

/// The form of a name that Debian's own accounts have (`adduser`'s default).
fn is_account(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    name.len() <= 31
        && name.bytes().next().is_some_and(letter)
        && name
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit() || byte == b'-')
}

/// The words of a line, `"…"` being one; none in a comment. `None` when a quote is left open or a word could leave its field.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.starts_with('#') {
        return Some(Vec::new());
    }
    let (mut words, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        if word.contains(['\n', '\\', '%', '"']) || (word.contains(':') && words.len() != 2) {
            return None;
        }
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Some(words)
}

fn text(entry: &Entry) -> Result<String, Error> {
    super::text(entry, ACCOUNTS_BYTES_MAX)
}

/// Where the users are.
pub const PASSWD: &str = "/etc/passwd";
/// Where the groups are.
pub const GROUP: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(conf: &str) -> Result<(String, String), Error> {
        let file = |path: &str, text: &str| Entry::memory(path, 0o644, text.into(), "p 1".into());
        let mut entries = vec![
            file("/usr/lib/sysusers.d/b.conf", conf),
            file("/usr/lib/sysusers.d/a.conf", "# first\nu first -\n"),
            file(PASSWD, "root:*:0:0:root:/root:/bin/bash\n"),
            file(GROUP, "root:*:0:\nmail:*:8:\n"),
        ];
        add(&mut entries)?;
        let find = |path| {
            text(
                entries
                    .iter()
                    .find(|entry| entry.path == path)
                    .expect("there"),
            )
        };
        Ok((find(PASSWD)?, find(GROUP)?))
    }

    #[test]
    fn accounts_are_numbered_by_the_order_of_files_and_lines() {
        let conf = "u messagebus - \"System Message Bus\"\n\ng  input -\nu fixed 70 - /var/f /bin/sh\nu mail 9 -\nm fixed mail\nm other mail\n";
        let (passwd, group) = check(conf).expect("known lines");
        assert_eq!(
            passwd,
            "root:*:0:0:root:/root:/bin/bash\n\
             first:!*:999:999::/:/usr/sbin/nologin\n\
             messagebus:!*:998:998:System Message Bus:/:/usr/sbin/nologin\n\
             fixed:!*:70:70::/var/f:/bin/sh\n\
             mail:!*:9:8::/:/usr/sbin/nologin\n"
        );
        assert_eq!(
            group,
            "root:*:0:\nmail:*:8:fixed,other\nfirst:!*:999:\nmessagebus:!*:998:\ninput:!*:997:\nfixed:!*:70:\n"
        );
    }

    #[test]
    fn a_line_that_means_something_else_is_refused() {
        for bad in [
            "r - 500-900",
            "u",
            "u a /etc/passwd",
            "u a 1:2:3",
            "x a -",
            "u a - \"open",
            "u a - a:b",
            "u a - %H",
            "u a 70000000000",
        ] {
            assert!(
                check(bad).is_err_and(|error| error.to_string().contains(" has a line ")),
                "{bad}"
            );
        }
    }
}
