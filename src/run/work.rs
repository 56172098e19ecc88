//! The second half of a run: sets up pool, scratch and dispatcher, and takes them down again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use threadpool::ThreadPool;

use crate::db::Db;
use crate::error::{Error, OrIo, Result};
use crate::exec::Ground;
use crate::ids::{RunId, TaskIndex};
use crate::jobserver::{Jobserver, Share};
use crate::manifest::Task;
use crate::progress::{Event, Progress, Summary};
use crate::recipe::Recipe;
use crate::step::{self, Script};
use crate::stop::StopSwitch;
use crate::store::Store;

use super::backlog::{Backlog, Terms};
use super::committer::{self, Committer};
use super::disk::Floor;
use super::dispatch::{Dispatcher, Parts};
use super::prepare::Prepared;
use super::signals::Forwarder;
use super::slots::Slots;
use super::tokens::Tokens;
use super::worker::{self, Engine, TaskWork};
use super::{OpenSite, RunOptions};

/// The pool panics where the system has no more threads: a limit of the user's, which is told as such.
fn make_pool(threads: usize) -> Result<ThreadPool> {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let pool = std::panic::catch_unwind(|| ThreadPool::with_name("worker".to_owned(), threads));
    std::panic::set_hook(told);
    pool.map_err(|_| std::io::Error::from_raw_os_error(libc::EAGAIN))
        .or_io("start threads (a smaller -j helps, or a higher `ulimit -u`) of", "/proc/self")
}

/// Everything that is needed to work off a plan.
pub(super) struct Work<'a> {
    pub(super) db: Arc<Db>,
    pub(super) store: Arc<Store>,
    pub(super) db_dir: &'a Path,
    pub(super) run: RunId,
    pub(super) prepared: &'a Prepared,
    pub(super) options: &'a RunOptions,
    /// `--step`; empty: all.
    pub(super) only: &'a [TaskIndex],
    pub(super) open_site: OpenSite<'a>,
}

impl Work<'_> {
    /// Runs every leaf and what comes of it. The error, if any, is what stopped it; the summary says
    /// how far it got.
    pub(super) fn drive(&self, progress: &mut dyn Progress) -> Result<(Summary, Option<Error>)> {
        let scratch_root = self.db_dir.join("scratch");
        std::fs::create_dir_all(&scratch_root).or_io("make the scratch folder", &scratch_root)?;
        step::end_survivors(&scratch_root)?;
        let scratch = self.make_scratch(&scratch_root)?;

        let jobs = self.options.jobs.get();
        let stop = Arc::new(StopSwitch::default());
        let (jobserver, share) = self.jobserver(progress)?;
        let (send_message, messages) = flume::unbounded();
        // Enough that no worker has to wait for the dispatcher, who hears of a whole group at once.
        let (send_job, take_job) = flume::bounded(4 * jobs + 2 * committer::GROUP);
        let flow = Arc::clone(&self.prepared.flow);
        let engine = Arc::new(Engine {
            db: Arc::clone(&self.db),
            store: Arc::clone(&self.store),
            flow: Arc::clone(&flow),
            tasks: self.tasks(),
            db_dir: self.db_dir.to_owned(),
            spoilt: Mutex::default(),
            committer: Committer::new(
                Arc::clone(&self.db),
                Arc::clone(&self.store),
                flow,
                self.run,
                self.options.durability,
                send_message.clone(),
            ),
            slots: Slots::new(jobs),
            floor: Floor::new(self.db_dir, self.options.min_free),
            tokens: Tokens::new(jobserver.as_ref().map(Jobserver::client), Arc::clone(&stop))?,
            stop: Arc::clone(&stop),
            messages: send_message.clone(),
            tell_starts: progress.wants_starts(),
            verbose: self.options.verbose,
            keep_going: self.options.keep_going,
        });
        let forwarder = Forwarder::start(send_message)?;
        // One thread more than scripts at once: see slots.rs.
        let ground = Ground {
            store: Arc::clone(&self.store),
            stop,
            scratch: scratch.clone(),
            executors: jobs + 1,
            share,
        };
        let site = (self.open_site)(ground)?;
        let pool = make_pool(jobs + 1)?;
        for mut executor in site.grow()? {
            let engine = Arc::clone(&engine);
            let take_job = take_job.clone();
            pool.execute(move || worker::work(&engine, &mut *executor, &take_job));
        }
        let dispatcher = Dispatcher::new(Parts {
            engine: Arc::clone(&engine),
            jobs: send_job,
            taken_back: take_job,
            messages,
            progress,
            keep_going: self.options.keep_going,
            backlog: Backlog::read(&self.db, &engine.flow, self.terms())?,
            retry_delay: self.prepared.manifest.tasks.iter().map(|task| task.retry_delay).collect(),
        });
        let end = dispatcher.drive();
        pool.join();
        drop(forwarder);
        drop(engine);
        // What can't be removed now is removed by the next run.
        let _ = step::remove_scratch(&scratch);
        Ok(end)
    }

    /// make's, or one of our own if a task wants to share; and what such tasks are given.
    fn jobserver(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<(Option<Jobserver>, Option<Arc<Share>>)> {
        let RunOptions { jobs, jobserver, no_jobserver, .. } = self.options;
        if let Some(why) = no_jobserver {
            progress.tell(&Event::Note(&format!("{why} (-j {jobs} now)")));
        }
        let is_shared = self.prepared.manifest.tasks.iter().any(|task| task.jobserver);
        let jobserver = match jobserver {
            None if is_shared => {
                Some(Jobserver::new(jobs.get()).or_io("make a pipe of", "/proc/self")?)
            }
            known => known.clone(),
        };
        let share = match &jobserver {
            Some(jobserver) if is_shared => {
                let share = jobserver.share(jobs.get());
                Some(Arc::new(share.or_io("pass make's jobserver on from", "/proc/self")?))
            }
            _ => None,
        };
        Ok((jobserver, share))
    }

    /// A folder that no other run ever had: a script that outlived a killed runner may still write to
    /// its own.
    fn make_scratch(&self, root: &Path) -> Result<PathBuf> {
        let scratch = root.join(format!("{}-{}", self.run, std::process::id()));
        std::fs::create_dir_all(&scratch).or_io("make the scratch folder", &scratch)?;
        Ok(scratch)
    }

    fn tasks(&self) -> Vec<TaskWork> {
        let manifest = &self.prepared.manifest;
        let tasks = manifest.tasks.iter().zip(&self.prepared.recipes);
        let script = |task: &Task, recipe: &Recipe| Script {
            task: task.name.clone(),
            interpreter: recipe.interpreter.clone(),
            bytes: task.script.clone().into_bytes(),
            dir: manifest.dir.clone().into_os_string(),
            env: task.env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect(),
            timeout: task.timeout,
            wants_jobserver: task.jobserver,
        };
        tasks
            .map(|(task, recipe)| TaskWork {
                script: Arc::new(script(task, recipe)),
                gather: task.gather,
                retries: task.retries,
                is_limited: task.parallel.is_some(),
            })
            .collect()
    }

    fn terms(&self) -> Vec<Terms> {
        let Prepared { manifest, graph, .. } = self.prepared;
        let limits = self.prepared.limits();
        let terms = manifest.indexed().map(|(index, _)| Terms {
            height: graph.height[index.0],
            limit: limits[index.0],
            excluded: !self.only.is_empty() && !self.only.contains(&index),
        });
        terms.collect()
    }
}
