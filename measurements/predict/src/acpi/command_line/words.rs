//! One command line of a shell as words, exactly as POSIX splits it (Shell Command Language, sections 2.2 and 2.3).
//!
//! Nothing is expanded: what a shell would replace by something that is not on the line, and whatever ends the command, is refused.
//! Lines may end as on Windows.

use std::iter::Peekable;
use std::str::Chars;

use super::CommandLineError;
use crate::limits;

/// The words of a command line, without its quotes and comments.
pub fn words(line: &str) -> Result<Vec<String>, CommandLineError> {
    if line.len() > limits::QEMU_COMMAND_BYTES_MAX {
        return Err(CommandLineError::TooLong {
            what: "bytes",
            got: line.len(),
            max: limits::QEMU_COMMAND_BYTES_MAX,
        });
    }
    let text = line.replace("\r\n", "\n");
    let mut reader = Reader {
        rest: text.chars().peekable(),
        line: 1,
        words: Vec::new(),
        word: None,
        ended: false,
    };
    while let Some(letter) = reader.next()? {
        reader.unquoted(letter)?;
    }
    reader.words.extend(reader.word);
    Ok(reader.words)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    /// Of the letter that was read last, from 1.
    line: usize,
    words: Vec<String>,
    /// The word that has begun, if one has.
    word: Option<String>,
    /// Whether the end of a line has ended the command.
    ended: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<Option<char>, CommandLineError> {
        let letter = self.rest.next();
        match letter {
            Some('\n') => self.line += 1,
            Some('\0') => return Err(self.refused("a zero byte", "no argument can have one")),
            Some('\r') => {
                return Err(self.refused("a carriage return", "it does not end its line"));
            }
            _ => {}
        }
        Ok(letter)
    }

    fn unquoted(&mut self, letter: char) -> Result<(), CommandLineError> {
        match letter {
            ' ' | '\t' => self.words.extend(self.word.take()),
            '\n' => {
                self.words.extend(self.word.take());
                self.ended = !self.words.is_empty();
            }
            '#' if self.word.is_none() => {
                while self.rest.peek().is_some_and(|letter| *letter != '\n') {
                    self.next()?;
                }
            }
            '\\' => match self.next()? {
                Some('\n') => {}
                Some(letter) => self.push(letter)?,
                None => {
                    return Err(self.refused("a backslash", "nothing follows it"));
                }
            },
            '\'' => {
                self.begin()?;
                loop {
                    match self.next()?.ok_or(CommandLineError::Quote)? {
                        '\'' => break,
                        letter => self.push(letter)?,
                    }
                }
            }
            '"' => self.double_quoted()?,
            '~' if self.word.is_none() => return Err(self.replaced(letter)),
            '$' | '`' | '*' | '?' | '[' | '{' => return Err(self.replaced(letter)),
            '|' | '&' | ';' | '<' | '>' | '(' | ')' => {
                let why = "a shell ends the command here; quote it if QEMU gets it";
                return Err(self.refused(&format!("`{letter}`"), why));
            }
            letter => self.push(letter)?,
        }
        Ok(())
    }

    /// A backslash escapes five letters here, and stands for itself before all others.
    fn double_quoted(&mut self) -> Result<(), CommandLineError> {
        self.begin()?;
        loop {
            match self.next()?.ok_or(CommandLineError::Quote)? {
                '"' => return Ok(()),
                '\\' => match self.next()?.ok_or(CommandLineError::Quote)? {
                    '\n' => {}
                    letter @ ('$' | '`' | '"' | '\\') => self.push(letter)?,
                    letter => {
                        self.push('\\')?;
                        self.push(letter)?;
                    }
                },
                letter @ ('$' | '`') => return Err(self.replaced(letter)),
                letter => self.push(letter)?,
            }
        }
    }

    fn push(&mut self, letter: char) -> Result<(), CommandLineError> {
        self.begin()?.push(letter);
        Ok(())
    }

    /// The word that a letter or a quote belongs to.
    fn begin(&mut self) -> Result<&mut String, CommandLineError> {
        if self.ended {
            let why = "it is another command; end the line before it with a backslash to join them";
            return Err(self.refused("a second line", why));
        }
        Ok(self.word.get_or_insert_default())
    }

    fn replaced(&self, letter: char) -> CommandLineError {
        let letter = match letter {
            '`' => "'`'".into(),
            letter => format!("`{letter}`"),
        };
        let why =
            "a shell replaces it by what this line does not say; write the value, or quote it";
        self.refused(&letter, why)
    }

    fn refused(&self, what: &str, why: &'static str) -> CommandLineError {
        CommandLineError::Shell {
            what: what.into(),
            line: self.line,
            why,
        }
    }
}
