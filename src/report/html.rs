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

/// JSON that is safe within a `script` element of another type than JavaScript's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Json(String);

impl Json {
    /// Of JSON: a `<`, which in JSON is only ever within a string, is written as an escape. So nothing ends the element
    /// (`</script`), and nothing makes the parser ignore its end (`<!--`).
    pub(super) fn of(json: &str) -> Json {
        Json(json.replace('<', "\\u003c"))
    }
}

impl Markup for Json {
    fn put(&self, page: &mut String) {
        page.push_str(&self.0);
    }
}

/// Bytes in Base64, which no markup is.
pub(super) struct Base64<'b>(pub(super) &'b [u8]);

impl Markup for Base64<'_> {
    fn put(&self, page: &mut String) {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        page.reserve(self.0.len().div_ceil(3) * 4);
        for three in self.0.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let bits = bits << (8 * (3 - three.len()));
            for digit in 0..4 {
                // Two of its bits are within the first byte, and so on.
                let is_there = digit <= three.len();
                let at = (bits >> (18 - 6 * digit) & 63) as usize;
                page.push(if is_there { char::from(DIGITS[at]) } else { '=' });
            }
        }
    }
}

/// A line of text or of a log; control characters are escaped as on a terminal.
pub(super) fn text(line: impl AsRef<[u8]>) -> Escaped {
    escape(&plain_line(line))
}

/// The name of a file or an input, with every unusual byte escaped.
pub(super) fn name(bytes: &[u8]) -> Escaped {
    escape(&plain_name(bytes))
}

/// [`text`] for data, where it isn't markup.
pub(super) fn plain_line(line: impl AsRef<[u8]>) -> String {
    shortened(&printable_line(line.as_ref()))
}

/// [`name`] for data, where it isn't markup.
pub(super) fn plain_name(bytes: &[u8]) -> String {
    shortened(&printable(bytes))
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
    fn data_never_ends_its_element_and_stays_what_it_is() {
        let odd = ["</script><!-- <script>", "\u{2028}\"\\"];
        let json = serde_json::to_string(&odd).unwrap();
        let shown = shown(Json::of(&json));
        assert!(!shown.contains('<'), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 2]>(&shown).unwrap(), odd);
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
    fn bytes_are_base64_as_everybody_reads_it() {
        let shown = ["", "f", "fo", "foo", "foobar", "\u{ff}\u{fe}"]
            .map(|text| shown(Base64(text.as_bytes())));
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYmFy", "w7/Dvg=="]);
    }

    #[test]
    fn numbers_read_well() {
        let numbers = [0, 999, 1000, 1_234_567].map(|number| shown(count(number)));
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(shown(At(12.0)) + &shown(At(-0.26)), "12-0.3");
    }
}
