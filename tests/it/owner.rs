//! The manifests of the project's owner, unchanged, with the command that the owner types.

use crate::harness::{Project, Ran, files};

const COMMAND: [&str; 4] = ["-manifest", "workflow.toml", "-db", "./my-pipeline-db"];

fn project(manifest: &str) -> Project {
    let p = Project::new().file("workflow.toml", manifest);
    // The owner's programs aren't here, so these stand in for them.
    p.program("curl", "#!/bin/sh\n[ \"$3\" = https://api.example.com/data ]\necho \"$@\" >>curled\nprintf '{\"items\": [1,\\n2]}' >\"$2\"\n");
    p.program("process-tool", "#!/bin/sh\necho processed; cat\n");
    p.program("transform-tool", "#!/bin/sh\ntr a-z A-Z\n");
    if !std::env::var("PATH")
        .unwrap()
        .split(':')
        .any(|dir| std::path::Path::new(dir).join("jq").is_file())
    {
        p.program("jq", "#!/bin/sh\n[ \"$1\" = '.items[]' ]; tr -dc '0-9\\n'; echo\n");
    }
    p
}

fn exported(p: &Project, task: &str) -> std::collections::BTreeMap<String, String> {
    p.call(["export", task, "-db", "./my-pipeline-db", "--to", task]).ok();
    crate::harness::contents(&p.path(task))
}

fn everything_is_said(ran: Ran, tasks: [&str; 2]) {
    let ran = ran.says("workflow.toml: 2 tasks").says("my-pipeline-db");
    let ran = ran.says(&format!("registered {}, {}", tasks[0], tasks[1]));
    let ran = ran.says(&format!("step 1 {}: done, 1 output", tasks[0]));
    ran.says(&format!("step 2 {} (", tasks[1])).says("total 2 steps").says("2 outputs");
}

#[test]
fn fetch_and_process_run() {
    let p = project(include_str!("../../fixtures/owner/fetch.toml"));
    everything_is_said(p.call(COMMAND).ok(), ["fetch", "process"]);
    assert_eq!(exported(&p, "fetch"), files([("data.json", "{\"items\": [1,\n2]}")]));
    assert_eq!(exported(&p, "process"), files([("processed.json", "1\n2\n")]));
    p.call(COMMAND).ok().says("nothing to do: 2 steps");
    assert_eq!(p.read("curled").lines().count(), 1);
}

#[test]
fn process_data_and_transform_run() {
    let p = project(include_str!("../../fixtures/owner/transform.toml"));
    everything_is_said(p.call(COMMAND).ok(), ["process-data", "transform"]);
    assert_eq!(exported(&p, "process-data"), files([("result.txt", "processed\n")]));
    assert_eq!(exported(&p, "transform"), files([("transformed.json", "PROCESSED\n")]));
    p.call(COMMAND).ok().says("nothing to do: 2 steps");
}

#[test]
fn process_data_takes_files_too() {
    let p = project(include_str!("../../fixtures/owner/transform.toml"))
        .file("a.txt", "abc\n")
        .file("b.txt", "xyz\n");
    p.call(COMMAND.iter().chain(&["a.txt", "b.txt"])).ok().says("total 4 steps");
    let expected =
        [("transformed.json", "PROCESSED\nABC\n"), ("transformed~2.json", "PROCESSED\nXYZ\n")];
    let swapped =
        [("transformed.json", "PROCESSED\nXYZ\n"), ("transformed~2.json", "PROCESSED\nABC\n")];
    let got = exported(&p, "transform");
    assert!(got == files(expected) || got == files(swapped), "{got:?}");
}
