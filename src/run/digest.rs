//! The end of a log, and other short forms of long things.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use crate::error::{OrIo, Result};

/// Lines of a failed step's log that are shown at once.
pub(crate) const TAIL_LINES: usize = 20;

/// No more than this is read for them.
const TAIL_BYTES: u64 = 16 << 10;

/// The last lines of a log, without line ends.
pub(crate) fn tail(log: &mut File, path: &std::path::Path, lines: usize) -> Result<Vec<Vec<u8>>> {
    let size = log.metadata().or_io("read the log", path)?.len();
    let from = size.saturating_sub(TAIL_BYTES);
    log.seek(SeekFrom::Start(from)).or_io("read the log", path)?;
    let mut bytes = Vec::new();
    log.take(TAIL_BYTES).read_to_end(&mut bytes).or_io("read the log", path)?;
    Ok(last_lines(&bytes, lines, from > 0))
}

fn last_lines(bytes: &[u8], lines: usize, cut: bool) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut all: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    // The first line of a part may be the end of one; shown only if there is nothing else.
    if cut && all.len() > 1 {
        all.remove(0);
    }
    all.split_off(all.len().saturating_sub(lines))
}

/// A moment as `2026-01-31 12:34:56 UTC`.
pub(crate) fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, time) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Civil date from days since 1970-01-01, in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_lines() {
        let tail = |text: &str, lines, cut| {
            let lines = last_lines(text.as_bytes(), lines, cut);
            lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(tail("a\nb\nc\n", 2, false), ["b", "c"]);
        assert_eq!(tail("a\nb", 5, true), ["b"]);
        assert_eq!(tail("", 5, false), [""; 0]);
    }

    #[test]
    fn a_moment_reads_as_a_calendar_has_it() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31 23:59:59 UTC");
    }
}
