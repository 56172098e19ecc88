//! Two texts line by line, as `diff -u` shows them. Unaware of what they are.

/// Lines around a change.
const CONTEXT: usize = 3;

/// Lines that are compared each with each; beyond that many, what lies between the first and the last
/// difference is shown as replaced.
const MOST: usize = 2000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Removed,
    Added,
}

/// The unified diff of two texts, without the lines that name them; empty if they are the same.
pub fn unified(before: &str, now: &str) -> String {
    if before == now {
        return String::new();
    }
    let (before, now): (Vec<&str>, Vec<&str>) = (lines(before), lines(now));
    let edits = edits(&before, &now);
    let mut out = String::new();
    let mut at = 0;
    // Places in the two texts that go with `at`.
    let (mut old, mut new) = (0, 0);
    while let Some(first) = edits[at..].iter().position(|(kind, _)| *kind != Kind::Same) {
        let first = at + first;
        let begin = first.saturating_sub(CONTEXT).max(at);
        old += begin - at;
        new += begin - at;
        // The hunk ends where more lines are the same than two contexts take.
        let (mut end, mut same) = (first, 0);
        for (n, (kind, _)) in edits.iter().enumerate().skip(first) {
            match kind {
                Kind::Same if same == 2 * CONTEXT => break,
                Kind::Same => same += 1,
                _ => (end, same) = (n + 1, 0),
            }
        }
        let end = (end + CONTEXT).min(edits.len());
        let hunk = &edits[begin..end];
        let count = |not: Kind| hunk.iter().filter(|(kind, _)| *kind != not).count();
        let (olds, news) = (count(Kind::Added), count(Kind::Removed));
        let place = |start: usize, count: usize| match count {
            0 => format!("{start},0"),
            1 => (start + 1).to_string(),
            count => format!("{},{count}", start + 1),
        };
        out.push_str(&format!("@@ -{} +{} @@\n", place(old, olds), place(new, news)));
        for (kind, line) in hunk {
            out.push(match kind {
                Kind::Same => ' ',
                Kind::Removed => '-',
                Kind::Added => '+',
            });
            out.push_str(line.strip_suffix('\n').unwrap_or(line));
            out.push('\n');
            if !line.ends_with('\n') {
                out.push_str("\\ No newline at end of file\n");
            }
        }
        (old, new, at) = (old + olds, new + news, end);
    }
    out
}

/// With their line ends, so that a missing one is a difference.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn edits<'t>(before: &[&'t str], now: &[&'t str]) -> Vec<(Kind, &'t str)> {
    let head = before.iter().zip(now).take_while(|(a, b)| a == b).count();
    let (old, new) = (&before[head..], &now[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut edits: Vec<_> = before[..head].iter().map(|line| (Kind::Same, *line)).collect();
    if old.len() > MOST || new.len() > MOST {
        edits.extend(old.iter().map(|line| (Kind::Removed, *line)));
        edits.extend(new.iter().map(|line| (Kind::Added, *line)));
    } else {
        between(old, new, &mut edits);
    }
    edits.extend(before[before.len() - tail..].iter().map(|line| (Kind::Same, *line)));
    edits
}

/// By the longest common subsequence.
fn between<'t>(old: &[&'t str], new: &[&'t str], edits: &mut Vec<(Kind, &'t str)>) {
    let width = new.len() + 1;
    // `longest[i * width + j]`: of `old[i..]` and `new[j..]`.
    let mut longest = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = if old[i] == new[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push((Kind::Same, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || i < old.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]
        {
            edits.push((Kind::Removed, old[i]));
            i += 1;
        } else {
            edits.push((Kind::Added, new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown_with_what_is_around_it() {
        assert_eq!(unified("a\n", "a\n"), "");
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(unified("", "x\n"), "@@ -0,0 +1 @@\n+x\n");
        let no_end = "\\ No newline at end of file\n";
        assert_eq!(unified("a", "a\n"), format!("@@ -1 +1 @@\n-a\n{no_end}+a\n"));
    }

    #[test]
    fn far_apart_changes_are_two_hunks() {
        let text = |a: &str, b: &str| format!("{a}\n1\n2\n3\n4\n5\n6\n7\n8\n{b}\n");
        assert_eq!(
            unified(&text("a", "b"), &text("A", "B")),
            "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-b\n+B\n"
        );
    }

    #[test]
    fn long_texts_cost_little() {
        let (a, b) = ("a\n".repeat(10_000), "b\n".repeat(10_000));
        assert_eq!(unified(&a, &b).lines().count(), 20_001);
    }
}
