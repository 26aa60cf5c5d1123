//! How fast an open loop asks.

use std::fmt;
use std::str::FromStr;

/// Requests a second: the same for every server, or a part of what each was capable of before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    Absolute(f64),
    /// 0.5 is half of the capacity.
    Share(f64),
}

/// More than any server on this machine answers; a time between two requests must be more than nothing.
const MOST: f64 = 10_000_000.0;
/// Some more than the capacity may be asked, to see an overload.
const MOST_SHARE: f64 = 10.0;

impl Rate {
    /// For a server that answered so many requests a second when it was asked as fast as it could answer.
    pub fn of(self, capacity: Option<f64>) -> Option<f64> {
        let rate = match self {
            Self::Absolute(rate) => rate,
            Self::Share(share) => share * capacity?,
        };
        (rate > 0.0).then_some(rate.min(MOST))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, is_share) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let wrong =
            || "write requests a second, such as 5000, or a part of the capacity, such as 50%".to_owned();
        let number = number.trim().parse::<f64>().map_err(|_| wrong())?;
        if !number.is_finite() || number <= 0.0 {
            return Err(wrong());
        }
        match is_share {
            true if number / 100.0 > MOST_SHARE => Err(format!("{:.0}% is the most", MOST_SHARE * 100.0)),
            true => Ok(Self::Share(number / 100.0)),
            false if number > MOST => Err(format!("{MOST:.0} requests a second are the most")),
            false => Ok(Self::Absolute(number)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(rate) => write!(f, "{rate} requests/s"),
            Self::Share(share) => write!(f, "{} % of each server's capacity", share * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_absolute_or_a_part_of_the_capacity() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        assert_eq!(rate("5000").of(None), Some(5_000.0));
        assert_eq!(rate("0.5").of(Some(10.0)), Some(0.5));
        assert_eq!(rate("50%").of(Some(300.0)), Some(150.0));
        assert_eq!(rate("120 %").of(Some(100.0)), Some(120.0));
        assert_eq!(rate("50%").of(None), None);
        assert_eq!(rate("50%").of(Some(0.0)), None);
        assert_eq!(rate("50%").to_string(), "50 % of each server's capacity");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for wrong in ["", "x", "0", "-1", "inf", "nan", "%", "0%"] {
            assert!(wrong.parse::<Rate>().unwrap_err().contains("50%"), "{wrong}");
        }
        assert!("1e9".parse::<Rate>().unwrap_err().contains("10000000"));
        assert!("2000%".parse::<Rate>().unwrap_err().contains("1000%"));
    }
}
