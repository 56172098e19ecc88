//! One plain value of the manifest, from TOML's type to ours, or a mistake that shows how to write it.

use std::num::NonZeroUsize;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::mistake::quoted;
use super::source::Findings;
use crate::duration;

/// A value, and where it stands.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A TOML type in a sentence.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A string without NUL: no script, path or variable of a process can hold one.
pub(super) fn string<'v>(
    found: &mut Findings<'_>,
    key: &str,
    value: &'v Value<'_>,
) -> Option<&'v str> {
    let DeValue::String(text) = value.get_ref() else {
        let help = match value.get_ref() {
            DeValue::Integer(number) => format!("write \"{number}\""),
            DeValue::Float(number) => format!("write \"{number}\""),
            DeValue::Boolean(switch) => format!("write \"{switch}\""),
            _ => format!("write {key} = \"…\""),
        };
        found.wrong_type(&value.span(), key, "a string", kind(value.get_ref()), help);
        return None;
    };
    if text.contains('\0') {
        let help = "take the `\\u0000` out: no process could be given it";
        found.add(&value.span(), format!("{} contains a NUL byte", quoted(key)), help);
        return None;
    }
    Some(text)
}

/// `true` or `false`.
pub(super) fn boolean(found: &mut Findings<'_>, key: &str, value: &Value<'_>) -> Option<bool> {
    if let DeValue::Boolean(switch) = value.get_ref() {
        return Some(*switch);
    }
    let help = format!("write {key} = true or {key} = false, without quotes");
    found.wrong_type(&value.span(), key, "true or false", kind(value.get_ref()), help);
    None
}

fn integer<'v, 'i>(
    found: &mut Findings<'_>,
    key: &str,
    value: &'v Value<'i>,
) -> Option<&'v DeInteger<'i>> {
    if let DeValue::Integer(number) = value.get_ref() {
        return Some(number);
    }
    let help = format!("write {key} = 2, without quotes");
    found.wrong_type(&value.span(), key, "a whole number", kind(value.get_ref()), help);
    None
}

/// `parallel`: at least 1.
pub(super) fn parallel(found: &mut Findings<'_>, value: &Value<'_>) -> Option<NonZeroUsize> {
    let number = integer(found, "parallel", value)?;
    let read = usize::from_str_radix(number.as_str(), number.radix()).ok();
    let parallel = read.and_then(NonZeroUsize::new);
    if parallel.is_none() {
        let message = format!("`parallel` is {number}, but must be at least 1");
        found.add(&value.span(), message, "leave `parallel` out for no limit of the task's own");
    }
    parallel
}

/// `retries`: up to 1000, beyond which it is taken for a slip.
pub(super) fn retries(found: &mut Findings<'_>, value: &Value<'_>) -> Option<u32> {
    const MOST: u32 = 1000;
    let number = integer(found, "retries", value)?;
    let retries = u32::from_str_radix(number.as_str(), number.radix());
    let retries = retries.ok().filter(|retries| *retries <= MOST);
    if retries.is_none() {
        let message = format!("`retries` is {number}, but must be from 0 to {MOST}");
        let help = "write how often a failed step is tried again within one run";
        found.add(&value.span(), message, help);
    }
    retries
}

/// `timeout` and `retry_delay`.
pub(super) fn span(found: &mut Findings<'_>, key: &str, value: &Value<'_>) -> Option<Duration> {
    let text = match value.get_ref() {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            let help = format!("write {key} = \"{number}s\" if seconds are meant");
            found.wrong_type(&value.span(), key, "a string with a unit", "a bare number", help);
            return None;
        }
        other => {
            found.wrong_type(&value.span(), key, "a string", kind(other), duration::HELP);
            return None;
        }
    };
    match duration::parse(text) {
        Ok(span) => Some(span),
        Err(why) => {
            found.add(
                &value.span(),
                format!("the span of time {} {why}", quoted(text)),
                duration::HELP,
            );
            None
        }
    }
}
