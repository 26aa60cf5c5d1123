//! Which mode the figures speak for, and why. Pure.
//!
//! Among the modes that leave nothing between requests the one that is ahead is advised, unless one that keeps less does
//! as well: what is within the noise is no reason to keep more.

use std::fmt;

use serde::Serialize;

use super::Variant;
use super::findings::NOISY;
use super::format::{MIB, significant, time};
use super::report::Row;
use crate::config::{GuestState, Mode};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// `None` if the figures speak for none.
    pub mode: Option<String>,
    pub reason: String,
    /// What a mode would bring that keeps what the guest leaves.
    pub beyond: Option<String>,
    /// Why not to rely on it.
    pub caution: Option<String>,
}

/// The requests/s of one server as a part of another's, by their places among the rows, in each round they both had.
pub type Ratios<'a> = &'a dyn Fn(usize, usize) -> Vec<f64>;

/// How two servers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    /// So many times as fast, in every round.
    Apart(f64),
    /// Now the one and now the other was ahead, or by too little.
    Alike { ahead: usize, rounds: usize },
}

/// A difference that is no reason: in requests/s, and in the median at one connection.
const SLIGHT: f64 = 0.03;
const SLIGHT_LATENCY: f64 = 0.05;
/// Fewer rounds than this only tell what is far apart.
const ENOUGH_ROUNDS: usize = 3;
const FAR_APART: f64 = 2.0;
/// What less safety has to bring to be worth a word.
const WORTH_A_WORD: f64 = 1.1;
/// Microseconds to make an instance that are worth a word.
const LONG_TO_MAKE: f64 = 50.0;

pub fn advise(rows: &[Row], ratios: Ratios<'_>) -> Advice {
    let measured = rows.iter().enumerate().filter_map(|(at, row)| Candidate::of(at, row));
    let (clean, others) =
        measured.partition::<Vec<_>, _>(|one| one.mode.mode().guest_state() == GuestState::Clean);
    let caution = caution(rows);
    let Some(best) = fastest(&clean) else {
        let reason = "no mode that leaves nothing between requests was measured".to_owned();
        return Advice { mode: None, reason, beyond: None, caution };
    };
    let mut thriftier = clean.iter().filter(|one| one.mode < best.mode).collect::<Vec<_>>();
    thriftier.sort_by_key(|one| one.mode);
    let as_good = thriftier.iter().find(|one| best.is_no_better_than(one, ratios));
    let (chosen, reason) = match as_good {
        Some(one) => (*one, best.within_the_noise(one, ratios)),
        None => {
            let rest = clean.iter().copied().filter(|one| one.at != best.at).collect::<Vec<_>>();
            (&best, best.ahead_of(fastest(&rest).as_ref(), ratios))
        }
    };
    let beyond = fastest(&others).and_then(|other| chosen.beyond(&other, ratios));
    Advice { mode: Some(chosen.row.name.clone()), reason, beyond, caution }
}

/// A mode with figures.
#[derive(Debug, Clone, Copy)]
struct Candidate<'r> {
    at: usize,
    row: &'r Row,
    mode: Variant,
    rate: f64,
}

impl<'r> Candidate<'r> {
    fn of(at: usize, row: &'r Row) -> Option<Self> {
        Some(Self { at, row, mode: row.kind.mode()?, rate: row.requests_per_second?.median })
    }

    fn standing(&self, other: &Self, ratios: Ratios<'_>) -> Standing {
        let mut ratios = ratios(self.at, other.at);
        ratios.sort_by(f64::total_cmp);
        let (rounds, ahead) = (ratios.len(), ratios.iter().filter(|ratio| **ratio > 1.0).count());
        let median = ratios.get(rounds / 2).copied().unwrap_or(1.0);
        let far = !(1.0 / FAR_APART..=FAR_APART).contains(&median);
        let agreed = ahead == 0 || ahead == rounds;
        match agreed && (median - 1.0).abs() > SLIGHT && (rounds >= ENOUGH_ROUNDS || far) {
            true => Standing::Apart(median),
            false => Standing::Alike { ahead, rounds },
        }
    }

    fn is_no_better_than(&self, other: &Self, ratios: Ratios<'_>) -> bool {
        let alone = match (self.row.alone_p50_us, other.row.alone_p50_us) {
            (Some(own), Some(other)) => own < other * (1.0 - SLIGHT_LATENCY),
            _ => false,
        };
        matches!(self.standing(other, ratios), Standing::Alike { .. }) && !alone
    }

    fn within_the_noise(&self, chosen: &Self, ratios: Ratios<'_>) -> String {
        let (name, other) = (&self.row.name, &chosen.row.name);
        let by = match self.standing(chosen, ratios) {
            Standing::Alike { ahead, rounds } => format!("{name} was ahead in {ahead} of {rounds} rounds"),
            Standing::Apart(ratio) => format!("{} times", significant(ratio)),
        };
        let alone = match (self.row.alone_p50_us, chosen.row.alone_p50_us) {
            (Some(own), Some(theirs)) => {
                format!(", {} against {} at one connection", time(own), time(theirs))
            }
            _ => String::new(),
        };
        let saved = match self.more_memory_than(chosen) {
            Some(more) if more > 0.0 => format!(", and takes {} MiB less", significant(more)),
            _ => String::new(),
        };
        format!(
            "the differences between {name} and {other} are within the noise ({by}{alone}), and {other} keeps less \
             between requests{saved}"
        )
    }

    fn ahead_of(&self, next: Option<&Self>, ratios: Ratios<'_>) -> String {
        let Some(next) = next else { return "no other mode that leaves nothing was measured".to_owned() };
        let name = &next.row.name;
        let mut reason = match self.standing(next, ratios) {
            Standing::Apart(ratio) => {
                format!("it gives {} times the requests/s of {name}, in every round", significant(ratio))
            }
            Standing::Alike { ahead, rounds } => {
                format!(
                    "its requests/s are within the noise of {name}'s (ahead in {ahead} of {rounds} rounds)"
                )
            }
        };
        if let (Some(own), Some(theirs)) = (self.row.alone_p50_us, next.row.alone_p50_us) {
            reason += &format!("; {} against {} at one connection", time(own), time(theirs));
        }
        if let Some(make) = self.row.own.and_then(|own| own.make_us).filter(|make| *make >= LONG_TO_MAKE)
            && self.mode.mode() == Mode::Pooled
        {
            reason += &format!("; making an instance takes {}, which it does beforehand", time(make));
        }
        match self.more_memory_than(next) {
            Some(more) if more > 0.0 => reason + &format!("; for {} MiB more memory", significant(more)),
            _ => reason,
        }
    }

    fn beyond(&self, other: &Self, ratios: Ratios<'_>) -> Option<String> {
        let Standing::Apart(ratio) = other.standing(self, ratios) else { return None };
        let name = &other.row.name;
        (ratio > WORTH_A_WORD).then(|| {
            format!(
                "{name} gives {} times its requests/s, but requests see what others left: only for an app that \
                 hostler audit finds fit",
                significant(ratio)
            )
        })
    }

    /// In MiB, if it is more than what such figures vary by.
    fn more_memory_than(&self, other: &Self) -> Option<f64> {
        let mib = |row: &Row| row.memory.map(|memory| memory.pss as f64 / MIB);
        let (own, theirs) = (mib(self.row)?, mib(other.row)?);
        let more = own - theirs;
        (more.abs() > SLIGHT_LATENCY * own.max(theirs)).then_some(more)
    }
}

fn fastest<'r>(candidates: &[Candidate<'r>]) -> Option<Candidate<'r>> {
    candidates.iter().copied().max_by(|a, b| a.rate.total_cmp(&b.rate))
}

fn caution(rows: &[Row]) -> Option<String> {
    let rates = rows.iter().filter_map(|row| Some((row, row.requests_per_second?)));
    let noisy = rates.filter(|(_, rate)| rate.noise() > NOISY).map(|(row, _)| row.name.clone());
    let noisy = noisy.collect::<Vec<_>>();
    (!noisy.is_empty()).then(|| {
        format!(
            "the machine was noisy ({} varied much): measure again when nothing else runs",
            noisy.join(", ")
        )
    })
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mode {
            Some(mode) => {
                let how = match mode == Variant::Replace.as_str() {
                    true => " (mode pooled with reset = \"replace\")",
                    false => "",
                };
                write!(f, "{mode}{how}, since {}", self.reason)?;
            }
            None => write!(f, "none, {}", self.reason)?,
        }
        let more = [&self.beyond, &self.caution];
        more.into_iter().flatten().try_for_each(|text| write!(f, ". {}", sentence(text)))
    }
}

/// As it begins a sentence. The name of a mode stays as it is written in a configuration.
pub fn sentence(text: &str) -> String {
    match text.strip_prefix("the ") {
        Some(rest) => format!("The {rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::{Kind, tests::row};

    fn mode(mode: Variant, rate: f64, alone: f64, mib: u64) -> Row {
        let mut row = row(mode.as_str(), rate, 0.01);
        row.kind = Kind::Mode(mode);
        row.alone_p50_us = Some(alone);
        row.memory = Some(crate::compare::usage::Memory { rss: mib << 20, pss: mib << 20 });
        row
    }

    /// With every round as the medians.
    fn advice(rows: &[Row]) -> Advice {
        let rate = |at: usize| rows[at].requests_per_second.unwrap().median;
        advise(rows, &|a, b| vec![rate(a) / rate(b); 7])
    }

    #[test]
    fn the_mode_that_is_ahead_is_advised_with_what_it_costs() {
        let rows = [
            row("native", 100_000.0, 0.01),
            mode(Variant::Pooled, 20_000.0, 80.0, 60),
            mode(Variant::Cached, 16_000.0, 96.0, 40),
            mode(Variant::Cold, 10.0, 5_000.0, 40),
        ];
        let told = "pooled, since it gives 1.25 times the requests/s of cached, in every round; 80.0 us against 96.0 us at one \
                    connection; for 20.0 MiB more memory";
        assert_eq!(advice(&rows).to_string(), told);
    }

    #[test]
    fn a_way_to_reset_is_clean_and_advised_by_its_keys() {
        let rows = [
            mode(Variant::Replace, 30_000.0, 70.0, 60),
            mode(Variant::Pooled, 20_000.0, 80.0, 60),
            mode(Variant::Kept, 30_100.0, 70.0, 60),
        ];
        let told = advice(&rows).to_string();
        assert!(
            told.starts_with("replace (mode pooled with reset = \"replace\"), since it gives 1.50 times"),
            "{told}"
        );
    }

    #[test]
    fn what_is_within_the_noise_is_no_reason_to_keep_more() {
        let rows = [mode(Variant::Pooled, 20_100.0, 80.0, 60), mode(Variant::Cached, 20_000.0, 81.0, 40)];
        let told = "cached, since the differences between pooled and cached are within the noise (pooled was ahead in 7 of 7 \
                    rounds, 80.0 us against 81.0 us at one connection), and cached keeps less between requests, and takes \
                    20.0 MiB less";
        assert_eq!(advice(&rows).to_string(), told);
        let mixed = advise(&rows, &|a, _| match a {
            0 => vec![1.2, 0.9, 1.1],
            _ => vec![0.8, 1.1, 0.9],
        });
        assert_eq!(mixed.mode.as_deref(), Some("cached"));
        assert!(mixed.reason.contains("ahead in 2 of 3 rounds"), "{mixed}");
    }

    #[test]
    fn a_better_latency_is_a_reason_where_requests_a_second_are_none() {
        let rows = [mode(Variant::Pooled, 20_100.0, 80.0, 60), mode(Variant::Cached, 20_000.0, 900.0, 60)];
        let advice = advice(&rows);
        assert_eq!(advice.mode.as_deref(), Some("pooled"));
        assert!(
            advice.reason.contains("within the noise of cached's") && !advice.reason.contains("MiB"),
            "{advice}"
        );
    }

    #[test]
    fn few_rounds_tell_only_what_is_far_apart() {
        let rows = [mode(Variant::Pooled, 30_000.0, 80.0, 60), mode(Variant::Cached, 20_000.0, 80.0, 60)];
        assert_eq!(advise(&rows, &|_, _| vec![1.5]).mode.as_deref(), Some("cached"));
        assert_eq!(advise(&rows, &|_, _| vec![2.5]).mode.as_deref(), Some("pooled"));
        assert_eq!(advise(&rows, &|_, _| Vec::new()).mode.as_deref(), Some("cached"));
    }

    #[test]
    fn what_dirty_instances_would_bring_is_said_and_not_advised() {
        let rows = [mode(Variant::Kept, 60_000.0, 70.0, 60), mode(Variant::Pooled, 20_000.0, 80.0, 60)];
        let advice = advice(&rows);
        assert_eq!(advice.mode.as_deref(), Some("pooled"));
        assert!(advice.beyond.as_deref().unwrap().starts_with("kept gives 3.00 times"), "{advice}");
        let alike = [mode(Variant::Kept, 20_100.0, 70.0, 60), mode(Variant::Pooled, 20_000.0, 80.0, 60)];
        assert_eq!(super::advise(&alike, &|_, _| vec![1.0; 7]).beyond, None);
        let alone = advise(&rows[..1], &|_, _| Vec::new());
        assert_eq!((alone.mode.as_deref(), alone.beyond), (None, None));
    }

    #[test]
    fn a_noisy_machine_is_a_caution() {
        let mut rows = [row("native", 100_000.0, 0.3), mode(Variant::Pooled, 20_000.0, 80.0, 60)];
        assert!(
            advice(&rows).to_string().ends_with(
                ". The machine was noisy (native varied much): measure again when nothing else runs"
            )
        );
        rows[0] = row("native", 100_000.0, 0.1);
        assert_eq!(advice(&rows).caution, None);
    }
}
