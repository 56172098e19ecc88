//! Whether there are colours: what the command line and the environment say.

use std::ffi::OsStr;

use argh::FromArgValue;

/// `--color`
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise.
    Auto,
    Always,
    Never,
}

impl Color {
    /// Decides as most programs do: NO_COLOR wins over CLICOLOR_FORCE, that over CLICOLOR=0, and all of
    /// them over what the output is.
    pub fn decide(
        self,
        is_terminal: bool,
        env: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> bool {
        let is_set = |name: &str| env(name).filter(|value| !value.is_empty());
        let is_zero = |value: std::ffi::OsString| value == OsStr::new("0");
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if is_set("NO_COLOR").is_some() => false,
            Color::Auto if is_set("CLICOLOR_FORCE").is_some_and(|value| !is_zero(value)) => true,
            Color::Auto if is_set("CLICOLOR").is_some_and(is_zero) => false,
            Color::Auto => {
                is_terminal && env("TERM").is_some_and(|term| term != OsStr::new("dumb"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment_and_that_over_the_terminal() {
        let decide = |color: Color, is_terminal, set: &[(&str, &str)]| {
            color.decide(is_terminal, |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        let term = ("TERM", "xterm");
        assert!(decide(Color::Auto, true, &[term]));
        assert!(!decide(Color::Auto, false, &[term]));
        assert!(!decide(Color::Auto, true, &[("TERM", "dumb")]) && !decide(Color::Auto, true, &[]));
        assert!(!decide(Color::Auto, true, &[term, ("NO_COLOR", "1")]));
        assert!(decide(Color::Auto, true, &[term, ("NO_COLOR", "")]));
        assert!(decide(Color::Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!decide(Color::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!decide(Color::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!decide(Color::Auto, true, &[term, ("CLICOLOR", "0")]));
        assert!(decide(Color::Always, false, &[("NO_COLOR", "1")]));
        assert!(!decide(Color::Never, true, &[term, ("CLICOLOR_FORCE", "1")]));
    }
}
