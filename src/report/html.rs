//! HTML that no name and no log can break. A page is made of literals, numbers and escaped text. Nothing else
//! compiles: a `String` or a borrowed `&str` is no [`Markup`].

use crate::text::{printable, printable_line};

/// At most this many characters of a name or a line are shown.
const LONGEST: usize = 240;

/// What a page may contain.
pub(super) trait Markup {
    fn put(&self, page: &mut String);
}

/// A literal in the source: no text that comes from outside is `'static`.
impl Markup for &'static str {
    fn put(&self, page: &mut String) {
        page.push_str(self);
    }
}

macro_rules! digits {
    ($($int:ty),*) => {$(
        impl Markup for $int {
            fn put(&self, page: &mut String) {
                page.push_str(&self.to_string());
            }
        }
    )*};
}
digits!(i64, u64, usize);

/// Text that is safe within an element or a quoted attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Escaped(String);

impl Markup for Escaped {
    fn put(&self, page: &mut String) {
        page.push_str(&self.0);
    }
}

/// A length or coordinate of a drawing, written with at most one decimal.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) f64);

impl Markup for At {
    fn put(&self, page: &mut String) {
        let short = format!("{:.1}", self.0);
        page.push_str(short.strip_suffix(".0").unwrap_or(&short));
    }
}

/// A line of text or of a log; control characters are escaped as on a terminal.
pub(super) fn text(line: impl AsRef<[u8]>) -> Escaped {
    escape(&shortened(&printable_line(line.as_ref())))
}

/// The name of a file or an input, with every unusual byte escaped.
pub(super) fn name(bytes: &[u8]) -> Escaped {
    escape(&shortened(&printable(bytes)))
}

/// A whole number with thousands separators.
pub(super) fn count(number: u64) -> Escaped {
    Escaped(grouped(number))
}

/// The same as plain text.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A long line without its middle: names often differ only at the end.
fn shortened(line: &str) -> String {
    let length = line.chars().count();
    if length <= LONGEST {
        return line.to_owned();
    }
    let head: String = line.chars().take(LONGEST * 2 / 3).collect();
    let tail: String = line.chars().skip(length - LONGEST / 3).collect();
    format!("{head} … {tail}")
}

fn escape(line: &str) -> Escaped {
    let mut out = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Escaped(out)
}

/// Appends markup: `html!(page, "<td>", count(n), "</td>")`.
macro_rules! html {
    ($page:expr, $($part:expr),+ $(,)?) => {{
        let page: &mut String = $page;
        $( $crate::report::html::Markup::put(&$part, page); )+
    }};
}
pub(super) use html;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(part: impl Markup) -> String {
        let mut page = String::new();
        html!(&mut page, part);
        page
    }

    #[test]
    fn text_from_outside_is_never_markup() {
        assert_eq!(
            shown(text("<b a='1' b=\"2\">&")),
            "&lt;b a=&#39;1&#39; b=&quot;2&quot;&gt;&amp;"
        );
        assert_eq!(shown(name(b"a\n\x1b<\xff\\")), "a\\n\\x1b&lt;\\xff\\\\");
        assert_eq!(shown(text(b"\x00\x1b[31m\xff")), "\\u{0}\\u{1b}[31m\\xff");
    }

    #[test]
    fn what_is_too_long_keeps_both_its_ends() {
        let long = format!("head{}tail", "x".repeat(5000));
        let short = shown(name(long.as_bytes()));
        assert!(short.starts_with("headx") && short.ends_with("xtail"), "{short}");
        assert!(short.len() < 300 && short.contains(" … "), "{short}");
        let exact = "é".repeat(LONGEST);
        assert_eq!(shown(text(&exact)), exact);
    }

    #[test]
    fn numbers_read_well() {
        let numbers = [0, 999, 1000, 1_234_567].map(|number| shown(count(number)));
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(shown(At(12.0)) + &shown(At(-0.26)), "12-0.3");
    }
}
