//! The manual page, made of the same definitions as the help.

use argh::{CommandInfoWithArgs, FlagInfo};

use super::CommandLine;
use super::help::{ABOUT, CODES, SPELLING, positionals, spelled, usage};
use crate::manifest;

/// Date of the last change that a reader of the manual would notice.
const DATE: &str = "2026-11-27";

/// Columns of the roff source.
const WIDTH: usize = 79;

/// Sections that the definitions of commands know nothing of.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("NO_COLOR", "If set and not empty, colours are off."),
    (
        "CLICOLOR_FORCE",
        "If set and neither empty nor 0, colours are on even if the output is not a terminal.",
    ),
    ("TERM", "If unset or dumb, each event is a line, and there is no progress bar."),
];
const FILES: [(&str, &str); 4] = [
    ("pipeline.toml", "The default manifest. `task-pipeline init` writes one to start from."),
    ("db", "The default database folder."),
    ("db/db", "A SQLite database; any sqlite3 can read it, also during a run."),
    ("db/objects", "Inputs, outputs and logs, each named by its SHA-256."),
];
const WORLD: [(&str, &str); 8] = [
    (
        "INPUT_FILE",
        "Path of the input; with `gather` or `paths`, of a file that lists all inputs, one path a line; for another row of a \
         table, of the row as JSON.",
    ),
    ("INPUT_NAME", "Name of the input."),
    ("INPUT_DIR", "With `gather` or `paths`: a folder that holds all inputs."),
    ("WITH_DIR", "With `with`: a folder for each task named there, that holds its outputs."),
    ("OUTPUT_DIR", "An empty folder; every file that the script leaves there is an output."),
    (
        "TASK_NAME, STEP_ID, STEP_KEY, ATTEMPT",
        "Identify the task, the step and the attempt; STEP_KEY is the same in every run and on every machine.",
    ),
    ("TMPDIR", "A private folder, removed afterwards."),
    ("CPUS", "How many processors the step has of the run's -j."),
];

/// The page.
pub(super) fn page(known: &CommandLine) -> String {
    let mut page = Page(String::new());
    let version = concat!("task-pipeline ", env!("CARGO_PKG_VERSION"));
    page.line(&format!(".TH TASK\\-PIPELINE 1 {DATE} \"{version}\" \"User Commands\""));
    page.section("NAME");
    page.line("task\\-pipeline \\- run shell scripts as a dataflow that keeps everything");
    page.section("SYNOPSIS");
    page.line(".B task\\-pipeline\n[run] [\\fIOPTIONS\\fR] [\\fIINPUT\\fR]...\n.br");
    page.line(".B task\\-pipeline\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...");
    page.section("DESCRIPTION");
    page.text(ABOUT);
    page.paragraph(SPELLING);
    page.section("COMMANDS");
    for command in &known.commands {
        page.command(&command.command, known.options(&command.command));
    }
    page.section("KEYS OF A TASK");
    for key in manifest::KEYS {
        page.item(key.name, &key.told());
        page.example(&[key.example]);
    }
    page.section("KEYS ABOVE ALL TABLES");
    page.item(manifest::TITLE.name, manifest::TITLE.about);
    page.example(manifest::TITLE.example);
    page.section("TABLES OF A MANIFEST");
    for table in manifest::TABLES {
        page.item(&format!("[{}]", table.name), table.about);
        page.example(table.example);
    }
    page.section("A SCRIPT'S ENVIRONMENT");
    page.list(&WORLD);
    page.section("EXIT STATUS");
    for (code, meaning) in CODES {
        page.item(&code.to_string(), meaning);
    }
    page.paragraph("A run that a signal stops dies of that signal.");
    page.section("ENVIRONMENT");
    page.list(&ENVIRONMENT);
    page.section("FILES");
    page.list(&FILES);
    page.0
}

struct Page(String);

impl Page {
    /// Roff, as it is.
    fn line(&mut self, roff: &str) {
        self.0.push_str(roff);
        self.0.push('\n');
    }

    /// Plain text, wrapped to [`WIDTH`] columns of source.
    fn text(&mut self, text: &str) {
        let mut columns = 0;
        for word in escaped(text).split(' ') {
            if columns > 0 && columns + 1 + word.len() > WIDTH {
                self.0.push('\n');
                columns = 0;
            } else if columns > 0 {
                self.0.push(' ');
                columns += 1;
            }
            self.0.push_str(word);
            columns += word.len();
        }
        self.0.push('\n');
    }

    fn section(&mut self, name: &str) {
        self.line(&format!(".SH \"{}\"", escaped(name)));
    }

    fn paragraph(&mut self, text: &str) {
        self.line(".PP");
        self.text(text);
    }

    fn item(&mut self, name: &str, text: &str) {
        self.tagged(&format!("\\fB{}\\fR", escaped(name)), text);
    }

    fn tagged(&mut self, roff: &str, text: &str) {
        self.line(".TP");
        self.line(roff);
        self.text(text);
    }

    /// Lines as they are typed.
    fn example(&mut self, lines: &[&str]) {
        self.line(".RS\n.PP\n.EX");
        for line in lines {
            self.line(&escaped(line));
        }
        self.line(".EE\n.RE");
    }

    fn list(&mut self, items: &[(&str, &str)]) {
        for (name, text) in items {
            self.item(name, text);
        }
    }

    fn command<'c>(
        &mut self,
        command: &CommandInfoWithArgs,
        options: impl Iterator<Item = &'c FlagInfo<'static>>,
    ) {
        self.line(&format!(".SS \"{}\"", escaped(command.name)));
        self.text(command.description);
        self.line(".PP");
        self.line(&format!("\\fB{}\\fR", escaped(&usage(command))));
        for positional in positionals(command) {
            self.tagged(&format!("\\fI{}\\fR", escaped(positional.name)), positional.description);
        }
        // argh puts --help first; people look for the options of the command first.
        let (help, own): (Vec<_>, Vec<_>) = options.partition(|flag| flag.long == "--help");
        for flag in own {
            let long = spelled(flag);
            let (name, value) = long.split_once(' ').unwrap_or((&long, ""));
            let mut roff = String::new();
            if let Some(letter) = flag.short {
                roff.push_str(&format!("\\fB\\-{letter}\\fR, "));
            }
            roff.push_str(&format!("\\fB{}\\fR", escaped(name)));
            if !value.is_empty() {
                roff.push_str(&format!(" \\fI{}\\fR", escaped(value)));
            }
            self.tagged(&roff, flag.description);
        }
        for _ in help {
            self.tagged("\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "print help");
        }
        for note in command.notes {
            self.paragraph(note);
        }
        for example in command.examples {
            self.line(".PP\n.RS 4\n.EX");
            self.text(example);
            self.line(".EE\n.RE");
        }
    }
}

/// Text that roff shows as it is: `-` as the minus sign that can be copied into a shell, and no word that
/// would be a request at the start of a line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for word in text.split_whitespace() {
        out.push_str(if out.is_empty() { "" } else { " " });
        out.push_str(if word.starts_with('.') { "\\&" } else { "" });
        for c in word.chars() {
            match c {
                '\\' => out.push_str("\\e"),
                '-' => out.push_str("\\-"),
                '`' => out.push_str("\\(ga"),
                '\'' => out.push_str("\\(aq"),
                '"' => out.push_str("\\(dq"),
                '~' => out.push_str("\\(ti"),
                '^' => out.push_str("\\(ha"),
                c => out.push(c),
            }
        }
    }
    out
}
