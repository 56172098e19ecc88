//! How the values of options and arguments are read, and their defaults.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgValue;

use super::token::decode;
use crate::duration;

/// `4096`, `64K`, `512M`, `10G`: powers of 1,024.
pub(crate) fn bytes_of_size(word: &str) -> Result<u64, String> {
    let (digits, unit) = match word.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => (&word[..at], Some(unit)),
        _ => (word, None),
    };
    let shift = match unit {
        None => Some(0),
        Some('k' | 'K') => Some(10),
        Some('m' | 'M') => Some(20),
        Some('g' | 'G') => Some(30),
        Some('t' | 'T') => Some(40),
        Some(_) => None,
    };
    let number = digits.parse::<u64>().ok().zip(shift);
    number
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| "must be a size such as 512M or 10G".to_owned())
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
