//! Workers that are processes of this machine, or of another one at the end of an ssh of this machine.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{OrIo as _, Result};
use crate::text::{printable_line, tail};

use super::fleet::Crew;
use super::hub::Hub;
use super::orders::Orders;

/// At the end, and after its connection has broken, a worker has so long to go by itself.
const PARTING: Duration = Duration::from_secs(10);

pub(super) struct Processes {
    pub(super) hub: Arc<Hub>,
    pub(super) orders: Orders,
    /// Where ssh starts them; empty: here.
    pub(super) hosts: Vec<String>,
    /// The folder of their logs.
    pub(super) folder: PathBuf,
    pub(super) posts: Vec<Post>,
}

/// One of the run's workers, which may be another process after a loss.
#[derive(Default)]
pub(super) struct Post {
    process: Option<Child>,
    /// It has connected since it was started.
    has_joined: bool,
    /// It is ended then, if it is still there.
    doom: Option<Instant>,
}

impl Processes {
    fn host(&self, number: usize) -> &str {
        self.hosts.get(number - 1).map_or("", String::as_str)
    }

    fn post(&mut self, number: usize) -> Option<&mut Post> {
        self.posts.get_mut(number.checked_sub(1)?)
    }

    /// Starts a worker for each post that has none.
    fn man(&mut self) {
        for number in 1..=self.posts.len() {
            let is_excluded = self.hub.is_excluded(self.host(number), number);
            let is_manned = self.posts[number - 1].process.is_some();
            if is_manned || is_excluded || !self.hub.stop.may_start() {
                continue;
            }
            match self.start(number) {
                Ok(process) => {
                    let process = Some(process);
                    self.posts[number - 1] = Post { process, has_joined: false, doom: None };
                }
                Err(error) => self.hub.never_came(self.host(number), number, &error.to_string()),
            }
        }
        let is_hopeless = |(n, post): (usize, &Post)| {
            post.process.is_none() && self.hub.is_excluded(self.host(n + 1), n + 1)
        };
        if self.posts.iter().enumerate().all(is_hopeless) {
            let count = self.posts.len();
            self.hub.places.close(format!(
                "no worker is left of {count}: see above why; what is done is kept, and the next run goes on",
            ));
        }
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.join(format!("worker-{number}.log"))
    }

    fn start(&self, number: usize) -> Result<Child> {
        let words = self.orders.words(number)?;
        let mut command = match self.hosts.get(number - 1) {
            None => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
            Some(host) => {
                let mut command = Command::new("ssh");
                // Nobody is there to type a password; and without a terminal the worker ends with its ssh.
                command.args(["-T", "-oBatchMode=yes", "--", host]);
                command.arg(format!("exec {}", Orders::line(&words)?));
                command
            }
        };
        let log = self.log(number);
        let stderr = File::create(&log).or_io("make", &log)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            // Ctrl-C is for us: we tell the workers.
            .process_group(0);
        let mut process = command.spawn().or_io("start a worker,", command.get_program())?;
        if let Some(mut stdin) = process.stdin.take() {
            // If it has ended already, that is told by its end.
            let _ = writeln!(stdin, "{}", self.hub.secret.hex());
        }
        Ok(process)
    }

    /// Finds out which processes have ended, and ends those that were given up.
    fn look(&mut self) {
        for number in 1..=self.posts.len() {
            let post = &mut self.posts[number - 1];
            let Some(process) = &mut post.process else { continue };
            if post.doom.is_some_and(|doom| doom <= Instant::now()) {
                // That it has ended meanwhile is as good.
                let _ = process.kill();
            }
            let status = match process.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => status.to_string(),
                Err(err) => err.to_string(),
            };
            let had_joined = post.has_joined;
            *post = Post::default();
            if !had_joined && !self.hub.is_retired(number) {
                let why = match last_line(&self.log(number)) {
                    Some(line) => line,
                    None => format!("it ended before it had connected ({status})"),
                };
                self.hub.never_came(self.host(number), number, &why);
            }
        }
    }
}

impl Crew for Processes {
    fn tend(&mut self) {
        self.man();
        self.look();
    }

    fn joined(&mut self, number: usize) {
        if let Some(post) = self.post(number) {
            (post.has_joined, post.doom) = (true, None);
        }
    }

    fn left(&mut self, number: usize, _has_gone: bool) {
        if let Some(post) = self.post(number) {
            post.doom = Some(Instant::now() + PARTING);
        }
    }

    fn dismiss(&mut self) {
        let deadline = Instant::now() + PARTING;
        for post in &mut self.posts {
            let Some(process) = &mut post.process else { continue };
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            if matches!(process.try_wait(), Ok(None)) {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// What a worker has said last, by its log.
pub(super) fn last_line(log: &Path) -> Option<String> {
    let lines = tail(&mut File::open(log).ok()?, 1).ok()?;
    let line = lines.last().filter(|line| !line.is_empty())?;
    let line = printable_line(line);
    Some(line.strip_prefix("task-pipeline: ").map_or(line.clone(), str::to_owned))
}
