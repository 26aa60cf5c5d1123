//! How the time is shared out. Pure.

use std::time::Duration;

/// What each server gets, if its requests are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Load that is not counted, once.
    pub warm_up: Duration,
    /// Slices with all connections, and their length.
    pub rounds: usize,
    pub slice: Duration,
    /// Slices with one connection, and their length.
    pub alone_rounds: usize,
    pub alone: Duration,
    /// Slices at a fixed rate, of the same length as those with all connections: as many, or none.
    pub paced_rounds: usize,
}

/// What one server gets, given how long its requests take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub connections: usize,
    /// In how many of the rounds it takes part.
    pub rounds: usize,
    /// How long requests are begun in each of them.
    pub slice: Duration,
    /// How long the last answers may take after that.
    pub grace: Duration,
    /// In how many of the rounds with one connection it takes part.
    pub alone_rounds: usize,
}

const ROUNDS: u32 = 7;
const MOST_ROUNDS: u32 = 99;
const SHORTEST_SLICE: Duration = Duration::from_millis(100);
const LONGEST_SLICE: Duration = Duration::from_secs(2);
const ALONE_ROUNDS: u32 = 3;
/// No answer is waited for less than this.
const LEAST_GRACE: Duration = Duration::from_secs(1);

impl Schedule {
    /// Shares out the time that is left among so many servers, which are measured at a fixed rate, too, or are not.
    pub fn of(left: Duration, servers: usize, paced: bool) -> Self {
        let each = left / u32::try_from(servers.max(1)).unwrap_or(u32::MAX);
        let loaded = each.mul_f64(if paced { 0.35 } else { 0.7 });
        let fitting =
            |slice: Duration| u32::try_from(loaded.as_millis() / slice.as_millis()).unwrap_or(u32::MAX);
        let rounds = ROUNDS.max(fitting(LONGEST_SLICE)).min(fitting(SHORTEST_SLICE)).clamp(1, MOST_ROUNDS);
        Self {
            warm_up: (each / 10).clamp(SHORTEST_SLICE / 2, LONGEST_SLICE),
            rounds: rounds as usize,
            slice: (loaded / rounds).max(SHORTEST_SLICE),
            alone_rounds: ALONE_ROUNDS as usize,
            alone: (each.mul_f64(0.2) / ALONE_ROUNDS).clamp(SHORTEST_SLICE / 2, LONGEST_SLICE),
            paced_rounds: if paced { rounds as usize } else { 0 },
        }
    }

    /// What a server gets whose request takes so long when it is the only one, on so many cores.
    ///
    /// A slice must see each connection's request answered a few times. If requests take too long for that, there
    /// are fewer and longer slices within the same time, and if need be fewer connections.
    pub fn share(&self, one_request: Duration, connections: usize, cores: usize) -> Share {
        let once = |connections: usize| one_request.mul_f64(connections.div_ceil(cores.max(1)).max(1) as f64);
        let grace = |connections: usize| LEAST_GRACE.max(once(connections) * 3);
        let share = Share {
            connections,
            rounds: self.rounds,
            slice: self.slice,
            grace: grace(connections),
            alone_rounds: self.alone_rounds,
        };
        if once(connections) * 4 <= self.slice {
            return share;
        }
        let whole = self.slice * u32::try_from(self.rounds).unwrap_or(u32::MAX);
        let fits = |connections: usize| once(connections) * 2 <= whole;
        let connections = (1..=connections).rev().find(|connections| fits(*connections)).unwrap_or(1);
        let slice = if fits(connections) { once(connections) } else { Duration::from_nanos(1) };
        let each = slice + once(connections);
        let rounds = (whole.as_nanos() / each.as_nanos().max(1)).clamp(1, self.rounds as u128);
        let alone = one_request <= self.alone;
        Share {
            connections,
            rounds: usize::try_from(rounds).unwrap_or(1),
            slice,
            grace: grace(connections),
            alone_rounds: if alone { self.alone_rounds } else { 0 },
        }
    }
}

/// Whether a server that takes part in `rounds` of `all` rounds does so in this one: they are spread evenly.
pub fn takes_part(round: usize, rounds: usize, all: usize) -> bool {
    (round + 1) * rounds / all.max(1) > round * rounds / all.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn forty_seconds_for_four_servers_are_seven_rounds_of_a_second() {
        let schedule = Schedule::of(SECOND * 40, 4, false);
        assert_eq!((schedule.rounds, schedule.slice), (7, SECOND));
        assert_eq!((schedule.warm_up, schedule.alone_rounds), (SECOND, 3));
        assert!(schedule.alone > SECOND / 2 && schedule.alone < SECOND);
    }

    #[test]
    fn more_time_is_more_rounds_and_little_time_fewer() {
        assert_eq!(Schedule::of(SECOND * 400, 4, false).rounds, 35);
        let short = Schedule::of(SECOND, 4, false);
        assert_eq!((short.rounds, short.slice), (1, Duration::from_millis(175)));
        assert_eq!(Schedule::of(Duration::ZERO, 4, false).rounds, 1);
    }

    #[test]
    fn a_fixed_rate_takes_half_of_the_time_under_load() {
        let (plain, paced) = (Schedule::of(SECOND * 40, 4, false), Schedule::of(SECOND * 40, 4, true));
        assert_eq!((plain.paced_rounds, paced.paced_rounds), (0, paced.rounds));
        assert_eq!((paced.slice * 2, paced.alone), (plain.slice, plain.alone));
    }

    #[test]
    fn short_requests_get_every_round_and_all_connections() {
        let share = Schedule::of(SECOND * 40, 4, false).share(Duration::from_micros(50), 32, 1);
        assert_eq!((share.connections, share.rounds, share.slice), (32, 7, SECOND));
        assert_eq!((share.grace, share.alone_rounds), (SECOND, 3));
    }

    #[test]
    fn longer_requests_get_fewer_longer_slices() {
        let share = Schedule::of(SECOND * 40, 4, false).share(Duration::from_millis(50), 32, 1);
        assert_eq!((share.connections, share.rounds), (32, 2));
        assert_eq!(share.slice, Duration::from_millis(1_600));
        assert_eq!(share.grace, Duration::from_millis(4_800));
    }

    #[test]
    fn still_longer_ones_get_fewer_connections_and_at_least_one_request() {
        let schedule = Schedule::of(SECOND * 40, 4, false);
        let share = schedule.share(SECOND, 32, 2);
        assert_eq!((share.connections, share.rounds, share.alone_rounds), (6, 1, 0));
        let share = schedule.share(SECOND * 9, 32, 1);
        assert_eq!((share.connections, share.rounds), (1, 1));
        assert!(share.slice < Duration::from_millis(1) && share.grace == SECOND * 27);
    }

    #[test]
    fn a_server_takes_part_in_as_many_rounds_as_it_has() {
        for all in 1..12 {
            for rounds in 0..=all {
                let taken = (0..all).filter(|round| takes_part(*round, rounds, all)).count();
                assert_eq!(taken, rounds);
            }
        }
    }

    proptest! {
        #[test]
        fn no_server_gets_much_more_than_its_time(
            left in 1u64..300_000, servers in 1usize..6, one in 1u64..100_000_000, connections in 1usize..500,
            cores in 1usize..64, paced in any::<bool>(),
        ) {
            let schedule = Schedule::of(Duration::from_millis(left), servers, paced);
            let one = Duration::from_micros(one);
            let share = schedule.share(one, connections, cores);
            prop_assert!(share.connections >= 1 && share.connections <= connections);
            prop_assert!(share.rounds >= 1 && share.rounds <= schedule.rounds);
            let tail = one.mul_f64(share.connections.div_ceil(cores) as f64);
            let loaded = (share.slice + tail) * share.rounds as u32;
            let whole = schedule.slice * schedule.rounds as u32;
            // A quarter for the tails of short requests; and one request is measured however long it takes.
            prop_assert!(loaded <= whole.mul_f64(1.26).max(one + Duration::from_millis(1)));
        }
    }
}
