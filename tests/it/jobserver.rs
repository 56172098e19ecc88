//! The tokens of a jobserver: taken when there are some, waited for, and given back at every end.

use rustix::process::Signal;

use crate::harness::{Project, Tokens, WAIT_FOR_GO, wait_for};

const INPUTS: &str = "inputs = [\"in/*\"]";

fn eight_inputs(p: &Project) {
    for n in 0..8 {
        p.file(format!("in/{n}"), n.to_string());
    }
}

#[test]
fn every_token_goes_back_whatever_happens() {
    let ends: [(&str, &[Signal]); 5] = [
        ("true", &[]),
        ("exit 3", &[]),
        (WAIT_FOR_GO, &[Signal::INT]),
        (WAIT_FOR_GO, &[Signal::TERM]),
        ("trap '' TERM; sleep 100; sleep 100", &[Signal::HUP, Signal::HUP]),
    ];
    for (script, signals) in ends {
        for form in [Tokens::fifo, Tokens::pipe] {
            let p = Project::new();
            eight_inputs(&p);
            let tokens = form(&p, b"xyz");
            p.task_with("a", INPUTS, script);
            let run = tokens.lend(p.run_cmd(["-j8"])).start();
            for (n, signal) in signals.iter().enumerate() {
                wait_for("four scripts", || p.ledger().len() == 4);
                wait_for("the news of the first", || n == 0 || run.stderr().contains("SIGHUP"));
                run.signal(*signal);
            }
            let ran = run.end();
            match signals.first() {
                Some(signal) => drop(ran.dies_of(*signal)),
                None if script == "true" => drop(ran.ok()),
                None => drop(ran.fails(1)),
            }
            assert_eq!(tokens.left(), b"xyz", "after {script}, {signals:?}");
        }
    }
}

#[test]
fn waiting_for_a_token_can_be_interrupted() {
    for form in [Tokens::fifo, Tokens::pipe] {
        let p = Project::new();
        eight_inputs(&p);
        let tokens = form(&p, b"");
        p.task_with("a", INPUTS, WAIT_FOR_GO);
        let run = tokens.lend(p.run_cmd(["-j8"])).start();
        wait_for("the one script that may run", || p.ledger().len() == 1);
        run.signal(Signal::INT);
        run.end().dies_of(Signal::INT).says_nothing_of("internal");
        assert_eq!(p.ledger().len(), 1, "no token, no second script");
        assert_eq!(tokens.left(), b"");
    }
}

#[test]
fn a_token_that_comes_later_is_taken() {
    let p = Project::new();
    eight_inputs(&p);
    let tokens = Tokens::fifo(&p, b"");
    p.task_with("a", INPUTS, WAIT_FOR_GO);
    let run = tokens.lend(p.run_cmd(["-j8"])).start();
    wait_for("the one script that may run", || p.ledger().len() == 1);
    tokens.give(b"q");
    wait_for("another one", || p.ledger().len() == 2);
    p.file("go", "");
    run.end().ok();
    assert_eq!(tokens.left(), b"q");
}

#[test]
fn a_failure_ends_the_wait_for_tokens() {
    let p = Project::new();
    eight_inputs(&p);
    let tokens = Tokens::fifo(&p, b"");
    p.task_with("a", INPUTS, "exit 1");
    tokens.lend(p.run_cmd(["-j8"])).go().fails(1).ran(["a"]);
}
