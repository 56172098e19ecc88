//! Works off a plan: sets up scratch, threads and dispatcher, and takes them down again.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use threadpool::ThreadPool;

use crate::dependencies::DependencyFiles;
use crate::error::{OrIo, Result};
use crate::exec::{Ground, Home, HomeFile, News};
use crate::folder;
use crate::ids::RunId;
use crate::jobserver::{Jobserver, Share};
use crate::manifest::Task;
use crate::order;
use crate::progress::{Event, Progress};
use crate::recipe::Recipe;
use crate::remote;
use crate::step::{self, Script};
use crate::stop::StopSwitch;
use crate::sys;
use crate::text::size;
use crate::tokens::Tokens;

use super::admission::{Admission, Capacity, TaskNeeds};
use super::backlog::{Backlog, TaskLimits};
use super::busy;
use super::committer::{self, Committer};
use super::dependencies::DependencyCheck;
use super::dispatch::{Dispatcher, RunOutcome};
use super::free_space::FreeSpace;
use super::listed::ListedFiles;
use super::message::Message;
use super::permits::Slots;
use super::prepare::Prepared;
use super::sandbox;
use super::signals::Forwarder;
use super::worker::{self, Engine};
use super::{OpenSite, Opened, RunOptions};

/// The pool panics where the system has no more threads: a limit of the user's, which is told as such.
fn make_pool(threads: usize) -> Result<ThreadPool> {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let pool = std::panic::catch_unwind(|| ThreadPool::with_name("worker".to_owned(), threads));
    std::panic::set_hook(told);
    pool.map_err(|_| std::io::Error::from_raw_os_error(libc::EAGAIN))
        .or_system("start the worker threads (a smaller -j helps, or a higher `ulimit -u`)")
}

/// A plan to be worked off.
pub(super) struct Session<'a> {
    pub(super) opened: &'a Opened,
    pub(super) prepared: &'a Prepared,
    pub(super) run: RunId,
    pub(super) options: &'a RunOptions,
    pub(super) open_site: OpenSite<'a>,
}

impl Session<'_> {
    /// Runs every leaf and what comes of it, as far as it gets.
    pub(super) fn drive(&self, progress: &mut dyn Progress) -> Result<RunOutcome> {
        let Opened { db, store, dir, .. } = self.opened;
        let scratch_root = dir.join("scratch");
        folder::make(&scratch_root).or_io("make the scratch folder", &scratch_root)?;
        step::end_survivors(&scratch_root)?;
        // No other run ever had this folder: a script that outlived a killed runner may still write to its own.
        let scratch = scratch_root.join(format!("{}-{}", self.run, std::process::id()));
        // Whatever the umask: scripts are run from it.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&scratch);
        made.or_io("make the scratch folder", &scratch)?;

        if let Some(text) = remote::cancel_leftovers(dir, &scratch)? {
            progress.tell(&Event::Note(&text));
        }

        let jobs = self.options.jobs.get();
        let stop = Arc::new(StopSwitch::default());
        let is_tight = Arc::default();
        let admission = self.admission(Arc::clone(&is_tight), progress);
        let (jobserver, share) = self.jobserver(progress)?;
        let (send_message, messages) = flume::unbounded();
        // Enough that no worker has to wait for the dispatcher, who hears of a whole group at once.
        let (send_job, take_job) = flume::bounded(4 * jobs + 2 * committer::GROUP);
        let flow = Arc::clone(&self.prepared.flow);
        let committer = Committer::new(
            Arc::clone(db),
            Arc::clone(store),
            Arc::clone(&flow),
            self.run,
            self.options.durability,
            send_message.clone(),
        );
        let engine = Arc::new(Engine {
            db: Arc::clone(db),
            store: Arc::clone(store),
            flow,
            manifest: Arc::clone(&self.prepared.manifest),
            scripts: self.scripts(),
            listed: Arc::clone(&self.prepared.listed),
            dependencies: DependencyCheck::new(DependencyFiles::new(
                &self.prepared.manifest.dir,
                dir,
            )?),
            outdated: self.prepared.recipes.iter().map(|_| AtomicBool::new(false)).collect(),
            noted: self.prepared.recipes.iter().map(|_| AtomicBool::new(false)).collect(),
            db_dir: dir.clone(),
            spoilt: Mutex::default(),
            committer,
            slots: Slots::new(jobs),
            free_space: FreeSpace::new(dir, self.options.min_free),
            jobs,
            have: self.options.have.iter().map(|(name, _)| name.clone()).collect(),
            is_tight: Arc::clone(&is_tight),
            tokens: Tokens::new(jobserver.as_ref().map(Jobserver::tokens), Arc::clone(&stop))?,
            stop: Arc::clone(&stop),
            messages: send_message.clone(),
            tell_starts: progress.wants_starts(),
            verbose: self.options.verbose,
            keep_going: self.options.keep_going,
        });
        let signals = Arc::default();
        busy::tell_dispatcher(db, send_message.clone(), Arc::clone(&signals));
        let forwarder = Forwarder::start(send_message, signals)?;
        // One thread more than scripts at once: see `permits`.
        let executors = jobs + 1;
        let (store, folder) = (Arc::clone(store), scratch.clone());
        let launch = self.options.launch;
        let (teller, keeper) = (engine.messages.clone(), Arc::clone(&engine));
        let tell = Arc::new(move |news: News| {
            if let News::Worker(note) = &news {
                keeper.committer.note(note.clone());
            }
            // The dispatcher outlives the site.
            let _ = teller.send(Message::News(news));
        });
        let ground = Ground {
            store,
            stop,
            scratch: folder,
            executors,
            share,
            wants_jobserver: self.wants_jobserver(),
            launch,
            tell,
            home: self.home(),
        };
        let site = (self.open_site)(ground)?;
        let pool = make_pool(executors)?;
        for mut executor in site.grow()? {
            let engine = Arc::clone(&engine);
            let take_job = take_job.clone();
            pool.execute(move || worker::work(&engine, &mut *executor, &take_job));
        }
        let late = messages.clone();
        let dispatcher = Dispatcher {
            site: &*site,
            backlog: Backlog::read(
                db,
                &engine.flow,
                self.limits(),
                admission,
                &self.prepared.unread(),
            )?,
            engine: Arc::clone(&engine),
            jobs: send_job,
            taken_back: take_job,
            messages,
            progress: &mut *progress,
            outcome: RunOutcome::default(),
            presses: 0,
        };
        let mut outcome = dispatcher.drive();
        pool.join();
        busy::tell_on_stderr(db);
        drop(forwarder);
        drop(site);
        // What became of its workers.
        for message in late.try_iter() {
            match message {
                Message::News(News::Note(text)) => progress.tell(&Event::Note(&text)),
                Message::News(News::Warning(text)) => progress.tell(&Event::Warning(&text)),
                Message::News(News::Worker(note)) => progress.tell(&Event::Worker(&note)),
                _ => {}
            }
        }
        // Nor is anything written after a failure.
        if outcome.trouble.is_none()
            && let Err(error) = engine.committer.keep_notes()
        {
            outcome.trouble = Some(error);
        }
        drop(engine);
        // What can't be removed now is removed by the next run.
        let _ = step::remove_scratch(&scratch);
        Ok(outcome)
    }

    /// The manifest, for workers on other machines.
    fn home(&self) -> Home {
        let manifest = &self.prepared.manifest;
        let path = manifest.full_path();
        let hash = path.is_file().then_some(manifest.hash);
        // What scripts read that don't run needn't be there.
        let tasks = self.prepared.flow.tasks.iter().zip(self.prepared.listed.iter());
        let due = tasks.filter(|(task, _)| !task.is_left_out());
        let mut files: Vec<HomeFile> = due.flat_map(|(_, listed)| listed.for_home()).collect();
        order::sort_by(&mut files, |a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Home { manifest: path, hash, files: Arc::new(files) }
    }

    /// What steps take, and what there is.
    fn admission(&self, is_tight: Arc<AtomicBool>, progress: &mut dyn Progress) -> Admission {
        let RunOptions { jobs, memory, have, on, .. } = self.options;
        // With workers, how much there is is told by each of them, which finds room for a step by itself.
        let (machines, most, memory) = match on {
            None => (1, jobs.get(), memory.or_else(sys::memory::available).unwrap_or(u64::MAX)),
            Some(on) => (on.machines(), on.most_slots(), u64::MAX),
        };
        let capacity = Capacity {
            cpus: jobs.get(),
            memory,
            have: have.iter().map(|(_, count)| count.saturating_mul(machines)).collect(),
        };
        let there = if on.is_some() { " there" } else { "" };
        let tasks = &self.prepared.manifest.tasks;
        for task in tasks {
            let more = match task.memory {
                _ if task.cpus.get() > most && on.is_some() => {
                    format!("{} cpus, more than the {most} slots of a worker", task.cpus)
                }
                _ if task.cpus > *jobs => format!("{} cpus, more than -j {jobs}", task.cpus),
                Some(asked) if asked > memory => {
                    format!("{} of memory, more than the {} there are", size(asked), size(memory))
                }
                _ => continue,
            };
            let text = format!(
                "task `{}` asks for {more}: each of its steps runs alone{there}",
                task.name
            );
            progress.tell(&Event::Note(&text));
        }
        let kind = |name: &String| have.iter().position(|(known, _)| known == name);
        let needs = |task: &Task| TaskNeeds {
            cpus: task.cpus.get(),
            memory: task.memory,
            // All of them are there: see `check_uses`.
            uses: task.uses.iter().filter_map(|(name, n)| Some((kind(name)?, n.get()))).collect(),
        };
        Admission::new(capacity, tasks.iter().map(needs).collect(), is_tight)
    }

    /// make's, or one of our own if a task wants to share; and what such tasks are given.
    fn jobserver(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<(Option<Jobserver>, Option<Arc<Share>>)> {
        let RunOptions { jobs, jobserver, no_jobserver, on, .. } = self.options;
        if let Some(why) = no_jobserver {
            progress.tell(&Event::Note(&format!("{why} (-j {jobs} now)")));
        }
        // Each worker has its own.
        let jobs = on.as_ref().map_or(jobs.get(), |on| on.local);
        let is_shared = jobs > 0 && self.wants_jobserver();
        let jobserver = match jobserver {
            None if is_shared => Some(Jobserver::new(jobs).or_system("make a pipe")?),
            known => known.clone(),
        };
        let share = match &jobserver {
            Some(jobserver) if is_shared => {
                let share = jobserver.share(jobs);
                Some(Arc::new(share.or_system("pass make's jobserver on")?))
            }
            _ => None,
        };
        Ok((jobserver, share))
    }

    fn wants_jobserver(&self) -> bool {
        self.prepared.manifest.tasks.iter().any(|task| task.jobserver)
    }

    /// By place in the manifest.
    fn scripts(&self) -> Vec<Arc<Script>> {
        let Prepared { manifest, recipes, listed, .. } = self.prepared;
        let script = |((task, recipe), listed): ((&Task, &Recipe), &ListedFiles)| {
            let sandbox = sandbox::declared(task, &manifest.dir);
            Arc::new(Script {
                task: task.name.clone(),
                interpreter: recipe.interpreter.clone(),
                bytes: task.script.clone().into_bytes(),
                dir: manifest.dir.clone().into_os_string(),
                env: recipe
                    .variables()
                    .map(|(k, v)| (OsString::from(k), OsString::from(v)))
                    .collect(),
                unset: recipe.unset().map(OsString::from).collect(),
                clean_env: recipe.clean_env,
                timeout: task.timeout,
                paths: recipe.paths.clone(),
                depfile: recipe.depfile.clone(),
                copies_input: task.copies_input,
                wants_jobserver: task.jobserver,
                sandbox: sandbox.map(|sandbox| Box::new(sandbox.with_files(listed.paths()))),
                batch: recipe.batch,
            })
        };
        manifest.tasks.iter().zip(recipes).zip(&**listed).map(script).collect()
    }

    /// By place in the manifest.
    fn limits(&self) -> Vec<TaskLimits> {
        let Prepared { manifest, graph, flow, .. } = self.prepared;
        let parallel = self.prepared.limits();
        let limits = manifest.indexed().map(|(index, task)| TaskLimits {
            height: graph.height[index.0],
            parallel: parallel[index.0],
            batch: task.batch.map_or(1, NonZeroUsize::get),
            excluded: flow.task(index).is_left_out(),
        });
        limits.collect()
    }
}
