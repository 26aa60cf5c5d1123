# The report as a table to read, which is also one in Markdown.
def digits($n):
  if . == 0 then . else (pow(10; (log10 | floor) - $n + 1)) as $unit | (. / $unit | round) * $unit end;
def short: if . == null then "" elif . >= 100 then round | tostring else digits(2) * 1e6 | round / 1e6 | tostring end;
def grouped: if . == null then "" else (digits(3) | round | tostring | gsub("(?<=\\d)(?=(\\d{3})+$)"; ",")) end;
def time: if . == null then "" elif . >= 1e6 then (. / 1e6 | short) + " s" elif . >= 1000 then (. / 1000 | short) + " ms" else short + " us" end;
def mib: . / 1048576 | short;
def pad($width): . + (" " * ($width - length) // "");
def rank: { cold: 0, cached: 1, pooled: 2, kept: 3, resident: 4 }[.];

. as $report
| [["mode", "system", "the next request sees", "requests/s", "native = 1", "p50 at one connection", "CPU per request",
    "MiB idle", "after load", "processes", "first answer"]]
  + [ .systems | sort_by(.mode | rank)[] | [
        "`\(.mode)`",
        if .system == "Hostler" then "**Hostler**" else "\(.system) (\(.version))" end,
        .next_request_sees,
        (.requests_per_second.median | grouped),
        (.ratio_to_native.median | short),
        (.alone_p50_us | time),
        (.cpu_us_per_request | time),
        (.memory_idle_bytes | mib),
        (.memory_loaded_bytes | mib),
        (.processes | tostring),
        (.first_answer_ms * 1000 | time)
      ] ]
| . as $rows
| [ range($rows[0] | length) as $column | $rows | map(.[$column] | length) | max ] as $widths
| def line: "| " + ([ . as $row | range(length) as $column | $row[$column] | pad($widths[$column]) ] | join(" | ")) + " |";
  ($rows[0] | line),
  "|" + ($widths | map("-" * (. + 2)) | join("|")) + "|",
  ($rows[1:][] | line),
  "",
  "native hyper: \($report.native.requests_per_second.median | grouped) requests/s",
  ($report.conditions | "\(.connections) connections, \(.rounds) rounds of \(.slice_seconds * 100 | round / 100) s;"
    + " servers on core \(.server_cores // "any"), load on core \(.load_cores // "any"); pools of \(.workers) processes"),
  ($report.conditions | "\(.versions | join(", ")); \(.machine)"),
  "Hostler's `resident` runs hello-p3, its other modes hello",
  ($report.systems[] | select((.counts // {wrong: 0, errors: 0}) | .wrong + .errors > 0)
    | "\(.system) (`\(.mode)`): \(.counts.wrong) wrong answers and \(.counts.errors) errors beside \(.counts.right) right ones"),
  $report.skipped[]
