//! Arranges the tasks of a graph in columns: producers to the left of their consumers, and within a column so that
//! few edges cross. Unaware of what the tasks are and how they are drawn.

/// Where something is. Columns are centred, so rows can be halves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    pub(super) column: usize,
    pub(super) row: f64,
}

/// A graph with a position for everything.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) nodes: Vec<Position>,
    /// Each edge as the positions it passes through, from end to end.
    pub(super) edges: Vec<Vec<Position>>,
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Passes over the columns, alternately from left and right. More would hardly change anything.
const PASSES: usize = 6;

/// Arranges `nodes` tasks. Edges that would close a cycle are left out; only a damaged database has any.
pub(super) fn layout(nodes: usize, edges: &[(usize, usize)]) -> Layout {
    let column = columns(nodes, edges);
    let edges: Vec<(usize, usize)> =
        edges.iter().copied().filter(|(from, to)| column[*from] < column[*to]).collect();
    // An edge that crosses columns takes a position in each, so that it runs between the tasks there, not behind them.
    let mut column_of = column.clone();
    let mut ways = Vec::with_capacity(edges.len());
    let mut pairs = Vec::new();
    for (from, to) in edges {
        let mut way = vec![from];
        for between in column[from] + 1..column[to] {
            way.push(column_of.len());
            column_of.push(between);
        }
        way.push(to);
        pairs.extend(way.windows(2).map(|pair| (pair[0], pair[1])));
        ways.push(way);
    }
    let last = column_of.iter().copied().max().unwrap_or(0);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); last + 1];
    for (item, column) in column_of.iter().enumerate() {
        columns[*column].push(item);
    }
    order(&mut columns, &pairs, column_of.len());
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    let mut places = vec![Position { column: 0, row: 0.0 }; column_of.len()];
    for (column, items) in columns.iter().enumerate() {
        let above = (rows - items.len()) as f64 / 2.0;
        for (at, item) in items.iter().enumerate() {
            places[*item] = Position { column, row: above + at as f64 };
        }
    }
    let edges = ways.iter().map(|way| way.iter().map(|item| places[*item]).collect()).collect();
    places.truncate(nodes);
    Layout { nodes: places, edges, columns: last + 1, rows }
}

/// By node: the length of the longest path from a root.
fn columns(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut missing = vec![0; nodes];
    let mut consumers = vec![Vec::new(); nodes];
    for (from, to) in edges {
        missing[*to] += 1;
        consumers[*from].push(*to);
    }
    let mut column = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|node| missing[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for consumer in &consumers[node] {
            column[*consumer] = column[*consumer].max(column[node] + 1);
            missing[*consumer] -= 1;
            if missing[*consumer] == 0 {
                ready.push(*consumer);
            }
        }
    }
    column
}

/// Sorts each column by the mean row of its neighbours (the barycentre method of Sugiyama).
fn order(columns: &mut [Vec<usize>], pairs: &[(usize, usize)], items: usize) {
    let (mut before, mut after) = (vec![Vec::new(); items], vec![Vec::new(); items]);
    for (from, to) in pairs {
        before[*to].push(*from);
        after[*from].push(*to);
    }
    let mut row = vec![0.0; items];
    let number = |row: &mut Vec<f64>, column: &[usize]| {
        for (at, item) in column.iter().enumerate() {
            // Counted from the middle, because columns are centred.
            row[*item] = at as f64 - (column.len() as f64 - 1.0) / 2.0;
        }
    };
    for column in columns.iter() {
        number(&mut row, column);
    }
    for pass in 0..PASSES {
        let neighbours = if pass % 2 == 0 { &before } else { &after };
        let mut visit = |column: &mut Vec<usize>| {
            let wanted = |item: usize| {
                let around = &neighbours[item];
                let sum: f64 = around.iter().map(|other| row[*other]).sum();
                if around.is_empty() { row[item] } else { sum / around.len() as f64 }
            };
            let mut keyed: Vec<(f64, usize)> =
                column.iter().map(|item| (wanted(*item), *item)).collect();
            crate::order::sort_by(&mut keyed, |a, b| a.0.total_cmp(&b.0));
            *column = keyed.into_iter().map(|(_, item)| item).collect();
            number(&mut row, column);
        };
        if pass % 2 == 0 {
            columns.iter_mut().for_each(&mut visit);
        } else {
            columns.iter_mut().rev().for_each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossings(layout: &Layout) -> usize {
        let mut pairs = Vec::new();
        for edge in &layout.edges {
            pairs.extend(edge.windows(2).map(|pair| (pair[0], pair[1])));
        }
        let cross = |a: &(Position, Position), b: &(Position, Position)| {
            a.0.column == b.0.column && (a.0.row - b.0.row) * (a.1.row - b.1.row) < 0.0
        };
        pairs
            .iter()
            .enumerate()
            .map(|(n, a)| pairs[n..].iter().filter(|b| cross(a, b)).count())
            .sum()
    }

    #[test]
    fn producers_are_left_of_consumers() {
        let edges = [(0, 1), (1, 2), (0, 2), (3, 2)];
        let layout = layout(4, &edges);
        for (from, to) in edges {
            assert!(layout.nodes[from].column < layout.nodes[to].column, "{layout:?}");
        }
        assert_eq!((layout.columns, layout.edges[2].len()), (3, 3));
    }

    #[test]
    fn edges_that_need_not_cross_do_not() {
        let layout = layout(8, &[(0, 7), (1, 6), (2, 5), (3, 4)]);
        assert_eq!(crossings(&layout), 0, "{layout:?}");
    }

    #[test]
    fn nothing_shares_a_position_and_a_cycle_does_no_harm() {
        let layout = layout(5, &[(0, 1), (0, 2), (0, 3), (1, 4), (3, 4), (2, 2), (4, 0)]);
        for (n, place) in layout.nodes.iter().enumerate() {
            assert!(!layout.nodes[n + 1..].contains(place), "{layout:?}");
        }
        let none = super::layout(0, &[]);
        assert_eq!((none.nodes.len(), none.rows), (0, 0));
    }
}
