# What each system costs, and the rates that compare measured, as one report.
($compare[0]) as $compare
| ($compare.servers | map({ key: .name, value: . }) | from_entries) as $rates
| {
    conditions: ($compare.conditions + { workers: $workers }),
    native: ($rates.native | { requests_per_second, alone_p50_us, cpu_us_per_request }),
    systems: [
      $costs[] | . + ($rates[.name] // {} | { requests_per_second, ratio_to_native, alone_p50_us, counts })
    ],
    skipped: ($skipped | split("\n") | map(select(. != ""))),
    notes: $compare.notes
  }
