use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `events` come to on the way out.
fn logged(form: Form, events: impl FnOnce()) -> String {
    let out = Out::default();
    let inner = out.clone();
    let lines = Lines { form, out: move || inner.clone() };
    let builder = tracing_subscriber::fmt().with_writer(lines).with_ansi(false);
    match form {
        Form::Json => {
            let subscriber = builder.json().flatten_event(true).finish();
            tracing::subscriber::with_default(subscriber, events);
        }
        Form::Text => tracing::subscriber::with_default(builder.finish(), events),
    }
    let bytes = out.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

fn line(form: Form, text: &[u8]) -> String {
    let out = Out::default();
    let mut lines = Lines { form, out: || out.clone() }.make_writer();
    lines.write_all(text).unwrap();
    let bytes = out.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

fn example<'a>() -> Access<'a> {
    Access {
        method: "GET",
        host: "a.example",
        path: "/x\n\u{1b}[31mfake",
        status: 200,
        bytes: 5,
        duration: Duration::from_micros(1500),
        app: Some("shop"),
        request_id: "r1",
        peer: "127.0.0.1:1234".parse().unwrap(),
        complete: true,
    }
}

#[test]
fn an_access_line_has_every_field_and_no_control_characters() {
    let text = logged(Form::Text, || access(&example()));
    assert_eq!(text.lines().count(), 1);
    assert!(!text.trim_end().contains(char::is_control), "{text}");
    for part in ["access", "GET", "a.example", "/x\\n", "200", "1500", "shop", "r1", "127.0.0.1:1234"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = logged(Form::Json, || access(&example()));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["status"], &value["target"]), (&200.into(), &"access".into()));
    assert_eq!(value["path"], "/x\\n\\u{1b}[31mfake");
}

#[test]
fn a_long_line_is_cut_and_stays_one_line() {
    let huge = "é".repeat(MAX_LINE);
    let text = logged(Form::Text, || tracing::info!("{huge}"));
    assert!(text.len() < MAX_LINE + 10 && text.ends_with("...\n"));
    let json = logged(Form::Json, || tracing::info!("{huge}"));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json.len() < 2 * MAX_LINE && value["bytes"].as_u64() > Some(MAX_LINE as u64));
}

#[test]
fn a_message_of_several_lines_is_one_line() {
    let text = logged(Form::Text, || tracing::info!("one\ntwo\nthree"));
    assert!(text.contains("one\\ntwo\\nthree"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_bad_level_is_an_error_that_names_it() {
    let error = init(false, "hostler=loud").unwrap_err();
    assert!(error.to_string().contains("hostler=loud"));
}

proptest! {
    #[test]
    fn every_line_is_one_bounded_line(bytes in proptest::collection::vec(any::<u8>(), 0..40_000)) {
        let text = String::from_utf8_lossy(&bytes).into_owned() + "\n";
        for form in [Form::Text, Form::Json] {
            let out = line(form, text.as_bytes());
            prop_assert_eq!(out.matches('\n').count(), 1);
            prop_assert!(out.len() <= 6 * MAX_LINE);
        }
    }

    #[test]
    fn shown_text_is_bounded_and_harmless(text in ".{0,400}") {
        let shown = Text(&text).to_string();
        prop_assert!(!shown.contains(char::is_control));
        prop_assert!(shown.len() <= MAX_FIELD * 10 + 3);
    }
}
