//! Figures as they are shown: short, with their unit, three digits.

pub const KIB: f64 = 1024.0;
pub const MIB: f64 = KIB * KIB;

/// A time given in microseconds, with the unit that makes it short.
pub fn time(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} us", significant(us)),
        us if us < 999_500.0 => format!("{} ms", significant(us / 1e3)),
        us => format!("{} s", significant(us / 1e6)),
    }
}

pub fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < KIB => format!("{bytes} bytes"),
        bytes if bytes < MIB => format!("{} KiB", significant(bytes / KIB)),
        bytes => format!("{} MiB", significant(bytes / MIB)),
    }
}

/// Three figures, or all before the point; two for what is small.
pub fn significant(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 0.00995 => format!("{value:.4}"),
        value if value < 0.0995 => format!("{value:.3}"),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => count(value),
    }
}

/// A whole number in groups of three; small ones with three figures.
pub fn count(value: f64) -> String {
    if value < 99.95 {
        return significant(value);
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Half of a range as a part of the median.
pub fn noise(part: f64) -> String {
    format!("±{:.0}%", part * 100.0)
}

pub fn show<T>(value: Option<T>, shown: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_keep_three_digits() {
        let shown = [0.0123, 0.123, 9.994, 9.996, 99.94, 99.96, 123.4, 999.4].map(time);
        let told = ["0.012 us", "0.12 us", "9.99 us", "10.0 us", "99.9 us", "100 us", "123 us", "999 us"];
        assert_eq!(shown, told);
        assert_eq!(
            [999.6, 12_345.0, 999_600.0, 62_000_000.0].map(time),
            ["1.00 ms", "12.3 ms", "1.00 s", "62.0 s"]
        );
        assert_eq!([1.5, 999.0, 1_000.0, 1_234_567.0].map(count), ["1.50", "999", "1,000", "1,234,567"]);
        assert_eq!([13.0, 2_048.0, 20_000_000.0].map(size), ["13 bytes", "2.00 KiB", "19.1 MiB"]);
        assert_eq!((significant(0.0), noise(0.023)), ("0".to_owned(), "±2%".to_owned()));
    }
}
