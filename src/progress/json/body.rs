//! What each event has to say, as it is written.

use std::borrow::Cow;

use serde::Serialize;

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Body<'a> {
    Started {
        schema: &'static str,
        version: &'static str,
        manifest: Cow<'a, str>,
        db: Cow<'a, str>,
        jobs: usize,
        durability: &'a str,
        pid: u32,
        host: Host,
    },
    Text {
        text: &'a str,
    },
    Opened {
        tasks: usize,
    },
    Planned {
        run: i64,
        tasks: Vec<Task<'a>>,
        to_run: u64,
        retired_with_task: u64,
    },
    Grown {
        task: &'a str,
        pending: u64,
        revived: u64,
    },
    StepStarted {
        #[serde(flatten)]
        step: Step<'a>,
        worker: usize,
        began_us: u64,
    },
    StepEnded {
        #[serde(flatten)]
        step: Step<'a>,
        #[serde(flatten)]
        end: Box<End<'a>>,
    },
    StepDropped(Step<'a>),
    StepLog {
        #[serde(flatten)]
        step: Step<'a>,
        text: Cow<'a, str>,
    },
    Committed {
        steps: usize,
        began_us: u64,
        barrier_us: u64,
        commit_us: u64,
    },
    Interrupted {
        signal: i32,
        signal_name: Option<&'static str>,
        presses: usize,
    },
    Summary {
        done: u64,
        reused: u64,
        revived: u64,
        failed: u64,
        left: u64,
        outputs: u64,
        waiting: &'a [String],
        spoilt: Vec<String>,
        complete: bool,
        wall_us: u64,
    },
    Ended {
        exit_code: Option<u8>,
        signal: Option<i32>,
        error: Option<&'a str>,
    },
}

#[derive(Serialize)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) kernel: String,
    pub(super) arch: &'static str,
    pub(super) cpus: usize,
}

#[derive(Serialize)]
pub(super) struct Task<'a> {
    pub(super) task: &'a str,
    pub(super) new: u64,
    pub(super) again: u64,
    pub(super) reused: u64,
    pub(super) retired: u64,
    pub(super) waits_for_inputs: bool,
}

#[derive(Serialize)]
pub(super) struct Step<'a> {
    pub(super) step: i64,
    pub(super) task: &'a str,
    pub(super) input: Cow<'a, str>,
    pub(super) object: String,
    pub(super) key: String,
    pub(super) attempt: i64,
}

#[derive(Serialize)]
pub(super) struct End<'a> {
    pub(super) worker: Option<i64>,
    pub(super) outcome: &'static str,
    pub(super) again: bool,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) why: Option<&'a str>,
    pub(super) began_us: u64,
    pub(super) ended_us: u64,
    pub(super) started_ms: i64,
    pub(super) wall_us: u64,
    pub(super) user_us: u64,
    pub(super) system_us: u64,
    pub(super) peak_kib: u64,
    pub(super) outputs: Vec<Output<'a>>,
    pub(super) log: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Output<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) object: String,
    pub(super) size: u64,
    pub(super) executable: bool,
}
