//! Units in the values: durations such as `"250ms"` and sizes such as `"64MiB"`.

use std::time::Duration;

/// Parses a whole number of `ms`, `s`, `m` or `h`: `250ms`, `30s`, `5m`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS).map(Duration::from_millis).map_err(|reason| match reason {
        Wrong::Unit(unit) => {
            format!("unknown unit {unit:?}, use ms, s, m or h, for example \"30s\"")
        }
        Wrong::NoUnit => NO_UNIT.to_owned(),
        Wrong::Number => {
            "not a duration, write a whole number and a unit, for example \"250ms\" or \"30s\"".to_owned()
        }
        Wrong::TooLarge => "too long to count".to_owned(),
    })
}

/// Parses a whole number of `B`, `KiB`, `MiB`, `GiB` or `TiB`; a number alone is bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match parse(text, &SIZES) {
        Ok(bytes) => Ok(bytes),
        Err(Wrong::NoUnit) => text.parse().map_err(|_| "too large to count".to_owned()),
        Err(Wrong::Unit(unit)) => {
            Err(format!("unknown unit {unit:?}, use B, KiB, MiB, GiB or TiB, for example \"64MiB\""))
        }
        Err(Wrong::Number) => {
            Err("not a size, write a whole number and a unit, for example \"64MiB\" or \"1GiB\"".to_owned())
        }
        Err(Wrong::TooLarge) => Err("too large to count".to_owned()),
    }
}

/// The text that [`parse_duration`] reads as this duration; fractions of a millisecond are cut off.
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// The text that [`parse_size`] reads as this many bytes.
pub fn format_size(bytes: u64) -> String {
    format(bytes, &SIZES)
}

/// What a number alone is told where a duration is expected.
pub(super) const NO_UNIT: &str = "a duration needs a unit, for example \"250ms\", \"30s\", \"5m\" or \"1h\"";

/// In milliseconds.
const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

enum Wrong {
    Number,
    NoUnit,
    /// Some letters, cut short.
    Unit(String),
    TooLarge,
}

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Wrong::Number);
    }
    let unit = unit.trim_start_matches(' ');
    if unit.is_empty() {
        return Err(Wrong::NoUnit);
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let is_word = unit.chars().all(char::is_alphabetic);
        return Err(if is_word { Wrong::Unit(unit.chars().take(12).collect()) } else { Wrong::Number });
    };
    // Only digits are left, so a number that doesn't parse is one that doesn't fit.
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(Wrong::TooLarge)
}

/// In the largest unit that leaves no fraction.
fn format(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value.is_multiple_of(*factor) && value >= *factor;
    match units.iter().rev().find(fits) {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("0{}", units.first().map_or("", |(name, _)| name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0), ("7 s", 7_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let unit = "unknown unit \"sec\", use ms, s, m or h, for example \"30s\"";
        let number = "not a duration, write a whole number and a unit, for example \"250ms\" or \"30s\"";
        let none = "a duration needs a unit, for example \"250ms\", \"30s\", \"5m\" or \"1h\"";
        let table = [
            ("30sec", unit),
            ("30", none),
            ("", number),
            ("s", number),
            ("1.5s", number),
            ("-1s", number),
            ("1h30m", number),
        ];
        for (text, message) in table {
            assert_eq!(parse_duration(text), Err(message.to_owned()), "{text}");
        }
        assert_eq!(parse_duration("99999999999999999999s"), Err("too long to count".to_owned()));
        assert_eq!(parse_duration("18446744073709551615h"), Err("too long to count".to_owned()));
    }

    #[test]
    fn a_size_is_a_whole_number_and_a_unit_or_bytes() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("1GiB", 1 << 30), ("512KiB", 512 << 10), ("1000B", 1000), ("1000", 1000)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let unit = |unit: &str| {
            format!("unknown unit \"{unit}\", use B, KiB, MiB, GiB or TiB, for example \"64MiB\"")
        };
        for (text, wrong) in [("64MB", "MB"), ("64M", "M"), ("64mib", "mib")] {
            assert_eq!(parse_size(text), Err(unit(wrong)), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1B", "1_000B"] {
            assert!(parse_size(text).is_err_and(|message| message.starts_with("not a size")), "{text}");
        }
        assert_eq!(parse_size("18446744073709551615KiB"), Err("too large to count".to_owned()));
        assert_eq!(parse_size("99999999999999999999"), Err("too large to count".to_owned()));
    }

    proptest! {
        #[test]
        fn durations_come_back(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn round_durations_come_back(number in 0u64..100_000, unit in 0usize..4) {
            let duration = Duration::from_millis(number * DURATIONS[unit].1);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_come_back(bytes: u64, shift in 0u32..64) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
