//! From values to places in a figure, and the values worth a line. Pure.

/// A stretch of values on a stretch of the figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    log: bool,
    low: f64,
    high: f64,
    /// Where `low` and `high` are.
    from: f64,
    to: f64,
}

impl Scale {
    /// For values that are all more than zero. `None` if there are none such.
    pub fn log(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (low, high) = range(values)?;
        // A range of one value would have no length.
        let pad = ((high / low).ln() * 0.06).max(0.12).exp();
        (low > 0.0).then(|| Self { log: true, low: low / pad, high: high * pad, from, to })
    }

    /// From zero on.
    pub fn linear(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (_, high) = range(values)?;
        (high > 0.0).then(|| Self { log: false, low: 0.0, high: high * 1.08, from, to })
    }

    pub fn at(&self, value: f64) -> f64 {
        let way = match self.log {
            true => (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + way * (self.to - self.from)
    }

    /// Round values within, about as many as wanted, in ascending order.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = (self.low, self.high);
        let all = match self.log {
            true => {
                let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
                let steps: &[f64] = match (high / low).log10() {
                    decades if decades < 1.2 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
                    decades if decades < 2.5 => &[1.0, 3.0],
                    _ => &[1.0],
                };
                let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
                all.filter(|value| (low..=high).contains(value)).collect::<Vec<_>>()
            }
            false => {
                let step = round_up(high / wanted.max(1) as f64);
                (0..).map(|number| f64::from(number) * step).take_while(|value| *value <= high).collect()
            }
        };
        let each = all.len().div_ceil(wanted.max(1)).max(1);
        all.into_iter().step_by(each).collect()
    }
}

fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.into_iter().filter(|value| value.is_finite());
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// The next 1, 2 or 5 with zeros.
fn round_up(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * decade >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * decade
}

/// Moves places apart so that each has this much room and stays within the bounds as far as they fit, in their order.
pub fn apart(places: &[f64], room: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order = (0..places.len()).collect::<Vec<_>>();
    let place = |at: &usize| places.get(*at).copied().unwrap_or_default();
    order.sort_by(|a, b| place(a).total_cmp(&place(b)));
    let mut sorted = order.iter().map(|at| place(at).clamp(low, high.max(low))).collect::<Vec<_>>();
    // Down until all have room, then up again from the bound.
    let mut least = f64::NEG_INFINITY;
    for place in &mut sorted {
        *place = place.max(least);
        least = *place + room;
    }
    let mut most = high;
    for place in sorted.iter_mut().rev() {
        *place = place.min(most);
        most = *place - room;
    }
    let mut moved = vec![0.0; places.len()];
    for (at, place) in order.into_iter().zip(sorted) {
        if let Some(moved) = moved.get_mut(at) {
            *moved = place;
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_linear_scale_begins_at_zero_and_has_round_ticks() {
        let scale = Scale::linear([10.0, 50.0], 0.0, 100.0).unwrap();
        assert_eq!(scale.at(0.0), 0.0);
        assert!(scale.at(50.0) > 90.0 && scale.at(50.0) < 100.0);
        assert_eq!(scale.ticks(5), [0.0, 20.0, 40.0]);
    }

    #[test]
    fn a_log_scale_has_powers_of_ten_or_more_where_there_are_few() {
        let wide = Scale::log([3.0, 40_000.0], 0.0, 1.0).unwrap();
        assert_eq!(
            wide.ticks(6).iter().map(|tick| tick.round()).collect::<Vec<_>>(),
            [10.0, 100.0, 1e3, 1e4]
        );
        assert!((wide.at(1_000.0) - wide.at(100.0) - (wide.at(100.0) - wide.at(10.0))).abs() < 1e-9);
        let narrow = Scale::log([90.0, 210.0], 0.0, 1.0).unwrap();
        assert!(narrow.ticks(6).len() >= 3, "{:?}", narrow.ticks(6));
        assert!(Scale::log([5.0], 0.0, 1.0).is_some_and(|one| (one.at(5.0) - 0.5).abs() < 1e-9));
        assert_eq!(Scale::log([], 0.0, 1.0), None);
        assert_eq!(Scale::log([0.0, 1.0], 0.0, 1.0), None);
        assert_eq!(Scale::linear([0.0], 0.0, 1.0), None);
    }

    proptest! {
        #[test]
        fn labels_have_room_and_keep_their_order(
            places in prop::collection::vec(0.0..100.0f64, 0..8), room in 1.0..12.0f64,
        ) {
            let moved = apart(&places, room, 0.0, 100.0);
            prop_assert_eq!(moved.len(), places.len());
            for (a, one) in places.iter().zip(&moved) {
                prop_assert!((-1e-9..=100.0 + 1e-9).contains(one));
                for (b, other) in places.iter().zip(&moved) {
                    prop_assert!(a >= b || (other - one) >= room - 1e-9);
                }
            }
        }

        #[test]
        fn ticks_are_within_and_no_more_than_wanted(low in 1e-3..1e6f64, times in 1.0..1e6f64, wanted in 1usize..9) {
            for scale in [Scale::log([low, low * times], 0.0, 1.0), Scale::linear([low, low * times], 0.0, 1.0)] {
                let scale = scale.unwrap();
                let ticks = scale.ticks(wanted);
                prop_assert!(ticks.len() <= wanted + 1);
                prop_assert!(ticks.iter().all(|tick| (-1e-9..=1.0 + 1e-9).contains(&scale.at(*tick))));
            }
        }
    }
}
