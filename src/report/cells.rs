//! Many values in few cells: enough for quantiles and a histogram.

use std::collections::BTreeMap;

use super::scale::Log;

/// Cells of a doubling: a value that is told from its cell is at most 2.2 % off.
const FINE: f64 = 16.0;

/// Bars of a drawn histogram.
pub(super) const BARS: usize = 56;

/// Values of one task, by size: however many they are, their cells are few.
#[derive(Default)]
pub(super) struct Spread {
    cells: BTreeMap<u16, u64>,
    pub(super) values: u64,
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Spread {
    pub(super) fn add(&mut self, value: u64) {
        let cell = ((value.max(1) as f64).log2() * FINE).floor() as u16;
        *self.cells.entry(cell).or_default() += 1;
        self.low = if self.values == 0 { value } else { self.low.min(value) };
        self.high = self.high.max(value);
        self.values += 1;
    }

    /// The middle of a cell.
    fn middle(cell: u16) -> f64 {
        ((f64::from(cell) + 0.5) / FINE).exp2()
    }

    /// The value that this share of all values doesn't exceed.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let rank = (self.values as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (cell, values) in &self.cells {
            seen += values;
            if seen >= rank {
                return (Spread::middle(*cell).round() as u64).clamp(self.low, self.high);
            }
        }
        self.high
    }

    /// Values by bar. A cell that touches several is shared out among them: else those that the edge of a cell
    /// happens to miss would be gaps.
    pub(super) fn bars(&self, axis: Log) -> [f64; BARS] {
        let mut bars = [0.0; BARS];
        let place = |cell: f64| {
            let value = (cell / FINE).exp2().clamp(self.low as f64, self.high as f64);
            axis.place(value) * BARS as f64
        };
        for (cell, values) in &self.cells {
            let (from, to) = (place(f64::from(*cell)), place(f64::from(*cell) + 1.0));
            let (first, last) = ((from as usize).min(BARS - 1), (to as usize).min(BARS - 1));
            for (bar, sum) in bars.iter_mut().enumerate().take(last + 1).skip(first) {
                let within = to.min(bar as f64 + 1.0) - from.max(bar as f64);
                let share = if first == last { 1.0 } else { (within / (to - from)).max(0.0) };
                *sum += *values as f64 * share;
            }
        }
        bars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_the_true_ones_and_never_beyond_the_ends() {
        let mut spread = Spread::default();
        for value in 1..=10_000 {
            spread.add(value);
        }
        assert_eq!((spread.low, spread.high, spread.values), (1, 10_000, 10_000));
        for (share, exact) in [(0.5, 5000.0), (0.95, 9500.0)] {
            let off = spread.quantile(share) as f64 / exact - 1.0;
            assert!(off.abs() < 0.03, "{share}: {off}");
        }
        assert!(spread.cells.len() < 250, "{}", spread.cells.len());
        let drawn = spread.bars(Log::new(1, 10_000));
        assert!((drawn.iter().sum::<f64>() - 10_000.0).abs() < 1e-6, "{drawn:?}");
        assert!(drawn[BARS / 2..].iter().all(|bar| *bar > 0.0), "{drawn:?}");
        let mut one = Spread::default();
        one.add(0);
        assert_eq!((one.quantile(0.0), one.quantile(0.5), one.quantile(1.0)), (0, 0, 0));
    }
}
