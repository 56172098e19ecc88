//! A table as text: columns as wide as what is in them, without those that say nothing, and no wider than the terminal.

use std::io::Write;

use unicode_width::UnicodeWidthStr as _;

use crate::text::cut;

use super::style::Style;

/// A first column isn't cut to less than this while others can be left out instead.
const NAME: usize = 20;

/// So much of a last column with text is shown before others are left out for it.
const REST: usize = 24;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Where space is short, columns of the highest rank are left out first; those of rank 0 stay.
    pub(super) rank: u8,
    /// It is there even if all its cells are empty or zero.
    pub(super) stays: bool,
    /// Text, and not a number.
    pub(super) is_text: bool,
}

/// What is in a row of a column.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// It says nothing.
    pub(super) is_zero: bool,
    pub(super) tone: Tone,
}

/// The colour of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Doubtful,
}

impl Cell {
    /// A text; it says nothing if it is empty.
    pub(super) fn text(text: impl Into<String>) -> Cell {
        let text = text.into();
        Cell { is_zero: text.is_empty(), text, tone: Tone::Plain }
    }

    /// A number, in colour unless it is zero.
    pub(super) fn count(count: u64, tone: Tone) -> Cell {
        let tone = if count == 0 { Tone::Plain } else { tone };
        Cell { text: count.to_string(), is_zero: count == 0, tone }
    }
}

/// Writes a head and a line per row. The last column is cut where it doesn't fit.
pub(super) fn write(
    out: &mut dyn Write,
    columns: &[Column],
    rows: &[Vec<Cell>],
    style: Style,
) -> std::io::Result<()> {
    let says = |n: usize| columns[n].stays || rows.iter().any(|row| !row[n].is_zero);
    let mut shown: Vec<usize> = (0..columns.len()).filter(|&n| says(n)).collect();
    let mut widths: Vec<usize> = (0..columns.len())
        .map(|n| rows.iter().map(|row| row[n].text.width()).max().unwrap_or(0))
        .zip(columns)
        .map(|(width, column)| width.max(column.title.width()))
        .collect();
    let total = |shown: &[usize], widths: &[usize]| {
        shown.iter().map(|&n| widths[n]).sum::<usize>() + 2 * shown.len().saturating_sub(1)
    };
    let is_rest = |n: usize| n > 0 && columns[n].is_text && columns[n].rank == 0;
    if let Some(most) = style.columns {
        // The end of what is cut anyway isn't needed.
        let fixed = |shown: &[usize], widths: &[usize]| {
            let rest = shown.iter().filter(|&&n| is_rest(n));
            let saved: usize = rest.map(|&n| widths[n].saturating_sub(REST)).sum();
            total(shown, widths) - saved
        };
        let over = fixed(&shown, &widths).saturating_sub(most);
        widths[0] = widths[0].saturating_sub(over).max(widths[0].min(NAME));
        while fixed(&shown, &widths) > most
            && let Some(at) = (0..shown.len()).max_by_key(|&at| columns[shown[at]].rank)
            && columns[shown[at]].rank > 0
        {
            shown.remove(at);
        }
        let over = fixed(&shown, &widths).saturating_sub(most);
        widths[0] = widths[0].saturating_sub(over).max(1);
    }
    let titles: Vec<Cell> = columns.iter().map(|column| Cell::text(column.title)).collect();
    for (n_row, row) in std::iter::once(&titles).chain(rows).enumerate() {
        let mut line = String::new();
        let mut used = 0;
        for (at, &n) in shown.iter().enumerate() {
            let is_last = at + 1 == shown.len();
            let room = style.columns.map_or(usize::MAX, |most| most.saturating_sub(used));
            let width = if is_last && is_rest(n) { room } else { widths[n] };
            let text = cut(&row[n].text, width);
            let gap = if is_rest(n) { 0 } else { widths[n].saturating_sub(text.width()) };
            let text_width = text.width();
            let painted = match (n_row, row[n].tone) {
                (0, _) => style.paint.faint(text),
                (_, Tone::Plain) => text,
                (_, Tone::Good) => style.paint.good(text),
                (_, Tone::Bad) => style.paint.bad(text),
                (_, Tone::Doubtful) => style.paint.doubtful(text),
            };
            match columns[n].is_text {
                true if is_last => line.push_str(&painted),
                true => line.push_str(&format!("{painted}{:gap$}", "")),
                false => line.push_str(&format!("{:gap$}{painted}", "")),
            }
            if !is_last {
                line.push_str("  ");
            }
            used += gap + text_width + 2;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A sentence, in as many lines as a terminal needs; the further ones are indented. A word is never parted, and colours
/// don't count.
pub(super) fn folded(out: &mut dyn Write, text: &str, style: Style) -> std::io::Result<()> {
    let Some(most) = style.columns else { return writeln!(out, "{text}") };
    let (indent, words) = text.split_at(text.len() - text.trim_start().len());
    let mut line = indent.to_owned();
    let mut used = indent.len();
    for (n, word) in words.split(' ').enumerate() {
        let width = bare_width(word);
        if n > 0 && used + 1 + width > most {
            writeln!(out, "{line}")?;
            line = format!("{indent}  ");
            used = line.len();
        } else if n > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += width;
    }
    writeln!(out, "{line}")
}

/// Columns of a text without its colour codes.
fn bare_width(text: &str) -> usize {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().width();
    first
        + parts.map(|part| part.split_once('m').map_or(0, |(_, rest)| rest.width())).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Paint;

    const COLUMNS: &[Column] = &[
        Column { title: "task", rank: 0, stays: true, is_text: true },
        Column { title: "done", rank: 0, stays: true, is_text: false },
        Column { title: "failed", rank: 0, stays: false, is_text: false },
        Column { title: "bytes", rank: 1, stays: false, is_text: false },
        Column { title: "why", rank: 0, stays: false, is_text: true },
    ];

    fn drawn(
        rows: &[(&str, u64, u64, &str, &str)],
        paint: Paint,
        columns: Option<usize>,
    ) -> String {
        let rows: Vec<Vec<Cell>> = rows
            .iter()
            .map(|(task, done, failed, bytes, why)| {
                vec![
                    Cell::text(*task),
                    Cell::count(*done, Tone::Good),
                    Cell::count(*failed, Tone::Bad),
                    Cell::text(*bytes),
                    Cell::text(*why),
                ]
            })
            .collect();
        let mut out = Vec::new();
        write(&mut out, COLUMNS, &rows, Style { paint, columns }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_that_say_nothing_are_not_there() {
        let rows = [("a", 0, 0, "", ""), ("long", 12345, 0, "", "")];
        assert_eq!(drawn(&rows, Paint::Plain, None), "task   done\na         0\nlong  12345\n");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let name = "a-task-of-a-rather-long-name".repeat(2);
        let rows =
            [(name.as_str(), 3, 1, "12.0 KiB", "4 new, 17 input changed"), ("b", 1, 0, "1 B", "")];
        for columns in 1..120 {
            let text = drawn(&rows, Paint::Plain, Some(columns));
            // What can't be left out is not cut either.
            let least = 1 + 2 + 4 + 2 + 6 + 2 + 3;
            for line in text.lines() {
                assert!(line.width() <= columns.max(least), "{columns}: {line:?}");
            }
        }
        let whole = drawn(&rows, Paint::Plain, None);
        assert!(whole.contains(&name) && whole.contains("17 input changed"), "{whole}");
        let narrow = drawn(&rows, Paint::Plain, Some(50));
        assert!(narrow.contains("4 new, 17 i") && narrow.contains('…'), "{narrow}");
    }

    #[test]
    fn a_sentence_is_folded_between_words() {
        let fold = |text: &str, columns| {
            let mut out = Vec::new();
            folded(&mut out, text, Style { paint: Paint::Plain, columns }).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = "  one \x1b[32mtwo\x1b[0m three";
        assert_eq!(fold(text, None), format!("{text}\n"));
        assert_eq!(fold(text, Some(15)), format!("{text}\n"));
        assert_eq!(fold(text, Some(14)), "  one \x1b[32mtwo\x1b[0m\n    three\n");
        assert_eq!(fold(text, Some(1)), "  one\n    \x1b[32mtwo\x1b[0m\n    three\n");
    }

    #[test]
    fn colours_change_no_width() {
        let rows = [("a", 3, 1, "", "x")];
        let bare = drawn(&rows, Paint::Colored, Some(40));
        let mut text = String::new();
        for (n, part) in bare.split("\x1b[").enumerate() {
            text.push_str(if n == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(text, drawn(&rows, Paint::Plain, Some(40)));
        assert!(bare.contains("\x1b[1;31m1\x1b[0m"), "{bare:?}");
    }
}
