//! The value of one option: what comes first, and settings behind commas.

use super::{CommandLineError, setting, short};

/// One option's settings. Whoever reads takes those it knows and says in the end what else may be there.
pub struct Settings {
    option: String,
    head: Option<String>,
    list: Vec<(String, String)>,
}

impl Settings {
    /// Splits at single commas; a doubled one is part of a value. A setting without a value is switched on. JSON is refused.
    pub fn read(option: &str, value: &str) -> Result<Settings, CommandLineError> {
        if value.starts_with('{') {
            return Err(setting(option, value));
        }
        let mut parts = vec![String::new()];
        let mut letters = value.chars().peekable();
        while let Some(letter) = letters.next() {
            match (letter, parts.last_mut()) {
                (',', _) if letters.next_if_eq(&',').is_none() => parts.push(String::new()),
                (_, Some(part)) => part.push(letter),
                (_, None) => {}
            }
        }
        let head = parts.first().filter(|first| !first.contains('=')).cloned();
        let rest = parts.into_iter().skip(usize::from(head.is_some()));
        let list = rest.map(|part| match part.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (part, "on".to_owned()),
        });
        Ok(Settings {
            option: option.into(),
            head,
            list: list.collect(),
        })
    }

    /// The same under a longer name.
    pub fn of(self, option: String) -> Settings {
        Settings { option, ..self }
    }

    /// What comes first, or the setting of this name.
    pub fn head_or(&mut self, name: &str) -> Result<String, CommandLineError> {
        match (self.head.take(), self.take(name)?) {
            (Some(head), None) | (None, Some(head)) => Ok(head),
            (Some(head), Some(_)) => Err(self.refused(&head)),
            (None, None) => Err(self.refused("")),
        }
    }

    /// Takes a setting out.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, CommandLineError> {
        let mut found = self.list.extract_if(.., |(known, _)| known == name);
        let first = found.next();
        match found.next() {
            None => Ok(first.map(|(_, value)| value)),
            Some(_) => Err(CommandLineError::Twice {
                what: format!("{} of {}", short(name), short(&self.option)),
            }),
        }
    }

    /// Takes a setting out that has one of these values.
    pub fn switch(
        &mut self,
        name: &str,
        values: &[&str],
    ) -> Result<Option<String>, CommandLineError> {
        match self.take(name)? {
            Some(value) if !values.contains(&value.as_str()) => {
                Err(self.refused(&format!("{name}={value}")))
            }
            value => Ok(value),
        }
    }

    /// That a setting is there and has one of these values.
    pub fn expect(&mut self, name: &str, values: &[&str]) -> Result<(), CommandLineError> {
        match self.switch(name, values)? {
            Some(_) => Ok(()),
            None => Err(self.refused(&format!("no {name}"))),
        }
    }

    /// That nothing else is left than these.
    pub fn only(&self, allowed: &[&str]) -> Result<(), CommandLineError> {
        self.none(|name| !allowed.contains(&name))
    }

    /// That nothing is left of which this is true.
    pub fn none(&self, refused: impl Fn(&str) -> bool) -> Result<(), CommandLineError> {
        match self.list.iter().find(|(name, _)| refused(name)) {
            Some((name, value)) => Err(self.refused(&format!("{name}={value}"))),
            None => Ok(()),
        }
    }

    /// The refusal of one setting.
    pub fn refused(&self, got: &str) -> CommandLineError {
        setting(&self.option, got)
    }
}
