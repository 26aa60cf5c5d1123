use super::*;
use crate::config;
use crate::engine::{EngineKind, EngineSettings};

fn limits() -> Limits {
    let config = config::Compile {
        memory_limit: 1 << 30,
        cpu_time: Duration::from_secs(60),
        ..config::Compile::default()
    };
    Limits::of(&config, 2)
}

/// What comes of a job that is given to another program.
fn given_to(program: &str, time: Duration) -> Result<Vec<u8>, String> {
    let limits = Limits { time, ..limits() };
    let job = Job::new(&EngineSettings::default(), EngineKind::Plain, "hash", b"app", &limits);
    let children = Children::default();
    let program = Program::at(Path::new(program)).expect("a program of every machine");
    let result = children.run(&program, &job, b"app", &limits);
    assert_eq!(children.running(), 0);
    result.map_err(|error| error.to_string())
}

#[track_caller]
fn fails_with(result: Result<Vec<u8>, String>, text: &str) {
    let error = result.expect_err("no compiler");
    assert!(error.contains(text), "no {text:?} in {error:?}");
}

#[test]
fn a_program_that_is_no_compiler_is_a_failed_deploy_that_says_so() {
    let time = Duration::from_secs(20);
    fails_with(given_to("/bin/true", time), "the compiler gave no valid answer: no whole line");
    fails_with(given_to("/bin/false", time), "the compiler ended with code 1");
    fails_with(given_to("/bin/echo", time), "the compiler gave no valid answer: expected value");
    fails_with(given_to("/bin/cat", time), "the compiler ended with code 1: ");
    fails_with(given_to("/etc/passwd", time), "the compiler can't be started: ");
}

#[test]
fn each_end_of_a_child_is_told_from_the_others() {
    let ended = |raw| ExitStatus::from_raw(raw);
    let told = |raw, said: &[u8]| failure(ended(raw), false, said, &limits()).map(|error| error.to_string());
    let signal = |signal: Signal| signal.as_raw();
    assert_eq!(told(0, b"whatever"), None);
    let expected = [
        (signal(Signal::KILL), &b""[..], "the compiler was killed, by somebody or by the kernel"),
        (signal(Signal::XCPU), b"", "more than 1m of processor time"),
        (signal(Signal::XFSZ), b"", "more than 1GiB of memory"),
        (signal(Signal::ABORT), b"memory allocation of 64 bytes failed\n", "more than 1GiB of memory"),
        (101 << 8, b"thread panicked:\nout of memory\n", "more than 1GiB of memory"),
        (signal(Signal::ABORT), b"it overflowed its stack\n", "crashed (signal 6): it overflowed its stack"),
        (signal(Signal::SEGV), b"", "crashed (signal 11)"),
        (101 << 8, b"thread panicked", "ended with code 101: thread panicked"),
    ];
    for (raw, said, text) in expected {
        let told = told(raw, said).expect("a failure");
        assert!(told.contains(text), "no {text:?} in {told:?}");
    }
    let late = failure(ended(signal(Signal::KILL)), true, b"", &limits());
    assert_eq!(late, Some(CompileError::Time(limits().time)));
}

#[test]
fn stopped_children_are_no_more_begun() {
    let children = Children::default();
    children.stop();
    let job = Job::new(&EngineSettings::default(), EngineKind::Plain, "hash", b"", &limits());
    let program = Program::at(Path::new("/bin/sleep")).expect("a program of every machine");
    assert_eq!(children.run(&program, &job, b"", &limits()), Err(CompileError::Stopped));
    assert_eq!(children.running(), 0);
}
