//! The formats of the kernel's files. What doesn't look as it should is `None`.

/// The value of a line such as `MemTotal:       24683520 kB`, in bytes.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let number = line(text, key)?.strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// A number alone; `max` is none.
pub fn bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The processors of a line such as `Cpus_allowed_list: 0-3,8`.
pub fn cpus_allowed(status: &str) -> Option<usize> {
    let ranges = line(status, "Cpus_allowed_list")?.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    });
    ranges.sum()
}

/// Processors' worth of time, rounded up, of `150000 100000`: microseconds in each period of that many.
pub fn cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    cfs_quota(quota, period)
}

/// The same, where the two numbers are in files of their own. A negative quota is none.
pub fn cfs_quota(quota: &str, period: &str) -> Option<usize> {
    let (quota, period) = (bytes(quota)?, bytes(period)?);
    if period == 0 {
        return None;
    }
    usize::try_from(quota.div_ceil(period)).ok()
}

/// Per cent of the last ten seconds in which some task stood still: `some avg10=1.53 avg60=...`.
pub fn some_avg10(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = some.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    average.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

fn line<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let value = |line: &'t str| line.strip_prefix(key)?.strip_prefix(':');
    text.lines().find_map(value).map(str::trim)
}
