//! Arranges the tasks of a graph in columns: producers before their consumers, and within a column so that few edges
//! cross and most are straight. Unaware of what the tasks are and how they are drawn: columns may as well be lines.

/// Where something is. What has straight edges lies in one row, so rows can be fractions.
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
    /// The height of the whole, where a task is one row high; not a task in it: 0.
    pub(super) rows: f64,
}

/// Passes over the columns, alternately from left and right. More would hardly change anything.
const PASSES: usize = 6;

/// How much of a row an edge takes that runs past tasks.
const LANE: f64 = 0.3;

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
    let row = rows(&columns, &pairs, nodes, column_of.len());
    let end = |item: usize| row[item] + f64::midpoint(1.0, if item < nodes { 1.0 } else { LANE });
    let rows = (0..column_of.len()).map(end).fold(0.0, f64::max);
    let place = |item: usize| Position { column: column_of[item], row: row[item] };
    let mut places: Vec<Position> = (0..column_of.len()).map(place).collect();
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

/// By item, the row of each: in the order of its column, with room for all. Items from `nodes` on are edges that only pass.
///
/// An item and one before it that are joined by an edge are in one row, as far as no two of these edges cross (as Brandes
/// and Köpf do it). So chains are straight. What is in one row is moved as one, as near to what it is joined with
/// as the others allow.
fn rows(columns: &[Vec<usize>], pairs: &[(usize, usize)], nodes: usize, items: usize) -> Vec<f64> {
    let (mut before, mut around) = (vec![Vec::new(); items], vec![Vec::new(); items]);
    for (from, to) in pairs {
        before[*to].push(*from);
        around[*to].push(*from);
        around[*from].push(*to);
    }
    let straight = straight(columns, &before, nodes);
    let high = |item: usize| if item < nodes { 1.0 } else { LANE };
    let apart = |pair: &[usize]| f64::midpoint(high(pair[0]), high(pair[1]));
    // By item that leads a row: what has to be above it and below it, and how far off.
    let (mut above, mut below) = (vec![Vec::new(); items], vec![Vec::new(); items]);
    for pair in columns.iter().flat_map(|column| column.windows(2)) {
        let (upper, lower) = (straight[pair[0]], straight[pair[1]]);
        above[lower].push((upper, apart(pair)));
        below[upper].push((lower, apart(pair)));
    }
    let leaders: Vec<usize> = (0..items).filter(|item| straight[*item] == *item).collect();
    // As far up as everything goes.
    let mut row = vec![0.0_f64; items];
    for _ in 0..items {
        let mut is_settled = true;
        for leader in &leaders {
            let least = above[*leader].iter().map(|(upper, apart)| row[*upper] + apart);
            let least = least.fold(0.0, f64::max);
            if least > row[*leader] {
                (row[*leader], is_settled) = (least, false);
            }
        }
        if is_settled {
            break;
        }
    }
    for pass in 0..PASSES {
        let mut visit = |leader: &usize| {
            let members = (0..items).filter(|item| straight[*item] == *leader);
            let others = members.flat_map(|item| &around[item]);
            let others = others.filter(|other| straight[**other] != *leader);
            let (sum, many) = others
                .fold((0.0, 0.0), |(sum, many), other| (sum + row[straight[*other]], many + 1.0));
            if many > 0.0 {
                let least = above[*leader].iter().map(|(upper, apart)| row[*upper] + apart);
                let least = least.fold(f64::NEG_INFINITY, f64::max);
                let most = below[*leader].iter().map(|(lower, apart)| row[*lower] - apart);
                let most = most.fold(f64::INFINITY, f64::min);
                // Rounding may leave no room at all.
                row[*leader] = (sum / many).min(most).max(least);
            }
        };
        if pass % 2 == 0 {
            leaders.iter().rev().for_each(&mut visit);
        } else {
            leaders.iter().for_each(&mut visit);
        }
    }
    let row: Vec<f64> = (0..items).map(|item| row[straight[item]]).collect();
    let top = |item: usize| row[item] - high(item) / 2.0;
    let least = (0..items).map(top).fold(f64::INFINITY, f64::min);
    row.iter().map(|row| row - least - 0.5).collect()
}

/// By item, the first item of those in one row with it.
fn straight(columns: &[Vec<usize>], before: &[Vec<usize>], nodes: usize) -> Vec<usize> {
    let mut first: Vec<usize> = (0..before.len()).collect();
    let mut place = vec![0; before.len()];
    for column in columns {
        column.iter().enumerate().for_each(|(at, item)| place[*item] = at);
    }
    for column in columns {
        // So many of the column before are above what is in one row with something here.
        let mut taken = 0;
        for item in column {
            let mut candidates = before[*item].clone();
            candidates.sort_unstable_by_key(|other| place[*other]);
            let many = candidates.len();
            let middle = many.saturating_sub(1) / 2..many / 2 + usize::from(many > 0);
            let mut candidates = candidates[middle].to_vec();
            // A task rather than an edge that passes.
            candidates.sort_by_key(|other| *other >= nodes);
            if let Some(other) = candidates.into_iter().find(|other| place[*other] >= taken) {
                first[*item] = first[other];
                taken = place[other] + 1;
            }
        }
    }
    first
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
        assert_eq!((none.nodes.len(), none.rows), (0, 0.0));
    }

    #[test]
    fn tasks_of_a_column_never_overlap_and_a_chain_is_straight() {
        // Two chains, a task that gathers both, and an edge past them.
        let edges = [(0, 1), (1, 2), (3, 4), (4, 5), (2, 6), (5, 6), (0, 6)];
        let layout = layout(7, &edges);
        for (n, place) in layout.nodes.iter().enumerate() {
            for other in &layout.nodes[n + 1..] {
                let is_apart = (place.row - other.row).abs() > 0.999;
                assert!(place.column != other.column || is_apart, "{layout:?}");
            }
            assert!(place.row > -1e-6 && place.row + 1.0 < layout.rows + 1e-6, "{layout:?}");
        }
        let row = |n: usize| layout.nodes[n].row;
        assert!((row(3) - row(5)).abs() < 0.2 && (row(0) - row(2)).abs() < 0.2, "{layout:?}");
        let single = super::layout(3, &[(0, 1), (1, 2)]);
        assert!(single.nodes.iter().all(|place| place.row == 0.0), "{single:?}");
    }
}
