//! Durations as a manifest and the command line write them: `30s`, `500ms`, `1h30m`, `1.5s`.

use std::time::Duration;

/// With their nanoseconds. A duration names them in this order, each at most once.
const UNITS: [(&str, u128); 4] =
    [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];

/// 100 years, in nanoseconds: adding a duration to a point in time must not overflow.
const LONGEST: u128 = 100 * 365 * 24 * 3_600_000_000_000;

/// What to write instead.
pub(crate) const HELP: &str =
    "write a number and its unit, such as \"500ms\", \"30s\" or \"1h30m\"";

/// Reads a duration.
///
/// # Errors
/// What is wrong, to follow "the duration": "has no unit".
pub(crate) fn parse(text: &str) -> Result<Duration, &'static str> {
    let mut nanos: u128 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    if rest.is_empty() {
        return Err("is empty");
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
        rest = after;
        if number.is_empty() {
            return Err("has no number where one belongs");
        }
        if unit.is_empty() {
            return Err("has no unit");
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err("has a unit other than h, m, s and ms");
        }
        let Some((_, size)) = units.find(|(name, _)| *name == unit) else {
            return Err("names its units twice or in disorder");
        };
        nanos += times(number, *size)?;
        if nanos > LONGEST {
            return Err("is longer than 100 years");
        }
    }
    let secs = u64::try_from(nanos / 1_000_000_000).map_err(|_| "is longer than 100 years")?;
    // Below 10^9, so it fits.
    Ok(Duration::new(secs, (nanos % 1_000_000_000) as u32))
}

/// A decimal number times a unit, in whole nanoseconds.
fn times(number: &str, size: u128) -> Result<u128, &'static str> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err("has a number that can't be read");
    }
    // Only digits are left, so the number can only be too large.
    let whole: u64 = whole.parse().map_err(|_| "is longer than 100 years")?;
    let mut nanos = u128::from(whole) * size;
    let mut part = size;
    for digit in fraction.bytes().take(18) {
        part /= 10;
        nanos += u128::from(digit - b'0') * part;
    }
    Ok(nanos)
}

fn split(text: &str, belongs: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_read_as_written() {
        let ms = |text| parse(text).map(|span| span.as_millis());
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("1h2m3s4ms"), Ok(3_723_004));
        assert_eq!(ms("1.5s"), Ok(1500));
        assert_eq!(ms("0.25h"), Ok(900_000));
        assert_eq!(ms("0s"), Ok(0));
        assert_eq!(parse("1.000000001s"), Ok(Duration::new(1, 1)));
        assert_eq!(ms("876000h"), Ok(100 * 365 * 24 * 3_600_000));
    }

    #[test]
    fn anything_else_says_what_is_wrong_with_it() {
        let why = |text: &str| parse(text).expect_err(text);
        assert_eq!(why(""), "is empty");
        assert_eq!(why("30"), "has no unit");
        assert_eq!(why("s"), "has no number where one belongs");
        assert_eq!(why("-5s"), "has no number where one belongs");
        assert_eq!(why("5 s"), "has no unit");
        assert_eq!(why("5d"), "has a unit other than h, m, s and ms");
        assert_eq!(why("5S"), "has a unit other than h, m, s and ms");
        assert_eq!(why("30s1m"), "names its units twice or in disorder");
        assert_eq!(why("1s1s"), "names its units twice or in disorder");
        assert_eq!(why("1.2.3s"), "has a number that can't be read");
        assert_eq!(why(".5s"), "has a number that can't be read");
        assert_eq!(why("٣s"), "has no number where one belongs");
        assert_eq!(why("876000h1ms"), "is longer than 100 years");
        assert_eq!(why("99999999999999999999999h"), "is longer than 100 years");
    }
}
