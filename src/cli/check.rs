//! What the commands mean beyond their single words: `plan` is a run, and some words rule out others.

use super::{Color, Durability, Invocation, Plan, Run};

impl From<Plan> for Run {
    fn from(plan: Plan) -> Run {
        let Plan { manifest, db, always, step, no_inputs, check: _, json, inputs } = plan;
        Run {
            manifest,
            db,
            jobs: None,
            keep_going: false,
            dry_run: true,
            watch: false,
            always,
            quiet: false,
            verbose: false,
            step,
            no_inputs,
            wait: false,
            durability: Durability::Batch,
            min_free: 0,
            allow_network_fs: true,
            events: None,
            trace: None,
            color: Color::Auto,
            json,
            inputs,
        }
    }
}

impl Invocation {
    /// Refuses words that are each right but make no sense together.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let (inputs, no_inputs) = match self {
            Invocation::Run(run) => (run.inputs.as_slice(), run.no_inputs),
            Invocation::Plan(plan) => (plan.inputs.as_slice(), plan.no_inputs),
            _ => (&[][..], false),
        };
        if no_inputs && !inputs.is_empty() {
            return Err("--no-inputs and an INPUT contradict each other: drop one of them");
        }
        if inputs.iter().filter(|input| input.as_os_str() == "-").count() > 1 {
            return Err("standard input (-) can be read only once: drop all but one `-`");
        }
        match self {
            Invocation::Run(run) if run.quiet && run.verbose => {
                Err("--quiet and --verbose contradict each other: drop one of them")
            }
            Invocation::Run(run) if run.watch && run.dry_run => {
                Err("--watch and --dry-run contradict each other: drop one of them")
            }
            Invocation::Run(run) if run.watch && (run.events.is_some() || run.trace.is_some()) => {
                Err("--events and --trace tell of one run: drop them, or --watch")
            }
            Invocation::Run(run) if run.watch && inputs.iter().any(|input| input == "-") => {
                Err("standard input (-) can't be watched: name files")
            }
            Invocation::Run(run) if run.json && !run.dry_run => {
                Err("--json goes with --dry-run: add -n, or ask `status --json` after the run")
            }
            Invocation::Run(run)
                if run.dry_run && (run.events.is_some() || run.trace.is_some()) =>
            {
                Err("--events and --trace tell of a run: drop them, or --dry-run")
            }
            Invocation::Run(run) if run.events.is_some() && run.events == run.trace => {
                Err("--events and --trace can't share a file: name another one")
            }
            Invocation::Log(log) if log.step.is_none() && !log.failed => {
                Err("name a STEP (its id, TASK or TASK/INPUT_NAME), or add --failed")
            }
            Invocation::Log(log) if log.step.is_none() && log.attempt.is_some() => {
                Err("--attempt goes with a STEP: name one")
            }
            Invocation::Log(log)
                if log.follow && (log.json || log.failed || log.attempt.is_some()) =>
            {
                Err(
                    "--follow shows the attempt that runs, as it is printed: drop --json, --failed or --attempt",
                )
            }
            Invocation::Lineage(lineage) if lineage.json && lineage.dot => {
                Err("--json and --dot contradict each other: drop one of them")
            }
            Invocation::Gc(gc) if gc.keep_history && gc.history > 0 => {
                Err("--keep-history keeps the results of all runs: drop --history")
            }
            Invocation::Cat(cat) if cat.what.is_empty() => {
                Err("name WHAT to write: an object's HASH, TASK or TASK/OUTPUT_NAME")
            }
            _ => Ok(()),
        }
    }
}
