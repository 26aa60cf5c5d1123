//! A CGI/1.1 program: the request comes in the environment and on standard input, the response
//! goes to standard output. Nothing but Rust's standard library is needed.
//!
//! It answers with its environment, or with the body that it is sent. `?mode=` asks for more:
//!
//! - `status`: `418 I'm a teapot`
//! - `redirect`, `local`: sends the client, or the server itself, to another address
//! - `stream`: `?n=5` lines, one each `?ms=100`
//! - `stderr`: three lines on standard error, for the log
//! - `bad`: no CGI header at all
//! - `exit`, `trap`: fails at once, or with `&after=1` when the response has begun
//! - `spin`: never ends

use std::io::{self, Write};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() -> io::Result<()> {
    let query = variable("QUERY_STRING");
    match parameter(&query, "mode") {
        "status" => respond("Status: 418 I'm a teapot\nContent-Type: text/plain", "short and stout\n"),
        "redirect" => respond("Location: https://example.org/elsewhere", ""),
        "local" => {
            let location = format!("Location: {}/moved?mode=env", variable("SCRIPT_NAME"));
            respond(&location, "")
        }
        "stream" => stream(number(&query, "n", 5), number(&query, "ms", 100)),
        "stderr" => {
            for line in ["first", "second", "third"] {
                eprintln!("{line} line for the log");
            }
            respond("Content-Type: text/plain", "three lines logged\n")
        }
        "bad" => respond("this is not a header", "nor is this a body\n"),
        "exit" => {
            begin_if_asked(&query)?;
            exit(3)
        }
        "trap" => {
            begin_if_asked(&query)?;
            panic!("asked to trap")
        }
        "spin" => loop {
            std::hint::black_box(());
        },
        _ if variable("REQUEST_METHOD") == "POST" => echo(),
        _ => environment(),
    }
}

fn environment() -> io::Result<()> {
    let mut lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    respond("Content-Type: text/plain", &lines.concat())
}

fn echo() -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let content_type = match variable("CONTENT_TYPE") {
        unset if unset.is_empty() => "application/octet-stream".to_owned(),
        set => set,
    };
    write!(stdout, "Content-Type: {content_type}\n\n")?;
    io::copy(&mut io::stdin().lock(), &mut stdout)?;
    stdout.flush()
}

fn stream(count: u64, pause_ms: u64) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "Content-Type: text/plain\n\n")?;
    for line in 1..=count {
        if line > 1 {
            sleep(Duration::from_millis(pause_ms));
        }
        writeln!(stdout, "line {line}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn begin_if_asked(query: &str) -> io::Result<()> {
    if parameter(query, "after").is_empty() {
        return Ok(());
    }
    respond("Content-Type: text/plain", "the beginning of a body\n")
}

/// Writes the header, an empty line and the body.
fn respond(header: &str, body: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{header}\n\n{body}")?;
    stdout.flush()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The value of a parameter of the query, or nothing.
fn parameter<'a>(query: &'a str, name: &str) -> &'a str {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
        .unwrap_or_default()
}

fn number(query: &str, name: &str, default: u64) -> u64 {
    parameter(query, name).parse().unwrap_or(default)
}
