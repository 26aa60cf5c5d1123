//! An app that works long before its first answer: it makes a table, and answers from it.
//!
//! - `?n=1000`: the thousandth prime
//!
//! The table is made at first use, some milliseconds, and is 20 MB of memory. An instance that is new, or as new, has to
//! make it: in such an app it shows what it is worth to keep an instance as it is, or to begin with a state that has it.

use std::sync::OnceLock;

use kit::Query;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// Numbers that are looked at.
const NUMBERS: usize = 5_000_000;

static SMALLEST_FACTORS: OnceLock<Vec<u32>> = OnceLock::new();

struct Primes;

wasip2::http::proxy::export!(Primes);

impl Guest for Primes {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let n = Query::of(&request).number("n").unwrap_or(1);
        let table = SMALLEST_FACTORS.get_or_init(sieve);
        let mut primes =
            table.iter().enumerate().skip(2).filter(|(number, factor)| *number as u32 == **factor);
        let found = usize::try_from(n.saturating_sub(1)).ok().and_then(|before| primes.nth(before));
        let answer = match found {
            Some((prime, _)) if n > 0 => format!("prime {n} is {prime}\n"),
            _ => format!("the table has no prime {n}\n"),
        };
        kit::send_text(out, 200, &answer);
    }
}

/// The smallest prime factor of each number; 0 has none, and 1 neither.
fn sieve() -> Vec<u32> {
    let mut factors = vec![0_u32; NUMBERS];
    for number in 2..NUMBERS {
        if factors[number] == 0 {
            for multiple in (number..NUMBERS).step_by(number) {
                if factors[multiple] == 0 {
                    factors[multiple] = number as u32;
                }
            }
        }
    }
    factors
}
