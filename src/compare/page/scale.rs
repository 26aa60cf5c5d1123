//! From values to places in a figure, and the values worth a line. Pure.

/// A stretch of values that are more than zero on a stretch of the figure, by their powers.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    /// Where `low` and `high` are.
    from: f64,
    to: f64,
}

impl Scale {
    /// Has room for these values. `None` if there are none, or one that is not more than zero.
    pub fn of(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (low, high) = range(values)?;
        // A range of one value would have no length.
        let pad = ((high / low).ln() * 0.06).max(0.12).exp();
        (low > 0.0).then(|| Self { low: low / pad, high: high * pad, from, to })
    }

    pub fn at(&self, value: f64) -> f64 {
        let way = (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln();
        self.from + way * (self.to - self.from)
    }

    /// Round values within, no more than wanted, in ascending order.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = (self.low, self.high);
        let steps: &[f64] = match (high / low).log10() {
            decades if decades < 0.5 => {
                &[1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
            }
            decades if decades < 1.2 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            decades if decades < 2.5 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        let all = all.filter(|value| (low..=high).contains(value)).collect::<Vec<_>>();
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

/// Where names stand that belong to these places: apart from each other if they are near enough to run into each other.
pub fn names_at(places: &[(f64, f64)], low: f64, high: f64) -> Vec<f64> {
    /// The length of a name, and the room that one needs above the next.
    const REACH: f64 = 72.0;
    const ROOM: f64 = 16.0;
    let mut order = (0..places.len()).collect::<Vec<_>>();
    let place = |at: usize| places.get(at).copied().unwrap_or_default();
    order.sort_by(|a, b| place(*a).0.total_cmp(&place(*b).0));
    let mut moved = vec![0.0; places.len()];
    for near in order.chunk_by(|a, b| place(*b).0 - place(*a).0 < REACH) {
        let heights = near.iter().map(|at| place(*at).1).collect::<Vec<_>>();
        for (at, height) in near.iter().zip(apart(&heights, ROOM, low, high)) {
            if let Some(moved) = moved.get_mut(*at) {
                *moved = height;
            }
        }
    }
    moved
}

/// Moves places apart so that each has this much room and stays within the bounds as far as they fit, in their order.
fn apart(places: &[f64], room: f64, low: f64, high: f64) -> Vec<f64> {
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
    fn a_scale_has_powers_of_ten_or_more_where_there_are_few() {
        let wide = Scale::of([3.0, 40_000.0], 0.0, 1.0).unwrap();
        assert_eq!(
            wide.ticks(6).iter().map(|tick| tick.round()).collect::<Vec<_>>(),
            [10.0, 100.0, 1e3, 1e4]
        );
        assert!((wide.at(1_000.0) - wide.at(100.0) - (wide.at(100.0) - wide.at(10.0))).abs() < 1e-9);
        for high in [110.0, 210.0] {
            let narrow = Scale::of([90.0, high], 0.0, 1.0).unwrap();
            assert!(narrow.ticks(6).len() >= 2, "{:?}", narrow.ticks(6));
        }
        assert!(Scale::of([5.0], 0.0, 1.0).is_some_and(|one| (one.at(5.0) - 0.5).abs() < 1e-9));
        assert_eq!(Scale::of([], 0.0, 1.0), None);
        assert_eq!(Scale::of([0.0, 1.0], 0.0, 1.0), None);
    }

    #[test]
    fn only_names_that_are_near_each_other_move() {
        let moved = names_at(&[(0.0, 50.0), (300.0, 52.0), (10.0, 52.0)], 0.0, 100.0);
        assert_eq!(moved, [50.0, 52.0, 66.0]);
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
            let scale = Scale::of([low, low * times], 0.0, 1.0).unwrap();
            let ticks = scale.ticks(wanted);
            prop_assert!(ticks.len() <= wanted);
            prop_assert!(ticks.iter().all(|tick| (-1e-9..=1.0 + 1e-9).contains(&scale.at(*tick))));
        }
    }
}
