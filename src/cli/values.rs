//! How single words are read, and what they are if they are left out.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::hidden::reveal;
use crate::duration;

/// Bytes that a run leaves free, so that there is room to say so and to go on afterwards.
pub(super) const DEFAULT_MIN_FREE: u64 = 64 << 20;

pub(super) const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// `4096`, `64K`, `512M`, `10G`: powers of 1,024.
pub(super) fn bytes_of_size(word: &str) -> Result<u64, String> {
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
pub(super) fn share(word: &str) -> Result<f64, String> {
    let number = word.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    number
        .filter(|number| (0.0..=100.0).contains(number))
        .map(|number| number / 100.0)
        .ok_or_else(|| "must be a share such as 5%".to_owned())
}

pub(super) fn time(word: &str) -> Result<Duration, String> {
    duration::parse(word).map_err(|why| format!("it {why}; {}", duration::HELP))
}

pub(super) fn default_db() -> PathBuf {
    PathBuf::from("./db")
}

pub(super) fn path(word: &str) -> Result<PathBuf, String> {
    match reveal(word) {
        word if word.is_empty() => Err("a path can't be empty".to_owned()),
        word => Ok(PathBuf::from(word)),
    }
}

pub(super) fn bytes(word: &str) -> Result<OsString, String> {
    Ok(reveal(word))
}

pub(super) fn name(word: &str) -> Result<String, String> {
    reveal(word).into_string().map_err(|_| "a task's name has only A-Z a-z 0-9 . _ -".to_owned())
}

/// Each job is a thread, so that a slip such as -j 80000 must not get through.
pub(super) fn jobs(word: &str) -> Result<NonZeroUsize, String> {
    let number = word.parse().ok().filter(|jobs: &NonZeroUsize| jobs.get() <= 4096);
    number.ok_or_else(|| "must be a whole number from 1 to 4096".to_owned())
}

pub(super) fn attempt(word: &str) -> Result<NonZeroU32, String> {
    word.parse().map_err(|_| "must be a whole number of at least 1".to_owned())
}
