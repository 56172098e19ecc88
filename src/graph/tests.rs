use std::path::Path;

use super::*;

/// A manifest of tasks, each a name and its `from`, in TOML.
fn graph(tasks: &[(&str, &str)]) -> Graph {
    let text: String = tasks
        .iter()
        .map(|(name, from)| format!("[[task]]\nname = \"{name}\"\nscript = \":\"\n{from}\n"))
        .collect();
    let manifest = Manifest::from_text(Path::new("m.toml"), Path::new("/"), text.as_bytes());
    Graph::of(&manifest.expect("a good manifest"))
}

fn numbers(tasks: &[TaskIndex]) -> Vec<usize> {
    tasks.iter().map(|task| task.0).collect()
}

#[test]
fn a_diamond_puts_producers_before_consumers() {
    let graph = graph(&[
        ("bottom", "from = [\"left\", \"right\"]"),
        ("left", "from = [\"top\"]"),
        ("right", "from = [\"top\"]"),
        ("top", "from = []"),
    ]);
    assert_eq!(numbers(&graph.order), [3, 1, 2, 0]);
    assert_eq!(numbers(&graph.consumers[3]), [1, 2]);
    assert_eq!(numbers(&graph.from[0]), [1, 2]);
    assert_eq!(graph.height, [0, 1, 1, 2]);
}

#[test]
fn tasks_without_from_stand_in_a_chain() {
    let graph = graph(&[("a", ""), ("b", ""), ("c", "")]);
    assert_eq!(numbers(&graph.order), [0, 1, 2]);
    assert_eq!(graph.height, [2, 1, 0]);
}

#[test]
fn a_forest_keeps_the_order_of_the_manifest() {
    let graph =
        graph(&[("a", ""), ("x", "from = []"), ("b", "from = [\"a\"]"), ("y", "from = [\"x\"]")]);
    assert_eq!(numbers(&graph.order), [0, 1, 2, 3]);
    assert_eq!(graph.height, [1, 1, 0, 0]);
}

#[test]
fn height_counts_the_longest_way_to_an_end() {
    let graph = graph(&[
        ("a", ""),
        ("b", "from = [\"a\"]"),
        ("c", "from = [\"b\"]"),
        ("d", "from = [\"a\", \"c\"]"),
    ]);
    assert_eq!(graph.height, [3, 2, 1, 0]);
}

#[test]
fn a_chain_of_ten_thousand_tasks_is_no_trouble() {
    let names: Vec<String> = (0..10_000).map(|n| format!("t{n}")).collect();
    let tasks: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let graph = graph(&tasks);
    assert_eq!(graph.height[0], 9_999);
}
