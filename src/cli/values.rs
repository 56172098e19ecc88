//! How the values of options and arguments are read, and their defaults.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgValue;

use super::token::decode;
use crate::duration;
use crate::manifest::resource_mistake;
use crate::size;

/// `4096` as bytes; also as a manifest writes sizes: powers of 1,024.
pub(crate) fn bytes_of_size(word: &str) -> Result<u64, String> {
    let read = word.parse().ok().or_else(|| size::parse(word).ok());
    read.ok_or_else(|| "must be a size such as 512M or 10G".to_owned())
}

/// `8G`, and more than nothing.
pub(crate) fn memory(word: &str) -> Result<u64, String> {
    match size::parse(word) {
        Ok(0) => Err("no step could run; name the memory that there is, such as 8G".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(why) => Err(format!("it {why}; write a size such as 512M or 8G")),
    }
}

/// `gpu=2`
pub(crate) fn resource(word: &str) -> Result<(String, usize), String> {
    let (name, number) = word.split_once('=').unwrap_or((word, ""));
    let number = number.parse().ok().filter(|_| resource_mistake(name).is_none());
    let number =
        number.ok_or_else(|| "must be a name, `=` and a number: --have gpu=2".to_owned())?;
    Ok((name.to_owned(), number))
}

/// `5%`, as a share from 0 to 1.
pub(crate) fn share(word: &str) -> Result<f64, String> {
    let number = word.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    number
        .filter(|number| (0.0..=100.0).contains(number))
        .map(|number| number / 100.0)
        .ok_or_else(|| "must be a share such as 5%".to_owned())
}

pub(crate) fn time(word: &str) -> Result<Duration, String> {
    duration::parse(word).map_err(|why| format!("it {why}; {}", duration::HELP))
}

pub(crate) fn default_db() -> PathBuf {
    PathBuf::from("./db")
}

pub(crate) fn path(word: &str) -> Result<PathBuf, String> {
    match decode(word) {
        word if word.is_empty() => Err("a path can't be empty".to_owned()),
        word => Ok(PathBuf::from(word)),
    }
}

pub(crate) fn bytes(word: &str) -> Result<OsString, String> {
    Ok(decode(word))
}

pub(crate) fn name(word: &str) -> Result<String, String> {
    decode(word).into_string().map_err(|_| "a task's name has only A-Z a-z 0-9 . _ -".to_owned())
}

/// `NAME=VALUE`
pub(crate) fn param(word: &str) -> Result<(String, String), String> {
    let word = decode(word).into_string().map_err(|_| "it is not UTF-8".to_owned())?;
    let pair = word.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) =
        pair.ok_or_else(|| "must be a name, `=` and a value: -P seed=7".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Each job is a thread, so a slip such as -j 80000 must be refused.
pub(crate) fn jobs(word: &str) -> Result<NonZeroUsize, String> {
    let number = word.parse().ok().filter(|jobs: &NonZeroUsize| jobs.get() <= 4096);
    number.ok_or_else(|| "must be a whole number from 1 to 4096".to_owned())
}

pub(crate) fn attempt(word: &str) -> Result<NonZeroU32, String> {
    word.parse().map_err(|_| "must be a whole number of at least 1".to_owned())
}

/// `--color`
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Colours on a terminal, unless the environment says otherwise.
    Auto,
    Always,
    Never,
}

impl Color {
    /// Decides as most programs do: NO_COLOR wins over CLICOLOR_FORCE, which wins over CLICOLOR=0; all
    /// three win over whether the output is a terminal.
    pub fn decide(self, is_terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> bool {
        let is_set = |name: &str| env(name).filter(|value| !value.is_empty());
        let is_zero = |value: OsString| value == OsStr::new("0");
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if is_set("NO_COLOR").is_some() => false,
            Color::Auto if is_set("CLICOLOR_FORCE").is_some_and(|value| !is_zero(value)) => true,
            Color::Auto if is_set("CLICOLOR").is_some_and(is_zero) => false,
            Color::Auto => {
                is_terminal && env("TERM").is_some_and(|term| term != OsStr::new("dumb"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment_and_that_over_the_terminal() {
        let decide = |color: Color, is_terminal, set: &[(&str, &str)]| {
            color.decide(is_terminal, |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        let term = ("TERM", "xterm");
        assert!(decide(Color::Auto, true, &[term]));
        assert!(!decide(Color::Auto, false, &[term]));
        assert!(!decide(Color::Auto, true, &[("TERM", "dumb")]) && !decide(Color::Auto, true, &[]));
        assert!(!decide(Color::Auto, true, &[term, ("NO_COLOR", "1")]));
        assert!(decide(Color::Auto, true, &[term, ("NO_COLOR", "")]));
        assert!(decide(Color::Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!decide(Color::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!decide(Color::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!decide(Color::Auto, true, &[term, ("CLICOLOR", "0")]));
        assert!(decide(Color::Always, false, &[("NO_COLOR", "1")]));
        assert!(!decide(Color::Never, true, &[term, ("CLICOLOR_FORCE", "1")]));
    }
}
