//! Databases of every schema that there ever was: migrated by the next run, and nothing of them lost.

use std::path::Path;

use crate::harness::Project;

/// The folder with one database of each schema and the manifest that made them.
fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/databases")
}

/// A project whose database is the one that schema `version` left.
fn project(version: i32) -> Project {
    let file = fixtures().join(format!("v{version}.sqlite"));
    let bytes = std::fs::read(&file).unwrap_or_else(|err| {
        let see = fixtures().join("pipeline.toml");
        panic!("{}: {err}; {} says how it is made", file.display(), see.display())
    });
    let manifest = std::fs::read_to_string(fixtures().join("pipeline.toml")).unwrap();
    Project::new().manifest(&manifest).file("db/db", bytes).file("db/format", "task-pipeline 1\n")
}

/// The newest schema of this build: what it gives a new database.
fn newest() -> i32 {
    let p = Project::new().task("a", "true");
    p.run().ok();
    p.sql("PRAGMA user_version")[0].parse().unwrap()
}

#[test]
fn a_database_of_every_schema_goes_on_where_it_was() {
    for version in 1..=newest() {
        let p = project(version);
        p.run().ok().says("nothing to do: 4 steps up to date");
        assert_eq!(p.sql("PRAGMA user_version"), [newest().to_string()], "from v{version}");
        assert_eq!(
            p.sql("SELECT step, number, outcome, code FROM attempt WHERE step = 3"),
            ["3|1|exit|1", "3|2|ok|"],
            "from v{version}"
        );
        p.call(["status"]).ok();
        p.run_with(["-B"]).ok().says("total 4 steps: 4 run");
        let workers = p.sql("SELECT DISTINCT worker FROM attempt WHERE run > 1 ORDER BY 1");
        assert!(workers.iter().all(|worker| !worker.is_empty()), "from v{version}: {workers:?}");
    }
}

#[test]
fn a_reader_says_that_an_older_database_waits_for_the_next_run() {
    let ran = project(1).call(["status"]);
    ran.fails(2).says("has the older schema 1; the next run migrates it");
}

#[test]
fn a_new_database_has_the_tables_of_a_migrated_one() {
    let fresh = Project::new().task("a", "true");
    fresh.run().ok();
    let columns = "SELECT m.name, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_schema m,
                   pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid";
    for version in 1..=newest() {
        let old = project(version);
        old.run().ok();
        assert_eq!(old.sql(columns), fresh.sql(columns), "from v{version}");
    }
}
