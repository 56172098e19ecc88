//! The bottom rows of a terminal: replaced by every frame, while other lines scroll above them.

use std::io::{IsTerminal as _, Write};

use super::frame::{Line, Size};

/// What is taken for the size of a terminal that doesn't know its own.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// What standard error shows.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The columns of each line of the last frame.
    shown: Vec<usize>,
    last: Vec<Line>,
    columns: usize,
}

impl Screen {
    /// Replaces the last frame, with some text scrolling away above it. One write, so that no half of it
    /// is ever seen.
    pub(super) fn show(&mut self, above: &str, frame: Vec<Line>, size: Size) {
        if above.is_empty() && frame == self.last {
            return;
        }
        let mut out = self.update(above, &frame, size);
        self.shown = frame.iter().map(|line| line.columns).collect();
        self.last = frame;
        self.columns = size.columns;
        out.push_str(if self.shown.is_empty() { "" } else { "\r" });
        // A terminal that has gone must not stop a run.
        let _ = std::io::stderr().write_all(out.as_bytes());
    }

    /// From the cursor, which is at the start of the last line of the last frame, or behind a `^C` that
    /// was typed there.
    fn update(&self, above: &str, frame: &[Line], size: Size) -> String {
        let mut out = String::from(if self.shown.is_empty() { "" } else { "\r" });
        // A terminal that has become narrower since has broken the long lines.
        let columns = size.columns.max(1);
        let rows = |&width: &usize| width.div_ceil(columns).max(1);
        let up: usize = self.shown.iter().rev().skip(1).map(rows).sum();
        if up > 0 {
            out.push_str(&format!("\x1b[{up}A"));
        }
        // After a change of width all of it goes, or the terminal remembers which rows were one line.
        let is_anew = !above.is_empty() || frame.is_empty() || size.columns != self.columns;
        if !self.shown.is_empty() && is_anew {
            out.push_str("\x1b[J");
        }
        out.push_str(above);
        for (n, line) in frame.iter().enumerate() {
            out.push_str(if n > 0 { "\n" } else { "" });
            out.push_str(&line.text);
            out.push_str("\x1b[K");
        }
        if frame.len() < self.shown.len() && !is_anew {
            out.push_str("\x1b[J");
        }
        out
    }
}

/// How large the terminal is just now.
pub(super) fn size() -> Size {
    let stderr = std::io::stderr();
    match rustix::termios::tcgetwinsize(&stderr) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 && stderr.is_terminal() => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => USUAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 20, rows: 10 };

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line { text: (*text).to_owned(), columns: text.len() }).collect()
    }

    #[test]
    fn a_frame_replaces_the_one_before() {
        let mut screen = Screen { columns: SIZE.columns, ..Screen::default() };
        assert_eq!(screen.update("", &lines(&["a", "b"]), SIZE), "a\x1b[K\nb\x1b[K");
        screen.shown = vec![1, 1];
        assert_eq!(screen.update("", &lines(&["c", "d"]), SIZE), "\r\x1b[1Ac\x1b[K\nd\x1b[K");
        assert_eq!(screen.update("", &lines(&["c"]), SIZE), "\r\x1b[1Ac\x1b[K\x1b[J");
        assert_eq!(screen.update("x\n", &lines(&["c"]), SIZE), "\r\x1b[1A\x1b[Jx\nc\x1b[K");
        assert_eq!(screen.update("end\n", &[], SIZE), "\r\x1b[1A\x1b[Jend\n");
    }

    #[test]
    fn what_a_narrower_terminal_has_broken_is_cleared_whole() {
        let screen = Screen { shown: vec![19, 15, 5], last: Vec::new(), columns: 20 };
        let narrow = Size { columns: 10, rows: 10 };
        assert!(screen.update("", &[], narrow).starts_with("\r\x1b[4A\x1b[J"));
    }
}
