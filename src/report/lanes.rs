//! Time of workers, cut into slices: how much of each slice a task took. Of a size that doesn't depend on how
//! many steps there were.

/// Colours there are; the last one is for all tasks that have none of their own.
pub(super) const COLORS: usize = 7;

/// A moment is told to this fraction of a drawing.
pub(super) const UNITS: f64 = 1000.0;

/// A worker, or a few neighbours when there are too many to draw.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// Time by slice and colour, microseconds.
    slices: Vec<[f64; COLORS]>,
    /// Failures by slice.
    failures: Vec<u64>,
    pub(super) attempts: u64,
    pub(super) failed: u64,
    pub(super) busy_us: u64,
}

impl Lane {
    pub(super) fn new(slices: usize) -> Lane {
        let slices = slices.max(1);
        Lane {
            slices: vec![[0.0; COLORS]; slices],
            failures: vec![0; slices],
            attempts: 0,
            failed: 0,
            busy_us: 0,
        }
    }

    /// Adds an attempt that lasted from one moment to another, as fractions of the whole, which is `whole_us` long.
    pub(super) fn add(&mut self, from: f64, to: f64, whole_us: f64, color: usize, failed: bool) {
        let last = self.slices.len() - 1;
        let many = self.slices.len() as f64;
        let (from, to) = (from.clamp(0.0, 1.0) * many, to.clamp(0.0, 1.0) * many);
        let (first, end) = ((from as usize).min(last), (to as usize).min(last));
        for slice in first..=end {
            let within = (to.min(slice as f64 + 1.0) - from.max(slice as f64)).max(0.0);
            self.slices[slice][color.min(COLORS - 1)] += within / many * whole_us;
        }
        self.failures[end] += u64::from(failed);
    }

    /// Rectangles of one colour, as (x, width, share of the height below it, own share), x and width in [`UNITS`].
    /// Neighbours that look the same are one.
    pub(super) fn bars(&self, color: usize, full_us: f64) -> Vec<(f64, f64, f64, f64)> {
        let width = UNITS / self.slices.len() as f64;
        let mut bars: Vec<(f64, f64, f64, f64)> = Vec::new();
        for (at, slice) in self.slices.iter().enumerate() {
            let share = (slice[color] / full_us).clamp(0.0, 1.0);
            let below = (slice[..color].iter().sum::<f64>() / full_us).clamp(0.0, 1.0 - share);
            if share < 0.005 {
                continue;
            }
            let x = at as f64 * width;
            let alike = |bar: &&mut (f64, f64, f64, f64)| {
                let touches = (bar.0 + bar.1 - x).abs() < 0.01;
                touches && (bar.2 - below).abs() < 0.02 && (bar.3 - share).abs() < 0.02
            };
            match bars.last_mut().filter(alike) {
                Some(bar) => bar.1 += width,
                None => bars.push((x, width, below, share)),
            }
        }
        bars
    }

    /// Slices in which something failed, as fractions of the whole, with how often.
    pub(super) fn failures(&self) -> impl Iterator<Item = (f64, u64)> {
        let many = self.failures.len() as f64;
        let failures = self.failures.iter().enumerate().filter(|(_, failures)| **failures > 0);
        failures.map(move |(at, failures)| ((at as f64 + 0.5) / many, *failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_falls_into_the_slices_it_touches() {
        let mut lane = Lane::new(4);
        lane.add(0.125, 0.5, 800.0, 0, false);
        lane.add(0.5, 0.75, 800.0, 2, true);
        assert_eq!(lane.bars(0, 200.0), [(0.0, 250.0, 0.0, 0.5), (250.0, 250.0, 0.0, 1.0)]);
        assert_eq!(lane.bars(2, 200.0), [(500.0, 250.0, 0.0, 1.0)]);
        assert_eq!(lane.failures().collect::<Vec<_>>(), [(0.875, 1)]);
    }

    #[test]
    fn equal_neighbours_are_one_bar() {
        let mut lane = Lane::new(100);
        lane.add(0.0, 1.0, 1000.0, 1, false);
        assert_eq!(lane.bars(1, 10.0).len(), 1);
        lane.add(2.0, -1.0, f64::NAN, 99, false);
    }
}
