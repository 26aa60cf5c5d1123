//! The report as one page that needs nothing else: no script, no style, font or image from elsewhere.

mod continuum;
mod figure;
mod latency;
mod scale;
mod tables;
mod text;

use std::fmt::Write;

use super::advice::sentence;
use super::report::{Conditions, Report, Skipped};
use text::{Text, typeset};

const STYLE: &str = include_str!("page/style.css");

/// The page, whole.
pub fn page(report: &Report) -> String {
    let title = format!("{}: modes compared", report.app.name);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        Text(&title)
    );
    for part in [head, throughput, latencies, costs, reading, conditions] {
        part(report, &mut out);
    }
    out + "</main>\n</body>\n</html>\n"
}

fn head(report: &Report, out: &mut String) {
    let requests = report.app.requests.iter();
    let requests =
        requests.map(|one| format!("<li>{}</li>", Text(&typeset(&one.to_string().replace("->", "→")))));
    let requests = requests.take(SHOWN).collect::<String>();
    let further = match report.app.requests.len().saturating_sub(SHOWN) {
        0 => String::new(),
        further => format!("<li>and {further} more</li>"),
    };
    let advice = &report.advice;
    let advised = match &advice.mode {
        Some(mode) => format!("<strong>{}</strong>, since ", Text(mode)),
        None => "No mode: ".to_owned(),
    };
    let more = [&advice.beyond, &advice.caution].into_iter().flatten();
    let more = more.map(|text| format!("<p class=\"more\">{}.</p>", Text(&typeset(&sentence(text)))));
    let _ = write!(
        out,
        "<header>\n<p class=\"over\">Modes of Hostler, compared</p>\n<h1>{}</h1>\n<ul class=\"asked\">{requests}{further}\
         </ul>\n</header>\n<section class=\"advice\" aria-label=\"Advice\">\n<p>{advised}{}.</p>{}\n</section>\n",
        Text(&report.app.name),
        Text(&typeset(&advice.reason)),
        more.collect::<String>(),
    );
}

/// Requests that are named at the top.
const SHOWN: usize = 6;

fn throughput(report: &Report, out: &mut String) {
    out.push_str("<section>\n<h2>The continuum</h2>\n");
    if let Some(figure) = continuum::continuum(&report.servers) {
        let _ = write!(
            out,
            "<figure>\n{figure}<figcaption>What each mode answers in a second against the memory of its whole process. \
             The way begins with the mode that keeps nothing; each bar reaches from the slowest round to the fastest. \
             The dotted line is bare hyper with the same answers.</figcaption>\n</figure>\n"
        );
    }
    let _ = writeln!(out, "{}</section>", tables::speed(&report.servers));
}

fn latencies(report: &Report, out: &mut String) {
    let rows = &report.servers;
    out.push_str("<section>\n<h2>Latency</h2>\n");
    let loaded = rows.iter().map(|row| (row, &row.latency));
    if let Some(figure) = latency::latencies("latency", "Latency by part of the requests", loaded) {
        let connections = report.conditions.connections;
        let _ = write!(
            out,
            "<figure>\n{figure}<figcaption>With {connections} requests under way at any time, each server as fast as it \
             can. Each step to the right is ten times as rare.</figcaption>\n</figure>\n"
        );
    }
    out.push_str(&tables::latency(rows));
    if let Some(rate) = &report.conditions.rate {
        let paced = rows.iter().filter_map(|row| Some((row, &row.at_rate.as_ref()?.latency)));
        if let Some(figure) = latency::latencies("rate", "Latency at a fixed rate", paced) {
            let _ = write!(
                out,
                "<figure>\n{figure}<figcaption>At {}, sent at times fixed beforehand. A request that has to wait for the \
                 ones before it is late from the time at which it was due.</figcaption>\n</figure>\n",
                Text(&typeset(rate))
            );
        }
        out.push_str(&tables::at_rate(rows));
    }
    out.push_str("</section>\n");
}

fn costs(report: &Report, out: &mut String) {
    let rows = &report.servers;
    let _ = write!(
        out,
        "<section>\n<h2>What it costs</h2>\n{}{}</section>\n<section>\n<h2>Until the first answer</h2>\n{}</section>\n",
        tables::cost(rows),
        tables::memory(rows),
        tables::first(rows),
    );
}

/// What one must know to read the figures rightly.
fn reading(report: &Report, out: &mut String) {
    if report.skipped.is_empty() && report.notes.is_empty() {
        return;
    }
    let skipped =
        report.skipped.iter().map(|Skipped { mode, reason }| format!("{mode} not measured: {reason}"));
    let notes = skipped.chain(report.notes.iter().cloned());
    let notes = notes.map(|note| format!("<li>{}</li>\n", Text(&typeset(&note)))).collect::<String>();
    let _ = write!(
        out,
        "<section>\n<h2>To be careful about</h2>\n<ul class=\"notes\">\n{notes}</ul>\n</section>\n"
    );
}

fn conditions(report: &Report, out: &mut String) {
    let Conditions { rounds, slice_seconds, server_threads, versions, machine, seconds, .. } =
        &report.conditions;
    let run = &report.conditions;
    let cores = match (&run.server_cores, &run.load_cores) {
        (Some(servers), Some(load)) => format!("servers on {servers}, load on {load}"),
        _ => "shared by servers and load".to_owned(),
    };
    let of_each = format!("{rounds} of {slice_seconds:.2} s for each server, interleaved");
    let facts = [
        ("app", format!("{}, {}", report.app.file, super::format::size(report.app.bytes as f64))),
        ("connections", run.connections.to_string()),
        ("rounds", of_each),
        ("fixed rate", run.rate.clone().unwrap_or_else(|| "none".to_owned())),
        ("cores", cores),
        ("server threads", server_threads.to_string()),
        ("programs", versions.join(", ")),
        ("machine", machine.clone()),
        ("whole time", format!("{seconds:.0} s")),
    ];
    let facts =
        facts.iter().map(|(what, fact)| format!("<dt>{what}</dt><dd>{}</dd>\n", Text(&typeset(fact))));
    let _ = write!(
        out,
        "<footer>\n<h2>How it was measured</h2>\n<p>Every server had its slice in every round, and another one began each \
         round, so what the machine did besides met all of them alike. Figures are medians over the rounds. Wrong \
         answers count as none.</p>\n<dl>\n{}</dl>\n</footer>\n",
        facts.collect::<String>()
    );
}

#[cfg(test)]
mod tests;
