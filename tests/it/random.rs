//! Section 5, by chance: whatever was edited between runs, what lives afterwards is what a run on a
//! fresh database gives, and nothing ever ran twice. TASK_PIPELINE_ROUNDS sets the number of runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Dice, Project};

/// What the manifest says of a task, and what it may become.
struct Task {
    id: u64,
    name: String,
    variant: u64,
    from: Vec<usize>,
    with: Vec<usize>,
    matches: u64,
    /// For a root: what it leaves out.
    exclusion: u64,
    gather: bool,
    gather_empty: bool,
    /// It has a step per row of the table, or gathers what has come of them by a label.
    sheet: Option<Sheet>,
    has_seed: bool,
    has_files: bool,
    /// It reads `dep/main`, and what that names, and says so.
    has_depfile: bool,
    /// So many of its steps share a script, if it is a batch.
    batch: Option<u64>,
    /// Which of [`TAKES`].
    takes: u64,
    is_present: bool,
}

impl Task {
    fn may_be_batch(&self) -> bool {
        !self.gather || self.sheet == Some(Sheet::Groups)
    }
}

/// Gives the script of one step to each step of a batch, with the variables that it would have by itself.
fn of_batch(script: &str) -> String {
    format!(
        r#"text() {{ sed "s/.*\"$1\":\"//; s/\".*//" "$d/step.json"; }}
for d in "$BATCH_DIR"/*; do
INPUT_FILE=$(text input) INPUT_NAME=$(text name) STEP_KEY=$(text key) OUTPUT_DIR=$d/output INPUT_DIR=$d/input
s=$(text s) x=$(text x) r=$(text r)
( {script}
)
done"#
    )
}

/// What a task has to do with the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sheet {
    Rows { has_paths: bool },
    Groups,
}

struct World {
    p: Project,
    dice: Dice,
    tasks: Vec<Task>,
    names: u64,
    /// Of `[params]`.
    seed: u64,
    /// Of the table, by the first column.
    rows: BTreeMap<&'static str, Row>,
}

/// The other columns of a row, and how often it is there.
struct Row {
    x: u64,
    file: &'static str,
    times: usize,
}

const CONTENTS: [&str; 6] = ["apple", "avocado", "banana", "blueberry", "cherry", ""];
const ROW_FILES: [&str; 3] = ["f1", "f2", "f3"];
const EXCLUSIONS: [&str; 4] = ["", ", \"!in/f1\"", ", \"!in/d/\"", ", \"!**/f[1-3]\""];

/// What its steps take while they run, which makes no difference.
const TAKES: [&str; 6] = [
    "",
    "cpus = 2\n",
    "cpus = 9\nparallel = 2\n",
    "memory = \"60M\"\n",
    "memory = \"9T\"\n",
    "cpus = 2\nmemory = \"30M\"\nuses = { it = 1 }\n",
];

/// Puts the sum of what a step sees behind its outputs.
const SEES: &str = "sum=$(cd \"$WITH_DIR\"; find . -type f | LC_ALL=C sort | while read -r f; do echo \"$f\"; cat \"$f\"; done | cksum)
find \"$OUTPUT_DIR\" -type f | while read -r f; do echo \"$sum\" >>\"$f\"; done";

/// Puts what a step reads besides behind its outputs, and says what that was.
const READS: &str = "main=$(cat dep/main)
find \"$OUTPUT_DIR\" -type f | while read -r f; do cat \"dep/$main\" >>\"$f\"; done
echo \"x: dep/main dep/$main\" >\"$OUTPUT_DIR/.d\"";

/// What is in the files that it reads: its work is done once for each of that.
const READ: &str = "-$(cat dep/main \"dep/$(cat dep/main)\" | cksum | tr ' ' -)";

/// What a task takes of these producers.
fn matches(choice: u64, from: &[&str]) -> String {
    let (first, last) = (from[0], from[from.len() - 1]);
    match choice {
        0 => String::new(),
        1 => "match = [\"*\"]".to_owned(),
        2 => "match = [\"f[0-3]\", \"d/*\"]".to_owned(),
        3 => format!("match = {{ \"{first}\" = [\"f[12]\"] }}"),
        _ => format!("match = {{ \"{last}\" = [\"f[0-3]\", \"f9\"] }}"),
    }
}

impl World {
    fn new(seed: u64) -> World {
        let task = |id, from: &[usize], gather| Task {
            id,
            name: format!("t{id}"),
            variant: 0,
            from: from.to_vec(),
            with: Vec::new(),
            matches: 0,
            exclusion: 0,
            gather,
            gather_empty: false,
            sheet: None,
            has_seed: false,
            has_files: false,
            has_depfile: false,
            batch: None,
            takes: 0,
            is_present: true,
        };
        let rows = Some(Sheet::Rows { has_paths: false });
        let tasks = vec![
            task(0, &[], false),
            task(1, &[], true),
            Task { sheet: rows, ..task(2, &[], false) },
            task(3, &[0], false),
            task(4, &[0, 3], false),
            task(5, &[2, 3], true),
            task(6, &[1, 4, 5], false),
            task(7, &[4], true),
            task(8, &[6, 7], false),
            Task { sheet: Some(Sheet::Groups), ..task(9, &[2], true) },
        ];
        let mut tasks = tasks;
        tasks[3].batch = Some(3);
        let (p, dice) = (Project::new(), Dice::new(seed));
        let mut world = World { p, dice, tasks, names: 0, seed: 0, rows: BTreeMap::new() };
        for name in ROW_FILES {
            world.p.file(format!("rows/{name}"), name);
        }
        for _ in 0..4 {
            world.edit_an_input();
            world.edit_a_row();
        }
        world.p.file("ref/a", "a").file("dep/main", "h1").file("dep/h1", "1").file("dep/h2", "2");
        for n in [0, 3, 5, 9] {
            world.tasks[n].has_depfile = world.dice.below(2) == 0;
        }
        world.write();
        world
    }

    fn edit_what_a_task_takes(&mut self) {
        let n = self.dice.below(self.tasks.len() as u64) as usize;
        self.tasks[n].takes = self.dice.below(TAKES.len() as u64);
    }

    fn edit_an_input(&mut self) {
        let name =
            ["in/f1", "in/f2", "in/f3", "in/f4", "in/d/f1", "in/d/f5"][self.dice.below(6) as usize];
        let content = CONTENTS[self.dice.below(6) as usize];
        // One in four goes.
        if self.dice.below(4) == 0 && self.p.path(name).exists() {
            self.p.remove(name);
        } else {
            self.p.file(name, content);
        }
    }

    /// A row comes, goes, changes or is there twice, or the content of a file that rows may name changes.
    fn edit_a_row(&mut self) {
        let first = ["A", "B", "C", "D"][self.dice.below(4) as usize];
        let file = ["", "f1", "f2", "f3"][self.dice.below(4) as usize];
        match self.dice.below(4) {
            0 => drop(self.rows.remove(first)),
            1 if !file.is_empty() => {
                let content = CONTENTS[self.dice.below(6) as usize];
                self.p.file(format!("rows/{file}"), content);
            }
            _ => {
                let (x, times) = (self.dice.below(2), 1 + self.dice.below(2) as usize);
                self.rows.insert(first, Row { x, file, times });
            }
        }
    }

    /// Changes one thing. A task that is given both another script and another name in one go is
    /// another task, so each of `touched` is left alone.
    fn edit(&mut self, touched: &mut BTreeSet<usize>) {
        let choice = self.dice.below(21);
        if choice > 17 {
            return self.edit_what_steps_read();
        }
        if choice > 14 {
            return self.edit_a_row();
        }
        if choice > 12 {
            // It may be another script for many tasks.
            if touched.is_empty() {
                touched.extend(0..self.tasks.len());
                return self.edit_what_tasks_share(choice == 13);
            }
            return self.edit_an_input();
        }
        let n = self.dice.below(self.tasks.len() as u64) as usize;
        if choice < 4 || !touched.insert(n) {
            return self.edit_an_input();
        }
        let feeds = |task: &Task| task.from.contains(&n) || task.with.contains(&n);
        let is_consumed = self.tasks.iter().any(|task| task.is_present && feeds(task));
        match choice {
            4 => self.tasks[n].variant = self.dice.below(3),
            5 => match self.dice.below(4) {
                0 => self.tasks[n].has_seed ^= true,
                1 => self.tasks[n].has_depfile ^= true,
                2 if self.tasks[n].may_be_batch() => {
                    let size = 1 + self.dice.below(4);
                    self.tasks[n].batch = Some(size).filter(|_| self.dice.below(3) > 0);
                }
                _ => self.tasks[n].has_files ^= true,
            },
            6 => {
                self.names += 1;
                self.tasks[n].name = format!("renamed-{}", self.names);
            }
            7 if self.tasks[n].sheet.is_some() => match &mut self.tasks[n].sheet {
                Some(Sheet::Rows { has_paths }) => *has_paths ^= true,
                _ => self.edit_an_input(),
            },
            7 if self.tasks[n].from.is_empty() => self.tasks[n].exclusion = self.dice.below(4),
            7 => self.tasks[n].matches = self.dice.below(5),
            8 if n > 1 && self.tasks[n].sheet.is_none() => {
                self.tasks[n].from = self.some_above(n, 2)
            }
            11 if n > 0 => {
                let most = self.dice.below(3) as usize;
                self.tasks[n].with = self.some_above(n, most);
            }
            9 if n > 0 && !is_consumed => {
                let comes = !self.tasks[n].is_present;
                let Task { from, with, .. } = &self.tasks[n];
                let is_possible = from.iter().chain(with).all(|&up| self.tasks[up].is_present);
                self.tasks[n].is_present = comes && is_possible;
            }
            12 => self.tasks[n].with.clear(),
            10 if self.tasks[n].gather && self.tasks[n].sheet.is_none() => {
                self.tasks[n].gather_empty ^= true
            }
            _ => self.edit_an_input(),
        }
    }

    /// A file that steps have said they read has another content, or leads to another one.
    fn edit_what_steps_read(&mut self) {
        match self.dice.below(3) {
            0 => self.p.file("dep/main", ["h1", "h2"][self.dice.below(2) as usize]),
            n => self.p.file(format!("dep/h{n}"), CONTENTS[self.dice.below(6) as usize]),
        };
    }

    /// At most so many of the tasks above one.
    fn some_above(&mut self, n: usize, most: usize) -> Vec<usize> {
        let mut above: Vec<usize> = (0..n).filter(|&up| self.tasks[up].is_present).collect();
        while above.len() > most {
            above.remove(self.dice.below(above.len() as u64) as usize);
        }
        above
    }

    /// The seed, or a file below a folder that some tasks read.
    fn edit_what_tasks_share(&mut self, is_seed: bool) {
        if is_seed {
            self.seed = self.dice.below(3);
            return;
        }
        let name = ["ref/a", "ref/.b", "ref/d/c"][self.dice.below(3) as usize];
        if self.dice.below(3) == 0 && self.p.path(name).exists() {
            self.p.remove(name);
        } else {
            self.p.file(name, CONTENTS[self.dice.below(6) as usize]);
        }
    }

    fn write(&self) {
        // Where a row stands makes no difference.
        let row = |(first, row): (&&str, &Row)| {
            let Row { x, file, times } = row;
            format!("{first},{x},{file}\n").repeat(*times)
        };
        let mut rows: Vec<String> = self.rows.iter().map(row).collect();
        rows.sort_by_key(|row| row.len() % 3);
        self.p.file("rows/sheet.csv", format!("s,x,r\n{}", rows.concat()));
        let mut text = format!("[params]\nseed = {}\n", self.seed);
        for task in self.tasks.iter().filter(|task| task.is_present) {
            let Task { id, name, variant, from, gather, .. } = task;
            let from: Vec<&str> = from.iter().map(|&up| self.tasks[up].name.as_str()).collect();
            let wiring = match from.as_slice() {
                [] if task.sheet == Some(Sheet::Rows { has_paths: true }) => {
                    "table = \"rows/sheet.csv\"\npaths = [\"r\"]".to_owned()
                }
                [] if task.sheet.is_some() => "table = \"rows/sheet.csv\"".to_owned(),
                [] => {
                    let exclusion = EXCLUSIONS[task.exclusion as usize];
                    format!("inputs = [\"in/*\", \"in/d/*\"{exclusion}]")
                }
                from => format!("from = {from:?}\n{}", matches(task.matches, from)),
            };
            let with: Vec<&str> =
                task.with.iter().map(|&up| self.tasks[up].name.as_str()).collect();
            let (with, sees) = match with.as_slice() {
                [] => (String::new(), ""),
                with => (format!("with = {with:?}\n"), SEES),
            };
            let more = [
                (task.gather_empty, "gather_empty = true\n"),
                (task.has_seed, "params = [\"seed\"]\n"),
                (task.has_files, "files = [\"ref/\"]\n"),
                (task.has_depfile, "depfile = \".d\"\n"),
            ];
            let more: String = more.iter().filter(|(has, _)| *has).map(|(_, key)| *key).collect();
            let takes = TAKES[task.takes as usize];
            let gather = match task.sheet {
                Some(Sheet::Groups) => "[\"s\"]".to_owned(),
                _ => gather.to_string(),
            };
            let script = match (task.gather, variant) {
                _ if task.sheet == Some(Sheet::Rows { has_paths: true }) => match variant {
                    0 => "cat \"${r:-/dev/null}\" >\"$OUTPUT_DIR/f$x\"",
                    1 => "wc -l <\"$INPUT_FILE\" >\"$OUTPUT_DIR/f$x\"",
                    _ => "echo \"$s\" >\"$OUTPUT_DIR/f1\"; echo \"$x\" >\"$OUTPUT_DIR/f0\"",
                },
                _ if task.sheet == Some(Sheet::Rows { has_paths: false }) => match variant {
                    0 => "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/f$x\"",
                    1 => "echo \"$r\" >\"$OUTPUT_DIR/f$x\"",
                    _ => "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/f1\"; echo \"$x\" >\"$OUTPUT_DIR/f0\"",
                },
                (false, 0) => "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"",
                (false, 1) => "head -c1 \"$INPUT_FILE\" >\"$OUTPUT_DIR/$INPUT_NAME\"",
                (false, _) => {
                    "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"; echo c >\"$OUTPUT_DIR/f0\""
                }
                (true, 0) => "xargs cat <\"$INPUT_FILE\" >\"$OUTPUT_DIR/f9\"",
                (true, 1) => "wc -l <\"$INPUT_FILE\" >\"$OUTPUT_DIR/f1\"",
                (true, _) => "cd \"$INPUT_DIR\"; find . -type f | sort >\"$OUTPUT_DIR/f2\"",
            };
            let (read, reads) = if task.has_depfile { (READ, READS) } else { ("", "") };
            // The number keeps two tasks that do the same apart.
            let script = format!(
                "echo \"$STEP_KEY{read} $TASK_NAME $INPUT_NAME\" >>\"$LEDGER\" # {id}\n{script}\n{sees}\n{reads}"
            );
            let (batch, script) = match task.batch {
                Some(size) => (format!("batch = {size}\n"), of_batch(&script)),
                None => (String::new(), script),
            };
            text += &format!(
                "[[task]]\nname = {name:?}\ngather = {gather}\n{wiring}\n{with}{more}{takes}{batch}script = '''{script}'''\n"
            );
        }
        self.p.manifest(&text);
    }

    /// All that lives: tasks, steps, outputs.
    fn living(&self, db: &str) -> Vec<String> {
        self.p.sql_in(
            db,
            "SELECT t.position, t.name, s.name, s.object_hash, s.labels, s.side, s.state, o.name, o.object FROM task t
             JOIN step s ON s.task = t.id AND s.live = 1 LEFT JOIN output o ON o.step = s.id ORDER BY 1, 3, 4, 5, 8",
        )
    }
}

fn rounds() -> u64 {
    std::env::var("TASK_PIPELINE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[test]
fn after_any_edits_there_lives_what_a_fresh_run_gives_and_nothing_ran_twice() {
    let mut dice = Dice::new(31_415);
    let mut round = 0;
    while round < rounds() {
        let mut world = World::new(dice.below(1 << 30));
        for _ in 0..10 {
            let fast = ["--durability", "off", "-q", "--have", "it=1", "-j3", "--memory", "100M"];
            world.p.run_cmd(fast).env("LEDGER", "ledger").go().ok();
            let _ = std::fs::remove_dir_all(world.p.path("fresh"));
            let fresh =
                world.p.cmd(["-manifest", "pipeline.toml", "-db", "fresh"].iter().chain(&fast));
            fresh.env("LEDGER", "/dev/null").go().ok();
            let manifest = world.p.read("pipeline.toml");
            assert_eq!(world.living("db"), world.living("fresh"), "round {round}\n{manifest}");
            let mut keys = BTreeSet::new();
            for line in world.p.ledger() {
                let key = line.split(' ').next().unwrap().to_owned();
                assert!(keys.insert(key), "round {round}: {line} ran twice\n{manifest}");
            }
            let before = world.p.ledger().len();
            world
                .p
                .run_cmd(["--durability", "off", "--have", "it=1"])
                .env("LEDGER", "ledger")
                .go()
                .ok()
                .says("nothing to do");
            assert_eq!(world.p.ledger().len(), before, "round {round}");
            let mut touched = BTreeSet::new();
            for _ in 0..1 + world.dice.below(3) {
                world.edit(&mut touched);
            }
            world.edit_what_a_task_takes();
            world.write();
            round += 1;
        }
    }
}
