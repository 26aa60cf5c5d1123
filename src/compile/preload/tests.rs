use super::*;
use crate::prepare::preload::{Allowance, Start};

/// An app with this in its init function and its handler, and the status that it answers.
fn app(init: &str, handle: &str, status: &str) -> Vec<u8> {
    let text = include_str!("tests/app.wat").replacen("STATUS, which", "", 1);
    let text = text.replace("(func (export \"init\") INIT)", &format!("(func (export \"init\") {init})"));
    let text = text.replace("      HANDLE\n", &format!("      {handle}\n"));
    wat::parse_str(text.replace("(local.get $answer) STATUS)", &format!("(local.get $answer) {status})")))
        .expect("the text of a component")
}

fn asked(start: Start, allowed: &[(Source, bool)]) -> Preload {
    Preload {
        start,
        allowed: allowed
            .iter()
            .map(|(source, frozen)| Allowance { source: *source, frozen: *frozen })
            .collect(),
        compared: ["/".to_owned(), "/".to_owned()],
        env: vec![("TOKEN".to_owned(), "very-secret".to_owned())],
        memory_limit: 64 << 20,
        table_limit: 1000,
        resource_limit: 100,
        header_limit: 10_000,
    }
}

fn tried(app: &[u8], start: Start, allowed: &[(Source, bool)]) -> Result<Vec<u8>, String> {
    preload(&EngineSettings::default(), &asked(start, allowed), app)
}

fn warmup() -> Start {
    Start::Warmup(vec!["/".to_owned()])
}

const OK: &str = "(i32.const 200)";

/// An init that leaves what it has got.
const SOURCES: [(Source, &str); 7] = [
    (Source::Random, "(global.set $kept (call $random))"),
    (Source::Clocks, "(global.set $kept (call $now))"),
    (Source::Environment, "(call $environment (i32.const 512))"),
    (Source::Filesystem, "(call $directories (i32.const 512))"),
    (Source::Stdin, "(drop (call $stdin))"),
    (Source::Stdout, "(call $say)"),
    (Source::Outbound, "(drop (call $network))"),
];

#[test]
fn what_comes_of_an_app_has_the_state_that_it_was_brought_to() {
    let init = "(i32.store8 (i32.const 1000) (i32.const 7)) (global.set $count (i32.const 42))";
    // It answers alike whether it was started or not; its image is another one.
    let plain = app(init, "", OK);
    let image = tried(&plain, Start::Init, &[]).expect("an image");
    assert_ne!(image, plain);
    let again = tried(&plain, Start::Init, &[]).expect("an image");
    assert!(image == again, "the same app gives the same image");
    let image = tried(&app("", init, OK), warmup(), &[]).expect("an image");
    let opened = opened(&image).expect("an image is an app as others are");
    assert!(opened.1.windows(3).any(|bytes| bytes == [0x41, 42, 0x0b]), "the global begins with 42");
}

#[test]
fn each_source_is_refused_and_named_where_it_is_not_allowed() {
    for (source, code) in SOURCES {
        let begin = format!("the app {source}");
        for (app, start) in [(app(code, "", OK), Start::Init), (app("", code, OK), warmup())] {
            let reason = tried(&app, start, &[]).expect_err("a refusal");
            assert!(reason.starts_with(&begin) && reason.contains("while it was preloaded"), "{reason}");
        }
    }
    let reason = tried(&app("(call $say)", "", OK), Start::Init, &[]).expect_err("a refusal");
    assert!(reason.contains("(\"hello from inside\")"), "{reason}");
    let reason = tried(&app("(drop (call $random))", "", OK), Start::Init, &[]).expect_err("a refusal");
    let expected =
        "the app asked for random bytes while it was preloaded: every instance would have the same ones";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn what_is_allowed_may_be_used_and_not_kept() {
    for (source, code) in &SOURCES[..3] {
        let reason = tried(&app(code, "", OK), Start::Init, &[(*source, false)]).expect_err("it is kept");
        let name = source.as_str();
        let begin = format!("what it had from the host stayed in its image ({name})");
        assert!(reason.starts_with(&begin), "{reason}");
        assert!(reason.ends_with(&format!("allow \"frozen-{name}\" if that does no harm")), "{reason}");
        assert!(reason.contains("global") || reason.contains("bytes of memory"), "{reason}");
        tried(&app(code, "", OK), Start::Init, &[(*source, true)]).expect("an image with it");
    }
    for (source, code) in [
        (Source::Random, "(drop (call $random))"),
        (Source::Clocks, "(drop (call $now))"),
        (Source::Filesystem, "(call $directories (i32.const 512))"),
        (Source::Stdout, "(call $say)"),
    ] {
        tried(&app(code, "", OK), Start::Init, &[(source, false)]).expect("an image without it");
    }
}

#[test]
fn the_one_source_of_several_that_leaves_something_is_named() {
    let code = "(drop (call $random)) (global.set $kept (call $now))";
    let allowed = [(Source::Random, false), (Source::Clocks, false)];
    let reason = tried(&app(code, "", OK), Start::Init, &allowed).expect_err("it is kept");
    assert!(reason.contains("stayed in its image (clocks)"), "{reason}");
}

#[test]
fn the_environment_is_in_the_image_only_where_that_is_allowed() {
    let has_secret = |image: &[u8]| image.windows(11).any(|bytes| bytes == b"very-secret");
    let image = tried(&app("", "", OK), Start::Init, &[]).expect("an image");
    assert!(!has_secret(&image));
    let reads = app("(call $environment (i32.const 512))", "", OK);
    let image = tried(&reads, Start::Init, &[(Source::Environment, true)]).expect("an image");
    assert!(has_secret(&image));
    // Read by its name alone, and everything else forgotten, it would be found, too: all values are others.
    let reason = tried(&reads, Start::Init, &[(Source::Environment, false)]).expect_err("it is kept");
    assert!(reason.contains("(environment)"), "{reason}");
}

#[test]
fn a_resource_of_the_hosts_that_is_still_held_is_a_reason() {
    let reason = tried(&app("(drop (call $fields))", "", OK), Start::Init, &[]).expect_err("it is held");
    assert!(reason.starts_with("it holds 1 of the host's resources"), "{reason}");
}

#[test]
fn an_app_that_fails_or_never_ends_is_refused() {
    let reason = tried(&app("unreachable", "", OK), Start::Init, &[]).expect_err("a trap");
    assert!(reason.starts_with("wizer-initialize failed while it was preloaded"), "{reason}");
    let reason = tried(&app("", "unreachable", OK), warmup(), &[]).expect_err("a trap");
    assert!(reason.starts_with("GET / failed while it was preloaded"), "{reason}");
    let reason = tried(&app("", "", "(i32.const 503)"), warmup(), &[]).expect_err("no answer");
    assert!(reason.starts_with("it answered 503"), "{reason}");
    let reason = tried(&app("", "(return)", OK), warmup(), &[]).expect_err("no answer");
    assert_eq!(reason, "GET / failed while it was preloaded: it gave no answer");
    let reason = tried(&app("(loop (br 0))", "", OK), Start::Init, &[]).expect_err("no end");
    assert!(reason.starts_with("it took more than 10 seconds of the processor"), "{reason}");
}

#[test]
fn memory_stays_within_the_apps_limit() {
    let grows = "(if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable))";
    let reason = tried(&app(grows, "", OK), Start::Init, &[]).expect_err("more than 64 MiB");
    assert!(reason.contains("failed while it was preloaded"), "{reason}");
}

#[test]
fn an_image_that_is_too_large_is_refused_with_both_sizes() {
    assert_eq!(check_size(100, 100 + MOST_GROWTH), Ok(()));
    let reason = check_size(1 << 20, (1 << 20) + MOST_GROWTH + 1).expect_err("too large");
    assert!(reason.contains("instead of the app's 1MiB") && reason.contains("64MiB more"), "{reason}");
}

#[test]
fn state_that_shows_in_the_answers_is_a_reason() {
    let count = "(global.set $count (i32.add (global.get $count) (i32.const 1)))";
    let counts = app("", count, "(i32.add (global.get $count) (i32.const 200))");
    let reason = tried(&counts, warmup(), &[]).expect_err("another answer");
    assert!(
        reason.ends_with("is not the one that it gives without: 202 Accepted instead of 201 Created"),
        "{reason}"
    );
}

#[test]
fn answers_from_a_frozen_source_are_found() {
    let seeds = "(if (i64.eqz (global.get $kept)) (then (global.set $kept (call $random))))";
    let status = "(i32.add (i32.const 200) (i32.wrap_i64 (i64.rem_u (global.get $kept) (i64.const 200))))";
    let reason =
        tried(&app("", seeds, status), warmup(), &[(Source::Random, true)]).expect_err("one for all");
    assert!(
        reason.starts_with("preloaded, its answer to GET / is not the one")
            || reason.contains("random numbers")
    );
}

#[test]
fn what_wizer_cannot_keep_is_a_reason() {
    let twice = r#"(component (core module $m (memory (export "m") 1)) (core instance (instantiate $m))
        (core instance (instantiate $m)))"#;
    let reason = tried(&wat::parse_str(twice).expect("text"), Start::Init, &[]).expect_err("a refusal");
    assert!(reason.starts_with("its state can't be kept"), "{reason}");
    let none = wat::parse_str("(component)").expect("text");
    let reason = tried(&none, Start::Init, &[]).expect_err("no function");
    assert!(reason.starts_with("it has no function wizer-initialize"), "{reason}");
}
