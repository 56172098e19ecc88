//! One `[[task]]` on its own: its keys, their values, and which of them go together. Unaware of the
//! other tasks. A new key is a row of [`KEYS`] and a field of [`Task`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use toml::de::DeTable;

use super::capture;
use super::findings::Findings;
use super::kind::{DURATION, Kind, SIZE};
use super::pattern;
use super::value::Setting;
use crate::attempt::var;
use crate::diagnostic::quoted;
use crate::export_path::ExportPath;
use crate::ids::TaskIndex;
use crate::labels::{Labels, key_mistake};
use crate::suggest;
use crate::table::Table;

/// One `[[task]]`.
#[derive(Debug, Clone)]
pub struct Task {
    /// `[A-Za-z0-9._-]{1,64}`, unique in the manifest.
    pub name: String,
    /// Text of the script, exactly as TOML gives it.
    pub script: String,
    /// Globs or plain paths of files on disk, relative to the manifest's folder. Only roots have any.
    pub inputs: Vec<String>,
    /// Its rows are the inputs. Only roots have one.
    pub table: Option<Arc<Table>>,
    /// What `inputs` leave out, without the `!`: globs, plain paths, folders with all that is in them.
    pub exclusions: Vec<String>,
    /// Tasks whose outputs this one consumes, in the order written; empty for a root.
    pub from: Vec<TaskIndex>,
    /// Tasks whose outputs its steps see besides their input.
    pub with: Vec<TaskIndex>,
    /// Globs on output names (`match`); empty takes every output.
    pub matches: Vec<String>,
    /// Globs on the names of the outputs of one producer each (`match` as a table); of one that is not here, every
    /// output is taken.
    pub matches_of: Vec<(TaskIndex, Vec<String>)>,
    /// At most this many steps of the task at once.
    pub parallel: Option<NonZeroUsize>,
    /// How many of the run's `-j` each step takes.
    pub cpus: NonZeroUsize,
    /// Bytes of memory that each step is taken to need; `None`: what its last attempts have taken.
    pub memory: Option<u64>,
    /// Of what the run has besides, how many each step takes, by name.
    pub uses: BTreeMap<String, NonZeroUsize>,
    /// So many steps, at most, share one start of the script, which finds them in BATCH_DIR. That there may be several is
    /// part of the recipe, the number isn't.
    pub batch: Option<NonZeroUsize>,
    /// Wall time after which an attempt is ended.
    pub timeout: Option<Duration>,
    /// Further attempts within one run after a failed one.
    pub retries: u32,
    /// Pause before each further attempt.
    pub retry_delay: Duration,
    /// Added to the environment; part of the recipe.
    pub env: BTreeMap<String, String>,
    /// Variables of the caller's that the script is given, each with the value that it has in this process; `None`: it
    /// is not set. Part of the recipe.
    pub env_from: BTreeMap<String, Option<String>>,
    /// Of the caller's other variables the script gets few. Part of the recipe.
    pub clean_env: bool,
    /// The params that the script is given, with the values in force; part of the recipe.
    pub params: BTreeMap<String, String>,
    /// Files that the script reads, relative to the manifest's folder, as paths, globs, or folders (`ref/`) with all
    /// that is in them; their content is part of the recipe.
    pub files: Vec<String>,
    /// Interpreter and its arguments, from `shell`, split at white space with shell-like quotes. A `#!`
    /// line of the script wins over it: see [`Task::interpreter`].
    pub shell: Arc<[String]>,
    /// Globs on output names: each step has to leave something for every one of them. `None` if nothing is said; an empty
    /// list says that a step may leave nothing.
    pub outputs: Option<Vec<String>>,
    /// The name, below OUTPUT_DIR, of the file in which the script says what it has read.
    pub depfile: Option<String>,
    /// False: runs anew in every run.
    pub cache: bool,
    /// One step over all inputs together, or over those of each group.
    pub gather: bool,
    /// `gather` runs also if there is nothing to gather.
    pub gather_empty: bool,
    /// Labels that `gather` goes by: one step of each of their values. Empty: one over everything.
    pub gather_keys: Vec<String>,
    /// Every combination of `matrix`; empty without one.
    pub matrix: Vec<Labels>,
    /// Keys of the labels that its steps may have.
    pub label_keys: Vec<String>,
    /// `input = "copy"`: its inputs are private copies, never links.
    pub copies_input: bool,
    /// A make, cargo or ninja in the script shares the run's `-j`.
    pub jobserver: bool,
    /// Its scripts reach nothing but what the task declares.
    pub sandbox: bool,
    /// Files and folders that its sandbox lets scripts read, relative to the manifest's folder.
    pub read: Vec<String>,
    /// Its sandbox leaves scripts the network.
    pub network: bool,
    /// Where its results are to lie after a run.
    pub export: Option<Box<ExportPath>>,
    /// Its outputs are shown in the report.
    pub report: bool,
}

impl Task {
    /// True if it gets its inputs from files and not from other tasks.
    pub fn is_root(&self) -> bool {
        self.from.is_empty()
    }

    /// True if its steps work on the files that the rows of its table name.
    pub fn has_paths(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.has_paths())
    }

    /// `inputs` as they are written.
    pub fn written_inputs(&self) -> Vec<String> {
        let exclusions = self.exclusions.iter().map(|pattern| format!("!{pattern}"));
        self.inputs.iter().cloned().chain(exclusions).collect()
    }

    /// What runs the script: program and arguments that precede the script's file.
    pub fn interpreter(&self) -> Arc<[String]> {
        shebang(&self.script).map_or_else(|| Arc::clone(&self.shell), Arc::from)
    }

    /// A task with no key set.
    fn blank() -> Task {
        Task {
            name: String::new(),
            script: String::new(),
            inputs: Vec::new(),
            table: None,
            exclusions: Vec::new(),
            from: Vec::new(),
            with: Vec::new(),
            matches: Vec::new(),
            matches_of: Vec::new(),
            parallel: None,
            cpus: NonZeroUsize::MIN,
            memory: None,
            uses: BTreeMap::new(),
            batch: None,
            timeout: None,
            retries: 0,
            retry_delay: Duration::ZERO,
            env: BTreeMap::new(),
            env_from: BTreeMap::new(),
            clean_env: false,
            params: BTreeMap::new(),
            files: Vec::new(),
            shell: default_shell(),
            outputs: None,
            depfile: None,
            cache: true,
            gather: false,
            gather_empty: false,
            gather_keys: Vec::new(),
            matrix: Vec::new(),
            label_keys: Vec::new(),
            copies_input: false,
            jobserver: false,
            sandbox: false,
            read: Vec::new(),
            network: true,
            export: None,
            report: false,
        }
    }
}

/// What runs scripts if nothing is said: one for all tasks, of which there may be thousands.
fn default_shell() -> Arc<[String]> {
    static SHELL: OnceLock<Arc<[String]>> = OnceLock::new();
    Arc::clone(SHELL.get_or_init(|| ["sh", "-eu"].map(str::to_owned).into()))
}

/// The interpreter in a script's `#!` line, as the kernel reads it: a path, and everything after it as
/// *one* argument. `None` if there is no such line or nothing in it.
fn shebang(script: &str) -> Option<Vec<String>> {
    let line = script.strip_prefix("#!")?.lines().next()?;
    let line = line.trim_matches([' ', '\t', '\r']);
    let (path, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim_start_matches([' ', '\t']);
    let words = [path, argument].into_iter().filter(|word| !word.is_empty());
    Some(words.map(str::to_owned).collect()).filter(|words: &Vec<String>| !words.is_empty())
}

/// A key of `[[task]]`.
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it does, in one sentence for the user.
    pub about: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// The value that it has if it isn't there, as it is written, or in words; empty: it must be there, or is simply not.
    pub default: &'static str,
    /// A line of a manifest.
    pub example: &'static str,
    /// Why it can't be in `[defaults]`, in words that go on after "because".
    no_default: Option<&'static str>,
    /// What other tools call it, and what users therefore try.
    aliases: &'static [&'static str],
    /// Checks the value and puts it into the draft.
    read: fn(&mut Findings<'_>, &mut Draft, Setting<'_, '_>),
}

impl Key {
    /// What it does, of what kind its value is, and what it is by default.
    pub fn told(&self) -> String {
        let Key { about, kind, .. } = self;
        match self.default {
            "" => format!("{about} Value: {kind}."),
            default => format!("{about} Value: {kind}. Default: {default}."),
        }
    }

    /// True if `[defaults]` may have it, for all tasks.
    pub fn may_be_default(&self) -> bool {
        self.no_default.is_none()
    }
}

/// Every key of a task, in the order in which the documentation lists them.
pub const KEYS: &[Key] = &[
    Key {
        name: "name",
        about: "Required, unique in the manifest.",
        kind: Kind::Form("^[A-Za-z0-9._-]{1,64}$", "1 to 64 of A-Z a-z 0-9 . _ -"),
        default: "",
        example: "name = \"count\"",
        no_default: Some("each task has its own"),
        aliases: &["id"],
        read: name,
    },
    Key {
        name: "script",
        about: "Required: what each step of the task runs.",
        kind: Kind::Text,
        default: "",
        example: "script = 'wc -w < \"$INPUT_FILE\" > \"$OUTPUT_DIR/$INPUT_NAME\"'",
        no_default: Some("each task has its own"),
        aliases: &["run", "cmd", "command", "code"],
        read: script,
    },
    Key {
        name: "inputs",
        about: "Files on disk, as paths or globs relative to the manifest: one step per file, or, with gather, one \
                over all. Those after a ! are left out.",
        kind: Kind::Texts(1),
        default: "",
        example: "inputs = [\"data/*.csv\", \"!data/old.csv\"]",
        no_default: Some("each root says where its own inputs come from"),
        aliases: &[],
        read: inputs,
    },
    Key {
        name: "table",
        about: "A CSV or TSV file, relative to the manifest: one step per row. Each column is a label.",
        kind: Kind::Text,
        default: "",
        example: "table = \"samples.csv\"",
        no_default: Some("each root says where its own inputs come from"),
        aliases: &["sheet", "samplesheet", "sample_sheet", "samples", "csv", "tsv"],
        read: |found, draft, setting| {
            draft.table = setting.string(found).map(|file| (file.to_owned(), setting.span()));
        },
    },
    Key {
        name: "paths",
        about: "Columns of the table that are no labels but files, relative to the table: the inputs of the row's step.",
        kind: Kind::Texts(1),
        default: "",
        example: "paths = [\"r1\", \"r2\"]",
        no_default: Some("they are columns of one table"),
        aliases: &["file_columns", "path_columns"],
        read: paths,
    },
    Key {
        name: "from",
        about: "Tasks whose outputs it consumes. [] makes a root.",
        kind: Kind::Texts(0),
        default: "the task above",
        example: "from = [\"split\"]",
        no_default: Some("each task says what feeds it"),
        aliases: &["depends", "depends_on", "dependencies", "deps", "needs", "after", "requires"],
        read: |found, draft, setting| draft.from = Some(setting.strings(found)),
    },
    Key {
        name: "with",
        about: "Tasks whose outputs every step sees too, in $WITH_DIR/TASK/NAME: those that agree with it on every label \
                that both have.",
        kind: Kind::Texts(1),
        default: "",
        example: "with = [\"index\"]",
        no_default: Some("each task says what feeds it"),
        aliases: &["using", "beside"],
        read: |found, draft, setting| {
            draft.with = setting.strings(found);
            if setting.is_empty_list() {
                found.add(&setting.span(), "`with` is empty", "name a task, or leave `with` out");
            }
        },
    },
    Key {
        name: "match",
        about: "Globs on the names of the outputs it consumes, as a list, or as a table of lists by task: \
                { index = [\"*.bwt\"] }.",
        kind: Kind::Either(&Kind::Texts(1), &Kind::Table(&Kind::Texts(1))),
        default: "every output",
        example: "match = [\"*.txt\"]",
        no_default: Some("each task says what feeds it"),
        aliases: &["filter", "pattern", "glob"],
        read: matches,
    },
    Key {
        name: "parallel",
        about: "At most this many of its scripts at once.",
        kind: Kind::Whole(1, u64::MAX),
        default: "only limited by -j",
        example: "parallel = 2",
        no_default: None,
        aliases: &["jobs", "max_forks", "maxforks"],
        read: |found, draft, setting| {
            let help = "leave `parallel` out for no limit of the task's own";
            let number = setting.number(found, 1..=usize::MAX, help);
            draft.task.parallel = number.and_then(NonZeroUsize::new);
        },
    },
    Key {
        name: "cpus",
        about: "How many of the run's -j each step takes, which $CPUS tells it. More than -j: it runs alone.",
        kind: Kind::Whole(1, MOST_CPUS as u64),
        default: "1",
        example: "cpus = 4",
        no_default: None,
        aliases: &["cpu", "cores", "core", "threads", "nproc", "ncpus"],
        read: |found, draft, setting| {
            let help = "write how many processors a step keeps busy, or leave `cpus` out for one";
            let number = setting.number(found, 1..=MOST_CPUS, help);
            draft.task.cpus = number.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        },
    },
    Key {
        name: "memory",
        about: "Memory of a step, such as \"8G\": only so many run at once as --memory has room for.",
        kind: SIZE,
        default: "the highest of its last 20 peaks plus a fifth",
        example: "memory = \"8G\"",
        no_default: None,
        aliases: &["mem", "ram", "mem_mb", "mem_gb", "max_memory"],
        read: |found, draft, setting| {
            draft.task.memory = setting.size(found);
            if draft.task.memory == Some(0) {
                let help = "leave `memory` out if it is not known";
                found.add(&setting.span(), "`memory` is zero", help);
            }
        },
    },
    Key {
        name: "uses",
        about: "What else a step takes for itself, such as { gpu = 1 }, of what --have says there is.",
        kind: Kind::Table(&Kind::Whole(1, MOST_USED as u64)),
        default: "",
        example: "uses = { gpu = 1 }",
        no_default: None,
        aliases: &["resources", "resource", "gpu", "gpus", "accelerator", "licenses"],
        read: uses,
    },
    Key {
        name: "batch",
        about: "At most this many of its steps share one start of the script, which finds each in a folder of \
                $BATCH_DIR.",
        kind: Kind::Whole(1, MOST_IN_BATCH as u64),
        default: "",
        example: "batch = 100",
        no_default: Some("its script is written for BATCH_DIR, and others are not"),
        aliases: &["batch_size", "batchsize", "batches", "chunk", "chunk_size", "chunks", "bulk"],
        read: |found, draft, setting| {
            let help =
                "write how many steps may share one start of the script, such as batch = 100";
            let number = setting.number(found, 1..=MOST_IN_BATCH, help);
            draft.task.batch = number.and_then(NonZeroUsize::new);
        },
    },
    Key {
        name: "timeout",
        about: "Time after which a script is ended, such as \"30s\" or \"1h30m\".",
        kind: DURATION,
        default: "no limit",
        example: "timeout = \"1h30m\"",
        no_default: None,
        aliases: &[],
        read: timeout,
    },
    Key {
        name: "retries",
        about: "How often a failed step is tried again within one run.",
        kind: Kind::Whole(0, MOST_RETRIES as u64),
        default: "0",
        example: "retries = 2",
        no_default: None,
        aliases: &["retry"],
        read: retries,
    },
    Key {
        name: "retry_delay",
        about: "Pause before each further attempt.",
        kind: DURATION,
        default: "none",
        example: "retry_delay = \"1s\"",
        no_default: None,
        aliases: &[],
        read: |found, draft, setting| {
            draft.task.retry_delay = setting.duration(found).unwrap_or_default();
        },
    },
    Key {
        name: "env",
        about: "Variables for the script, such as { LC_ALL = \"C\" }. Part of the recipe.",
        kind: Kind::Table(&Kind::Text),
        default: "",
        example: "env = { LC_ALL = \"C\" }",
        no_default: None,
        aliases: &["environment"],
        read: env,
    },
    Key {
        name: "env_from",
        about: "Variables of the caller's that the script is given and depends on: another value, or none, reruns the \
                task.",
        kind: Kind::Names,
        default: "",
        example: "env_from = [\"STR\"]",
        no_default: None,
        aliases: &["env_vars", "pass_env", "passenv", "env_pass", "inherit", "inherit_env"],
        read: env_from,
    },
    Key {
        name: "clean_env",
        about: "true: of the caller's variables the script gets PATH, HOME, LANG and those of env_from, and no others.",
        kind: Kind::Switch,
        default: "false",
        example: "clean_env = true",
        no_default: None,
        aliases: &["cleanenv", "clear_env", "isolate_env", "empty_env"],
        read: |found, draft, setting| {
            draft.task.clean_env = setting.boolean(found).unwrap_or_default();
        },
    },
    Key {
        name: "params",
        about: "Names of [params] that the script gets as variables. Their values are part of the recipe.",
        kind: Kind::Texts(0),
        default: "",
        example: "params = [\"seed\"]",
        no_default: Some(
            "a task that names a param runs again when it changes, and no other should",
        ),
        aliases: &["param", "parameters", "vars", "config"],
        read: |found, draft, setting| draft.params = setting.strings(found),
    },
    Key {
        name: "files",
        about: "Further files that the script reads, as paths, globs or folders (ref/). Their content is part of the \
                recipe.",
        kind: Kind::Texts(0),
        default: "",
        example: "files = [\"tidy.sed\", \"ref/\"]",
        no_default: None,
        aliases: &[],
        read: files,
    },
    Key {
        name: "outputs",
        about: "Globs on the names of what each step leaves: without a file for every one of them it has failed. [] says \
                that a step may leave nothing. No part of the recipe.",
        kind: Kind::Texts(0),
        default: "",
        example: "outputs = [\"*.jpg\"]",
        no_default: None,
        aliases: &[
            "output",
            "expect",
            "expects",
            "expected",
            "produces",
            "creates",
            "products",
            "must_exist",
        ],
        read: outputs,
    },
    Key {
        name: "depfile",
        about: "A file in OUTPUT_DIR, which is no output: in it the script says, as a rule of make's (cc -MMD -MF), what \
                it has read. Its results stand while those files have that content.",
        kind: Kind::Text,
        default: "",
        example: "depfile = \".d\"",
        no_default: Some("its script has to write one, and others do not"),
        aliases: &["dep_file", "deps_file", "dependency_file", "dyndep"],
        read: depfile,
    },
    Key {
        name: "shell",
        about: "Interpreter and its arguments. A #! line of the script wins.",
        kind: Kind::Text,
        default: "\"sh -eu\"",
        example: "shell = \"bash -euo pipefail\"",
        no_default: None,
        aliases: &["interpreter"],
        read: shell,
    },
    Key {
        name: "cache",
        about: "false: its steps run anew in every run.",
        kind: Kind::Switch,
        default: "true",
        example: "cache = false",
        no_default: None,
        aliases: &[],
        read: |found, draft, setting| draft.task.cache = setting.boolean(found).unwrap_or(true),
    },
    Key {
        name: "gather",
        about: "true: one step over all outputs that it consumes, or over all its inputs, together. [\"sample\"]: one for \
                each value of this label.",
        kind: Kind::Either(&Kind::Switch, &Kind::Texts(1)),
        default: "false",
        example: "gather = [\"sample\"]",
        no_default: Some("each task says what a step of it is"),
        aliases: &["group_by", "groupby", "group"],
        read: gather,
    },
    Key {
        name: "matrix",
        about: "Labels with values, such as { lr = [\"0.1\", \"0.01\"] }: one step per input and combination.",
        kind: Kind::Table(&Kind::Scalars),
        default: "",
        example: "matrix = { lr = [\"0.1\", \"0.01\"], depth = [3, 5] }",
        no_default: Some("each task says what a step of it is"),
        aliases: &["expand", "sweep", "strategy"],
        read: matrix,
    },
    Key {
        name: "gather_empty",
        about: "true: with gather, its step runs also if there is nothing to gather.",
        kind: Kind::Switch,
        default: "false",
        example: "gather_empty = true",
        no_default: Some("it goes with `gather`, which each task has for itself"),
        aliases: &["allow_empty"],
        read: |found, draft, setting| {
            draft.task.gather_empty = setting.boolean(found).unwrap_or_default();
        },
    },
    Key {
        name: "input",
        about: "\"copy\": its inputs are private copies; \"auto\": large ones, and those of a gather, may be links.",
        kind: Kind::Word(&["auto", "copy"]),
        default: "\"auto\"",
        example: "input = \"copy\"",
        no_default: None,
        aliases: &["stage", "stage_in"],
        read: input,
    },
    Key {
        name: "jobserver",
        about: "true: make, cargo and ninja in the script share the run's -j.",
        kind: Kind::Switch,
        default: "false",
        example: "jobserver = true",
        no_default: None,
        aliases: &["make"],
        read: |found, draft, setting| {
            draft.task.jobserver = setting.boolean(found).unwrap_or_default()
        },
    },
    Key {
        name: "sandbox",
        about: "true: the kernel refuses its scripts whatever the task doesn't declare: they read the system's folders, \
                their inputs, files and read, and write OUTPUT_DIR and TMPDIR.",
        kind: Kind::Switch,
        default: "false",
        example: "sandbox = true",
        no_default: None,
        aliases: &[
            "sandboxed",
            "isolate",
            "isolated",
            "isolation",
            "hermetic",
            "landlock",
            "confine",
        ],
        read: |found, draft, setting| {
            draft.task.sandbox = setting.boolean(found).unwrap_or_default();
        },
    },
    Key {
        name: "read",
        about: "Files and folders that scripts in a sandbox may read besides, such as [\"/data/ref\"]; with all that is in \
                them. No part of the recipe.",
        kind: Kind::Texts(1),
        default: "",
        example: "read = [\"/data/ref\"]",
        no_default: None,
        aliases: &["reads", "readable", "readonly", "allow", "allow_read", "mounts"],
        read: readable,
    },
    Key {
        name: "network",
        about: "false: scripts in a sandbox can't connect by TCP.",
        kind: Kind::Switch,
        default: "true",
        example: "network = false",
        no_default: None,
        aliases: &["net", "internet", "offline"],
        read: |found, draft, setting| {
            draft.task.network = setting.boolean(found).unwrap_or(true);
        },
    },
    Key {
        name: "export",
        about: "The folder that its results lie in after a run, below the manifest's: \"results/{sample}\" has one of each \
                value of a label.",
        kind: Kind::Text,
        default: "",
        example: "export = \"results/{sample}\"",
        no_default: Some("each task has a folder of its own"),
        aliases: &["publish", "publishdir", "publish_dir", "outdir"],
        read: |found, draft, setting| match setting.string(found).map(ExportPath::parse) {
            None => {}
            Some(Ok(path)) => draft.task.export = Some(Box::new(path)),
            Some(Err((message, help))) => found.add(&setting.span(), message, help),
        },
    },
    Key {
        name: "report",
        about: "true: its outputs are shown in the report: pictures (PNG, JPEG, SVG), tables (CSV, TSV), JSON and text.",
        kind: Kind::Switch,
        default: "false",
        example: "report = true",
        no_default: None,
        aliases: &["show", "reported", "plot"],
        read: |found, draft, setting| {
            draft.task.report = setting.boolean(found).unwrap_or_default();
        },
    },
];

/// No machine has more; `-j` has the same limit.
const MOST_CPUS: usize = 4096;

/// Beyond this, a larger batch saves nothing: the start of the script is spread over enough steps already, and if the
/// script fails, each of them runs by itself.
const MOST_IN_BATCH: usize = 10_000;

/// A task whose producers are still names.
pub(super) struct Draft {
    pub(super) task: Task,
    /// Place of the value of `name`, if there is one.
    pub(super) name_place: Option<Range<usize>>,
    /// `from` as written; `None` if it isn't there.
    pub(super) from: Option<Vec<(String, Range<usize>)>>,
    /// `with` as written.
    pub(super) with: Vec<(String, Range<usize>)>,
    /// `table` as written.
    pub(super) table: Option<(String, Range<usize>)>,
    /// `paths` as written.
    pub(super) paths: Vec<(String, Range<usize>)>,
    /// `match` as a table: each name with its place and its globs.
    pub(super) matches_of: Vec<(String, Range<usize>, Vec<String>)>,
    /// `params` as written.
    pub(super) params: Vec<(String, Range<usize>)>,
    /// Place of the value of `script`, if there is one.
    pub(super) script_place: Option<Range<usize>>,
    /// The labels of `gather`, and where they are.
    pub(super) gather_places: Vec<(String, Range<usize>)>,
    /// The variables of its own `env`, without those of the defaults.
    own_env: BTreeSet<String>,
    /// The keys that the task has, and where.
    keys: Vec<(&'static str, Range<usize>)>,
    /// Those of `[defaults]`.
    default_keys: Arc<[(&'static str, Range<usize>)]>,
}

impl Draft {
    /// With nothing said but these defaults.
    fn of(task: Task, default_keys: Arc<[(&'static str, Range<usize>)]>) -> Draft {
        Draft {
            task,
            name_place: None,
            script_place: None,
            from: None,
            with: Vec::new(),
            table: None,
            paths: Vec::new(),
            matches_of: Vec::new(),
            params: Vec::new(),
            gather_places: Vec::new(),
            own_env: BTreeSet::new(),
            keys: Vec::new(),
            default_keys,
        }
    }

    /// What a task is that says nothing, where the manifest has no `[defaults]`.
    pub(super) fn blank() -> Draft {
        Draft::of(Task::blank(), Arc::default())
    }

    /// The same with the values of `[defaults]`.
    pub(super) fn read_defaults(found: &mut Findings<'_>, setting: Setting<'_, '_>) -> Draft {
        let mut draft = Draft::blank();
        if setting.is_list() {
            let help = "write [defaults], with one pair of brackets: they are for all tasks";
            found.wrong_type(&setting.span(), "defaults", "a table", "a list", help);
            return draft;
        }
        for (key, value) in setting.table(found, "{ retries = 2 }").into_iter().flatten() {
            let written = key.get_ref().as_ref();
            match KEYS.iter().find(|key| key.name == written) {
                Some(Key { no_default: Some(why), .. }) => {
                    let message = format!("{} can't be a default: {why}", quoted(written));
                    found.add(&key.span(), message, "move it to the tasks that it is for");
                }
                Some(known) => {
                    draft.keys.push((known.name, key.span()));
                    (known.read)(found, &mut draft, Setting { key: known.name, value });
                }
                None => unknown(found, written, &key.span(), "`[defaults]`"),
            }
        }
        draft.give_each_variable_one_value(found);
        draft.default_keys = draft.keys.as_slice().into();
        draft
    }

    /// Reads a task whose header is at `header`, and whose keys are within `extent`. What it doesn't say is as in
    /// `defaults`; of `env` that goes for each variable.
    pub(super) fn read(
        found: &mut Findings<'_>,
        defaults: &Draft,
        table: &DeTable<'_>,
        header: &Range<usize>,
        extent: &Range<usize>,
    ) -> Draft {
        let default_keys = Arc::clone(&defaults.default_keys);
        let mut draft = Draft::of(defaults.task.clone(), default_keys);
        for (key, value) in table {
            let written = key.get_ref().as_ref();
            match KEYS.iter().find(|key| key.name == written) {
                Some(known) => {
                    draft.keys.push((known.name, key.span()));
                    (known.read)(found, &mut draft, Setting { key: known.name, value });
                }
                None => unknown(found, written, &key.span(), "a task"),
            }
        }
        for key in ["name", "script"] {
            if draft.place(key).is_none() && !found.is_damaged_in(extent) {
                let message = format!("the task has no `{key}`");
                found.add(header, message, format!("add {key} = \"…\""));
            }
        }
        draft.give_each_variable_one_value(found);
        draft.check_together(found);
        draft
    }

    /// Where a key is, if the task has it.
    pub(super) fn place(&self, key: &str) -> Option<&Range<usize>> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, place)| place)
    }

    /// Where `[defaults]` has a key, if it does.
    pub(super) fn default_place(&self, key: &str) -> Option<&Range<usize>> {
        self.default_keys.iter().find(|(known, _)| *known == key).map(|(_, place)| place)
    }

    /// Which of `env` and `env_from` has a variable, if one of them does.
    pub(super) fn variable_of(&self, name: &str) -> Option<&'static str> {
        match () {
            () if self.task.env.contains_key(name) => Some("env"),
            () if self.task.env_from.contains_key(name) => Some("env_from"),
            () => None,
        }
    }

    /// A variable of both `env` and `env_from` is a mistake, unless one of the two is a default: then the task's own
    /// counts.
    fn give_each_variable_one_value(&mut self, found: &mut Findings<'_>) {
        let both = self.task.env_from.keys().filter(|name| self.task.env.contains_key(*name));
        let both: Vec<String> = both.cloned().collect();
        for name in both {
            match (self.own_env.contains(&name), self.place("env_from")) {
                (true, Some(place)) => {
                    let message = format!("{} is in `env` and in `env_from`", quoted(&name));
                    found.add(place, message, "drop one of the two: a variable has one value");
                }
                (true, None) => _ = self.task.env_from.remove(&name),
                (false, _) => _ = self.task.env.remove(&name),
            }
        }
    }

    /// Keys that are fine by themselves but not beside each other.
    fn check_together(&self, found: &mut Findings<'_>) {
        if let Some(place) = self.place("inputs")
            && self.from.as_ref().is_some_and(|from| !from.is_empty())
        {
            let help = "drop one of the two: a task works on files or on other tasks' outputs";
            found.add(place, "`inputs` can't go together with `from`", help);
        }
        if let Some(place) = self.place("table") {
            let with_from = self.from.as_ref().is_some_and(|from| !from.is_empty());
            let others = [
                ("inputs", self.place("inputs").is_some()),
                ("from", with_from),
                ("gather", self.task.gather),
                ("match", self.place("match").is_some()),
            ];
            for (key, _) in others.into_iter().filter(|(_, is_there)| *is_there) {
                let help = match key {
                    "gather" => "put the `gather` into a task of its own, after this one",
                    _ => "drop one of the two: the rows of the table are the inputs",
                };
                found.add(place, format!("`table` can't go together with `{key}`"), help);
            }
        }
        if let Some(place) = self.place("paths")
            && self.place("table").is_none()
        {
            let help = "add table = \"samples.csv\", or drop `paths`";
            found.add(place, "`paths` does nothing without `table`", help);
        }
        if let Some(place) = self.place("gather_empty")
            && !self.task.gather
        {
            let help = "add gather = true, or drop `gather_empty`";
            found.add(place, "`gather_empty` does nothing without `gather`", help);
        }
        if let Some(place) = self.place("batch")
            && self.task.gather
            && self.task.gather_keys.is_empty()
        {
            let help = "drop `batch`: there is one step over everything; or gather by a label, as in gather = [\"sample\"]";
            found.add(place, "`batch` does nothing with gather = true", help);
        }
        if let (Some(depfile), Some(outputs)) = (&self.task.depfile, &self.task.outputs)
            && outputs.contains(depfile)
            && let Some(place) = self.place("outputs")
        {
            let message = format!("{} of `outputs` is the depfile, and no output", quoted(depfile));
            found.add(place, message, "take it out: a step without its depfile has failed anyway");
        }
        if let Some(place) = self.place("matrix")
            && self.task.gather
        {
            let help = "put the `matrix` into a task of its own, after or before this one";
            found.add(place, "`matrix` can't go together with `gather`", help);
        }
        for key in ["read", "network"] {
            if let Some(place) = self.place(key)
                && !self.task.sandbox
            {
                let message = format!("`{key}` does nothing without `sandbox = true`");
                found.add(place, message, format!("add sandbox = true, or drop `{key}`"));
            }
        }
        if let Some(place) = self.place("retry_delay")
            && self.place("retries").is_none()
            && self.default_place("retries").is_none()
        {
            let help = "add retries = 2, or drop `retry_delay`";
            found.add(place, "`retry_delay` does nothing without `retries`", help);
        }
    }
}

/// Reports a key that no task has, or that no default can be.
fn unknown(found: &mut Findings<'_>, written: &str, place: &Range<usize>, whose: &str) {
    let is_alias = |alias: &&str| alias.eq_ignore_ascii_case(written);
    let names = || KEYS.iter().map(|key| key.name);
    let meant = KEYS.iter().find(|key| key.aliases.iter().any(is_alias)).map(|key| key.name);
    let help = match meant.or_else(|| suggest::nearest(written, names())) {
        _ if written == "title" => {
            "it names the whole pipeline: write it at the top, before the first table".to_owned()
        }
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("a task has {}", names().collect::<Vec<_>>().join(", ")),
    };
    found.add(place, format!("unknown key {} in {whose}", quoted(written)), help);
}

fn name(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    draft.name_place = Some(setting.span());
    let Some(name) = setting.string(found) else { return };
    draft.task.name = name.to_owned();
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_fine) {
        let help = "a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -";
        found.add(&setting.span(), format!("{} can't be the name of a task", quoted(name)), help);
    } else if matches!(name, "." | "..") {
        // The script is run from a file of its task's name.
        let help = "`.` and `..` are folders everywhere; give it another name";
        found.add(&setting.span(), format!("{} can't be the name of a task", quoted(name)), help);
    }
}

fn script(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    draft.script_place = Some(setting.span());
    let Some(script) = setting.string(found) else { return };
    draft.task.script = script.to_owned();
    if script.trim().is_empty() {
        let help = "write what the task does; `:` does nothing";
        found.add(&setting.span(), "the script is empty", help);
    }
}

/// More labels of a `gather` than anybody needs; all subsets of them are asked for.
const MOST_GATHERED: usize = 8;

fn gather(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    if !setting.is_list() {
        draft.task.gather = setting.boolean(found).unwrap_or_default();
        return;
    }
    draft.task.gather = true;
    draft.gather_places = setting.strings(found);
    if setting.is_empty_list() {
        let help = "write gather = true for one step over everything";
        found.add(&setting.span(), "`gather` names no label", help);
    } else if draft.gather_places.len() > MOST_GATHERED {
        let help = "put what belongs together into one label";
        found.add(
            &setting.span(),
            format!("`gather` names more than {MOST_GATHERED} labels"),
            help,
        );
    }
    for (key, place) in &draft.gather_places {
        if let Some(why) = key_mistake(key) {
            let help = "name a label, such as gather = [\"sample\"]";
            found.add(place, format!("{} can't be a label: {why}", quoted(key)), help);
        } else if draft.task.gather_keys.contains(key) {
            found.add(place, format!("{} is in this `gather` already", quoted(key)), "take it out");
        } else {
            draft.task.gather_keys.push(key.clone());
        }
    }
}

/// More steps of one input than anybody wants.
const MOST_COMBINATIONS: usize = 10_000;

fn matrix(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let example = "{ lr = [\"0.1\", \"0.01\"], depth = [3, 5] }";
    let Some(table) = setting.table(found, example) else { return };
    let mut combinations = vec![Labels::default()];
    for (key, value) in table {
        let (name, span) = (key.get_ref().as_ref(), key.span());
        if let Some(why) = key_mistake(name) {
            let help = "a label is a lower-case word, such as lr";
            found.add(&span, format!("{} can't be a label: {why}", quoted(name)), help);
        }
        let values = Setting { key: name, value }.texts(found);
        if values.is_empty() {
            let help = "name at least one value, or take the label out";
            found.add(&value.span(), format!("{} has no value", quoted(name)), help);
        }
        if combinations.len().saturating_mul(values.len()) > MOST_COMBINATIONS {
            let message = format!("`matrix` has more than {MOST_COMBINATIONS} combinations");
            found.add(&setting.span(), message, "leave some values out");
            return;
        }
        let with = |labels: &Labels, value: &String| {
            let mut labels = labels.clone();
            labels.add(name, value);
            labels
        };
        combinations = combinations
            .iter()
            .flat_map(|labels| values.iter().map(move |value| with(labels, value)))
            .collect();
    }
    if table.is_empty() {
        found.add(&setting.span(), "`matrix` is empty", format!("write matrix = {example}"));
    } else {
        draft.task.matrix = combinations;
    }
}

fn input(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let Some(word) = setting.string(found) else { return };
    draft.task.copies_input = word == "copy";
    if !matches!(word, "copy" | "auto") {
        let help = "write input = \"copy\" for private copies of any size, or leave it out; files to read are \
                    named by `inputs`";
        found.add(&setting.span(), format!("`input` can't be {}", quoted(word)), help);
    }
}

fn inputs(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let (exclusions, inputs): (Vec<_>, Vec<_>) =
        setting.strings(found).into_iter().partition(|(pattern, _)| pattern.starts_with('!'));
    let has_exclusions = !exclusions.is_empty();
    draft.task.inputs = globs(found, inputs, |_| true);
    for (pattern, span) in exclusions {
        let pattern = &pattern[1..];
        if pattern.is_empty() {
            let help = "write a path or a glob after it; a file called `!` is `./!`";
            found.add(&span, "`!` alone leaves nothing out", help);
        }
        if capture::captured(pattern).is_ok_and(|captured| !captured.keys.is_empty()) {
            let help = "what is left out has no labels: write `*` for it";
            found.add(&span, "an exclusion can't capture", help);
        }
        check_glob(found, pattern, &span);
        draft.task.exclusions.push(pattern.to_owned());
    }
    if has_exclusions && draft.task.inputs.is_empty() {
        let help = "name the files that they are taken from too, such as \"src/*.c\"; a name that begins with `!` is \
                    written `./!name`";
        found.add(&setting.span(), "`inputs` has nothing but exclusions", help);
    }
    if setting.is_empty_list() {
        let help = "name at least one file, or leave `inputs` out: a task with from = [] gets \
                    the files named on the command line";
        found.add(&setting.span(), "`inputs` is empty", help);
    }
}

fn paths(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    for (column, place) in setting.strings(found) {
        if draft.paths.iter().any(|(known, _)| *known == column) {
            found.add(
                &place,
                format!("{} is in this `paths` already", quoted(&column)),
                "take it out",
            );
        } else {
            draft.paths.push((column, place));
        }
    }
    if setting.is_empty_list() {
        let help = "name columns of the table, or leave `paths` out: then every column is a label";
        found.add(&setting.span(), "`paths` is empty", help);
    }
}

fn matches(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let Some(table) = setting.as_table() else {
        let list = setting.strings(found);
        draft.task.matches = globs(found, list, could_be_an_output);
        if setting.is_empty_list() {
            let help = "leave `match` out to take every output";
            found.add(&setting.span(), "`match` is empty and would take no output", help);
        }
        return;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let setting = Setting { key: name, value };
        let list = setting.strings(found);
        let globs = globs(found, list, could_be_an_output);
        if setting.is_empty_list() {
            let message = format!("`match` would take no output of {}", quoted(name));
            let help = "name a glob, leave the task out here to take every output, or take it out of `from`";
            found.add(&setting.span(), message, help);
        }
        draft.matches_of.push((name.to_owned(), key.span(), globs));
    }
    if table.is_empty() {
        let help = "leave `match` out to take every output";
        found.add(&setting.span(), "`match` is empty", help);
    }
}

/// Globs, each of which has to match something that `could_exist`.
fn globs(
    found: &mut Findings<'_>,
    list: Vec<(String, Range<usize>)>,
    could_exist: impl Fn(&str) -> bool,
) -> Vec<String> {
    for (glob, span) in &list {
        let glob = &match capture::captured(glob) {
            Ok(captured) => captured.glob,
            Err(why) => {
                let help =
                    "a label is `{sample}`; put a `\\` before a brace that stands for itself";
                found.add(span, why, help);
                continue;
            }
        };
        if !check_glob(found, glob, span) {
            continue;
        }
        if glob.ends_with('/') {
            let help = format!("write {} for the files in it", quoted(&format!("{glob}*")));
            found.add(span, format!("{} names a folder, not files", quoted(glob)), help);
        } else if !could_exist(glob) {
            let help =
                "an output's name is its path below OUTPUT_DIR, such as `x.txt` or `sub/x.txt`";
            found.add(span, format!("{} matches no output", quoted(glob)), help);
        }
    }
    list.into_iter().map(|(glob, _)| glob).collect()
}

fn uses(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let example = "{ gpu = 1 }";
    if setting.is_list() {
        let help =
            format!("write uses = {example}; tasks whose outputs are seen too are named by `with`");
        found.wrong_type(&setting.span(), "uses", "a table", "a list", help);
        return;
    }
    let Some(table) = setting.table(found, example) else { return };
    draft.task.uses.clear();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if let Some(why) = resource_mistake(name) {
            let help = "name it with letters, digits, `_` and `-`, such as gpu";
            found.add(&key.span(), format!("{} can't be a resource: {why}", quoted(name)), help);
        }
        let meant = match name {
            "cpus" | "cpu" | "cores" | "threads" => Some("cpus = 4"),
            "memory" | "mem" | "ram" | "mem_mb" => Some("memory = \"8G\""),
            _ => None,
        };
        if let Some(meant) = meant {
            let help = format!("write {meant} as a key of the task");
            found.add(&key.span(), format!("{} is no resource of `uses`", quoted(name)), help);
            continue;
        }
        let help = "write how many of them a step takes, or take it out";
        let number = Setting { key: name, value }.number(found, 1..=MOST_USED, help);
        if let Some(number) = number.and_then(NonZeroUsize::new) {
            draft.task.uses.insert(name.to_owned(), number);
        }
    }
    if table.is_empty() && draft.default_place("uses").is_none() {
        found.add(
            &setting.span(),
            "`uses` is empty",
            format!("write uses = {example}, or leave it out"),
        );
    }
}

/// More of a thing than anybody has.
const MOST_USED: usize = 1_000_000;

/// Why a resource of `uses` and `--have` can't be called so, if it can't.
pub(crate) fn resource_mistake(name: &str) -> Option<&'static str> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match name {
        "" => Some("it is empty"),
        _ if name.len() > 64 => Some("it is longer than 64 bytes"),
        _ if !name.bytes().all(is_fine) => Some("it has other characters than A-Z a-z 0-9 _ -"),
        _ if !name.as_bytes()[0].is_ascii_alphabetic() => Some("it doesn't begin with a letter"),
        _ => None,
    }
}

fn timeout(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    draft.task.timeout = setting.duration(found);
    if draft.task.timeout == Some(Duration::ZERO) {
        found.add(&setting.span(), "`timeout` is zero", "leave `timeout` out for no limit");
    }
}

/// Nobody means more; the number was probably meant for another key.
const MOST_RETRIES: usize = 1000;

fn retries(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let help = "write how often a failed step is tried again within one run";
    let number = setting.number(found, 0..=MOST_RETRIES, help);
    draft.task.retries = number.and_then(|number| number.try_into().ok()).unwrap_or_default();
}

/// Names and values that a process can be given.
fn env(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    for (name, value) in setting.table(found, "{ NAME = \"value\" }").into_iter().flatten() {
        let place = name.span();
        let name = name.get_ref().as_ref();
        check_variable(found, name, &place);
        if let Some(value) = (Setting { key: name, value }).string(found) {
            draft.task.env.insert(name.to_owned(), value.to_owned());
            draft.own_env.insert(name.to_owned());
        }
    }
}

fn check_variable(found: &mut Findings<'_>, name: &str, place: &Range<usize>) {
    if name.is_empty() || name.contains(['=', '\0']) {
        let message = format!("{} can't be the name of a variable", quoted(name));
        found.add(place, message, "use a name that isn't empty, without `=` and NUL");
    } else if var::ALL.contains(&name) {
        // The manifest's own value would never reach the script.
        let message = format!("`{name}` is set by task-pipeline itself, for every step");
        found.add(place, message, "use another name");
    }
}

/// Names, each with the value that it has in this process.
fn env_from(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    draft.task.env_from.clear();
    for (name, place) in setting.strings(found) {
        let name = match name.strip_prefix('$') {
            Some(plain) => {
                let help = format!("write the name alone: \"{plain}\"");
                found.add(&place, "`env_from` takes names, not values", help);
                continue;
            }
            None => name,
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !name.bytes().all(is_name) || name.starts_with(|first: char| first.is_ascii_digit()) {
            let message = format!("{} can't be the name of a variable", quoted(&name));
            found.add(&place, message, "a name has letters, digits and `_`, and no digit in front");
            continue;
        }
        check_variable(found, &name, &place);
        if var::OF_MAKE.contains(&name.as_str()) {
            let message = format!("{} is make's, and no script gets it", quoted(&name));
            let help = "take it out; jobserver = true shares make's jobs with the script";
            found.add(&place, message, help);
            continue;
        }
        if draft.task.env_from.contains_key(&name) {
            let message = format!("{} is in this `env_from` already", quoted(&name));
            found.add(&place, message, "take it out");
            continue;
        }
        let value = std::env::var_os(&name).map(OsString::into_string).transpose();
        let value = value.unwrap_or_else(|_| {
            let message = format!("the value that {} has is not UTF-8", quoted(&name));
            let help = "set it to text; for other bytes name a file that has them";
            found.add(&place, message, help);
            None
        });
        draft.task.env_from.insert(name, value);
    }
}

/// Globs on names of outputs, without labels.
fn outputs(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let list = setting.strings(found);
    for (glob, span) in &list {
        if capture::captured(glob).is_ok_and(|captured| !captured.keys.is_empty()) {
            let help = "write `*` for it";
            found.add(span, format!("{} of `outputs` can't make a label", quoted(glob)), help);
        }
        if has_variable(glob) {
            let help = "names are below OUTPUT_DIR: write \"*.jpg\" for every picture there; a `$` that stands for itself \
                        is written `\\$`";
            let message = format!("no variable has a value in {} of `outputs`", quoted(glob));
            found.add(span, message, help);
        }
    }
    draft.task.outputs = Some(globs(found, list, could_be_an_output));
}

/// `$name` or `${name}`, without a `\` before it.
fn has_variable(glob: &str) -> bool {
    glob.match_indices('$').any(|(at, _)| {
        let after = glob[at + 1..].trim_start_matches('{');
        let is_name = |first: char| first.is_ascii_alphabetic() || first == '_';
        after.starts_with(is_name) && !glob[..at].ends_with('\\')
    })
}

/// No file below OUTPUT_DIR has an absolute name, or one with `.` or `..`.
fn could_be_an_output(glob: &str) -> bool {
    !glob.split('/').any(|part| part.is_empty() || part == "." || part == "..")
}

/// Paths, globs, and folders (`ref/`).
fn files(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let list = setting.strings(found);
    for (glob, span) in &list {
        if glob.starts_with('!') {
            let help = "name what the script reads; for a file called so, write ./!…";
            found.add(span, "`files` takes no exclusions", help);
        }
        check_glob(found, glob, span);
    }
    draft.task.files = list.into_iter().map(|(path, _)| path).collect();
}

/// Paths, no globs: a rule of the kernel's is for a folder as a whole, whatever comes into it.
fn readable(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let list = setting.strings(found);
    for (path, span) in &list {
        if !pattern::is_plain(path) {
            let help = "name the file, or the folder that the files are in";
            found.add(span, format!("`read` takes no globs, and {} is one", quoted(path)), help);
        } else if path == "~" || path.starts_with("~/") {
            let help = "write the whole path, from the `/` on";
            found.add(span, format!("`~` in {} means nothing in a manifest", quoted(path)), help);
        }
    }
    if setting.is_empty_list() && draft.default_place("read").is_none() {
        let help = "name a folder or a file, or leave `read` out";
        found.add(&setting.span(), "`read` is empty", help);
    }
    draft.task.read = list.into_iter().map(|(path, _)| path).collect();
}

/// A name that a file below OUTPUT_DIR can have.
fn depfile(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let Some(name) = setting.string(found) else { return };
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if name.split('/').all(is_name) {
        draft.task.depfile = Some(name.to_owned());
        return;
    }
    let help = "name a file below OUTPUT_DIR, such as depfile = \".d\", and let the script write it: \
                cc -MMD -MF \"$OUTPUT_DIR/.d\"";
    found.add(
        &setting.span(),
        format!("{} is no name of a file below OUTPUT_DIR", quoted(name)),
        help,
    );
}

/// Reports what is no glob; false if it is none.
fn check_glob(found: &mut Findings<'_>, glob: &str, span: &Range<usize>) -> bool {
    let is_glob = pattern::glob_set([glob]).and_then(|_| pattern::expand(glob));
    if let Err(why) = &is_glob {
        let help = "put a `\\` before a character that stands for itself (`\\\\` within \"…\")";
        found.add(span, format!("{} is no glob: {why}", quoted(glob)), help);
    }
    is_glob.is_ok()
}

/// Split into words as a shell would.
fn shell(found: &mut Findings<'_>, draft: &mut Draft, setting: Setting<'_, '_>) {
    let Some(text) = setting.string(found) else { return };
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|word| !word.is_empty()) => {
            draft.task.shell = words.into();
        }
        Some(_) => {
            let help = "name an interpreter and its arguments, such as \"bash -euo pipefail\"";
            found.add(&setting.span(), "`shell` is empty", help);
        }
        None => {
            let help = "close every quote, and put something after the last `\\`";
            found.add(&setting.span(), "`shell` can't be split into words", help);
        }
    }
}
