//! What the value of a key looks like: for the reference and for the schema that editors read. What a value may be in
//! fact is up to whoever reads it; this tells as much of that as a JSON schema of draft 4 can say, which is what
//! editors of TOML know.

use std::fmt;

use serde_json::{Value, json};

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any string.
    Text,
    /// A string that a regular expression describes, and what it is in words.
    Form(&'static str, &'static str),
    /// One of these strings.
    Word(&'static [&'static str]),
    /// Between these bounds.
    Whole(u64, u64),
    Switch,
    /// At least so many strings, none of them empty.
    Texts(u64),
    /// Names of variables.
    Names,
    /// Strings, numbers and switches.
    Scalars,
    /// Names of the user's, each with a value of this kind.
    Table(&'static Kind),
    Either(&'static Kind, &'static Kind),
}

/// `"30s"`, `"1h30m"`
pub(super) const DURATION: Kind = Kind::Form(r"^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$", "a duration");

/// `"8G"`, `"1.5GiB"`
pub(super) const SIZE: Kind =
    Kind::Form(r"^\s*[0-9]+(\.[0-9]+)?\s*[KMGTkmgt]([Ii]?[Bb])?\s*$", "a size");

impl Kind {
    /// As a JSON schema of draft 4.
    pub fn schema(self) -> Value {
        match self {
            Kind::Text => json!({ "type": "string" }),
            Kind::Form(pattern, _) => json!({ "type": "string", "pattern": pattern }),
            Kind::Word(words) => json!({ "enum": words }),
            Kind::Whole(least, u64::MAX) => json!({ "type": "integer", "minimum": least }),
            Kind::Whole(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Kind::Switch => json!({ "type": "boolean" }),
            Kind::Texts(least) => {
                let item = json!({ "type": "string", "minLength": 1 });
                json!({ "type": "array", "items": item, "minItems": least })
            }
            Kind::Names => {
                let item = json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
                json!({ "type": "array", "items": item, "uniqueItems": true })
            }
            Kind::Scalars => {
                let items = json!({ "type": ["string", "number", "boolean"] });
                json!({ "type": "array", "items": items, "minItems": 1, "uniqueItems": true })
            }
            Kind::Table(kind) => {
                json!({ "type": "object", "additionalProperties": kind.schema() })
            }
            Kind::Either(one, other) => json!({ "anyOf": [one.schema(), other.schema()] }),
        }
    }
}

/// `a list of strings`
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("a string"),
            Kind::Form(_, words) => f.write_str(words),
            Kind::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                f.write_str(&quoted.join(" or "))
            }
            Kind::Whole(least, u64::MAX) => write!(f, "a whole number, {least} or more"),
            Kind::Whole(least, most) => write!(f, "a whole number from {least} to {most}"),
            Kind::Switch => f.write_str("true or false"),
            Kind::Texts(_) => f.write_str("a list of strings"),
            Kind::Names => f.write_str("a list of names"),
            Kind::Scalars => f.write_str("a list of strings, numbers or switches"),
            Kind::Table(kind) => write!(f, "a table, each value {kind}"),
            Kind::Either(one, other) => write!(f, "{one}; or {other}"),
        }
    }
}
