//! Amounts of memory or disk as a manifest and the command line write them: `8G`, `512M`, `1.5GiB`.

/// With the power of two that each stands for. `G`, `GB` and `GiB` are one: who writes one of them means either, and
/// for memory the larger reading is the safe one.
const UNITS: [(&str, u32); 4] = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];

/// What to write instead.
pub(crate) const HELP: &str = "write a number and its unit, such as \"512M\", \"8G\" or \"1.5GiB\"";

/// Reads a size: a number, with a fraction or without, and its unit, `K`, `M`, `G` or `T`, in either case, with `B` or
/// `iB` behind it or without: powers of 1,024. Gives bytes.
///
/// # Errors
/// What is wrong, to follow "the size": "has no unit".
pub(crate) fn parse(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty");
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
    if number.is_empty() {
        return Err("has no number where one belongs");
    }
    let unit = unit.trim_start().to_ascii_lowercase();
    if unit.is_empty() {
        return Err("has no unit");
    }
    let letter = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = UNITS.iter().find(|(name, _)| *name == letter).map(|(_, shift)| *shift);
    let shift = shift.ok_or("has a unit other than K, M, G and T")?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err("has a number that can't be read");
    }
    // Only digits are left, so the number can only be too large.
    let whole: u64 = whole.parse().map_err(|_| "is more than any machine has")?;
    // Beyond so many digits there is nothing of a byte left.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: u128 = fraction.parse().map_err(|_| "has a number that can't be read")?;
    let bytes =
        (u128::from(whole) << shift) + (parts << shift) / 10_u128.pow(fraction.len() as u32);
    // What SQLite and JSON can hold.
    let bytes = i64::try_from(bytes).map_err(|_| "is more than any machine has")?;
    Ok(bytes.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_written() {
        assert_eq!(parse("8G"), Ok(8 << 30));
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("64k"), Ok(64 << 10));
        assert_eq!(parse("2T"), Ok(2 << 40));
        assert_eq!(parse("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse("0.0009765625M"), Ok(1 << 10));
        assert_eq!(parse("0.00000000000000000000001T"), Ok(0));
        assert_eq!(parse("8 GB"), Ok(8 << 30));
        assert_eq!(parse("0.5m"), Ok(512 << 10));
        assert_eq!(parse("0G"), Ok(0));
    }

    #[test]
    fn anything_else_says_what_is_wrong_with_it() {
        let why = |text: &str| parse(text).expect_err(text);
        assert_eq!(why(""), "is empty");
        assert_eq!(why("8000"), "has no unit");
        assert_eq!(why("G"), "has no number where one belongs");
        assert_eq!(why("-1G"), "has no number where one belongs");
        assert_eq!(why("8P"), "has a unit other than K, M, G and T");
        assert_eq!(why("8iB"), "has a unit other than K, M, G and T");
        assert_eq!(why("8 G G"), "has a unit other than K, M, G and T");
        assert_eq!(why("1.2.3G"), "has a number that can't be read");
        assert_eq!(why(".5G"), "has a number that can't be read");
        assert_eq!(why("9999999999T"), "is more than any machine has");
        assert_eq!(why("99999999999999999999999G"), "is more than any machine has");
    }
}
