//! Rust text without its comments and literals, so that a rule reads code and not what is said about it.

/// `text` with comments, strings and character literals blanked out; lines stay where they were.
pub fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = literal_or_comment(rest, code.chars().next_back());
        let length = if token == 0 { first.len_utf8() } else { token };
        let (taken, after) = rest.split_at(length);
        if token == 0 {
            code.push_str(taken);
        } else {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// Code with the bodies of `#[cfg(test)]` modules blanked out too.
pub fn shipped_code_of(text: &str) -> String {
    let mut code = code_of(text);
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|at| at + from) {
        let end = item_end(&code, at);
        let blank: String = code[at..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        code.replace_range(at..end, &blank);
        from = at + blank.len();
    }
    code
}

/// Lines of `text` without those of its `#[cfg(test)]` items; comments and blank lines count.
pub fn shipped_lines(text: &str) -> usize {
    let code = code_of(text);
    let (mut from, mut tests) = (0, 0);
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|at| at + from) {
        from = item_end(&code, at);
        tests += code[at..from].lines().count();
    }
    code.lines().count() - tests
}

/// The names in `#[cfg(test)] mod name;`, whose files are not shipped either.
pub fn test_modules_of(text: &str) -> Vec<String> {
    let code = code_of(text);
    let after = |at: usize| &code[at + "#[cfg(test)]".len()..];
    let items = code
        .match_indices("#[cfg(test)]")
        .map(|(at, _)| after(at).trim_start());
    let items = items.map(|item| item.trim_start_matches("pub").trim_start_matches("(crate)"));
    let names = items.filter_map(|item| item.trim_start().strip_prefix("mod ")?.split_once(';'));
    names
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| !name.contains(['{', ' ']))
        .collect()
}

/// Whether `word` stands in `code` as a whole word; how often.
pub fn count_word(code: &str, word: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |(at, _): &(usize, &str)| {
        !code[..*at].ends_with(part) && !code[at + word.len()..].starts_with(part)
    };
    code.match_indices(word).filter(whole).count()
}

/// How many bytes of a literal or comment `rest` opens with; 0 when it is code. `before` tells `r"` from the end of a name.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if !in_name && let Some(length) = raw_string(rest) {
        return length;
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    // A quote is a character literal only if it closes after one character; otherwise it is a lifetime.
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => quoted(rest, '\''),
        (Some('\''), Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(next) = rest.get(at..).filter(|next| !next.is_empty()) {
        let step = match next.as_bytes() {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => next.chars().next().map_or(1, char::len_utf8),
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let after_r = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let body = after_r.trim_start_matches('#');
    let hashes = after_r.len() - body.len();
    let close = format!("\"{}", "#".repeat(hashes));
    let inside = body.strip_prefix('"')?;
    let end = inside
        .find(&close)
        .map_or(inside.len(), |at| at + close.len());
    Some(rest.len() - inside.len() + end)
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The end of the item at `at`: its closing brace, or the semicolon if that comes first.
fn item_end(code: &str, at: usize) -> usize {
    let mut depth = 0usize;
    for (offset, c) in code[at..].char_indices() {
        match c {
            ';' if depth == 0 => return at + offset + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + offset + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn literals_and_comments_are_not_code() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"g \\\" h\")", "f(        )"),
        ("r#\"x \" y\"# z", "           z"),
        ("bar\"x\"", "bar   "),
        ("'x' '\\'' &'a b", "         &'a b"),
    ];
    for (text, expected) in cases {
        assert_eq!(code_of(text).trim_end(), expected.trim_end(), "{text}");
    }
}

#[test]
fn test_modules_are_not_shipped() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { { } } }\nfn c() {}\n#[cfg(test)]\npub(crate) mod d;\nfn e() {}";
    let code = shipped_code_of(text);
    assert!(code.contains("fn a") && code.contains("fn c") && code.contains("fn e"));
    assert!(!code.contains("fn b") && !code.contains("mod d"));
    assert_eq!(test_modules_of(text), ["d"]);
    assert_eq!((text.lines().count(), shipped_lines(text)), (7, 3));
    assert_eq!(count_word("ab a a_b (a)", "a"), 2);
}
