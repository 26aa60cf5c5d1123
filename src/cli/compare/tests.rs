use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    compare: Compare,
}

fn options(line: &[&str]) -> Options {
    Line::try_parse_from([&["compare"], line].concat()).unwrap().compare.options("apps".into(), None).unwrap()
}

fn refused(line: &[&str]) -> String {
    Line::try_parse_from([&["compare", "hello"], line].concat()).unwrap_err().to_string()
}

#[test]
fn an_app_alone_is_compared_for_less_than_a_minute_in_the_modes_there_are() {
    let options = options(&["hello"]);
    assert_eq!((options.app.as_str(), options.connections), ("hello", 32));
    assert_eq!(options.duration, Duration::from_secs(45));
    assert_eq!(
        options.modes,
        [Variant::Resident, Variant::Kept, Variant::Pooled, Variant::Replace, Variant::Cached, Variant::Cold]
    );
    assert_eq!((options.requests[0].method.clone(), options.requests[0].path.as_str()), (Method::GET, "/"));
    assert_eq!((options.requests.len(), options.rate, options.against.len()), (1, None, 0));
}

#[test]
fn the_request_is_the_users() {
    let line = ["hello", "--path", "/a?b", "--data", "hi", "--header", "Accept: x/y", "--header", "a:b"];
    let asked = options(&line).requests.remove(0);
    assert_eq!((asked.method, asked.path.as_str(), &asked.body[..]), (Method::POST, "/a?b", &b"hi"[..]));
    let fields = asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    assert_eq!(fields.collect::<Vec<_>>(), [("accept", &b"x/y"[..]), ("a", b"b")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file").unwrap();
    let body = file.path().display().to_string();
    let asked = options(&["hello", "--body", &body, "--method", "PUT"]).requests.remove(0);
    assert_eq!((asked.method, &asked.body[..]), (Method::PUT, &b"from a file"[..]));
}

#[test]
fn several_requests_a_rate_and_other_servers_are_the_users() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[request]]\n[[request]]\npath = \"/b\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let line = [
        "hello",
        "--requests",
        path,
        "--rate",
        "50%",
        "--against",
        "http://h/",
        "--against",
        "n=http://h:1/",
    ];
    let options = options(&line);
    assert_eq!(options.requests.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/", "/b"]);
    assert_eq!(options.rate, Some(Rate::Share(0.5)));
    assert_eq!(options.against.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["h", "n"]);
}

#[test]
fn a_mode_is_compared_once_and_unknown_ones_are_refused() {
    assert_eq!(options(&["x", "--modes", "cold,kept,cold"]).modes, [Variant::Cold, Variant::Kept]);
    assert!(refused(&["--modes", "warm"]).contains("cold, cached, replace, pooled, kept, resident, or all"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    assert!(refused(&["--path", "a"]).contains("begins with /"));
    assert!(refused(&["--path", "/a#b"]).contains("no fragment"));
    assert!(refused(&["--header", "a"]).contains("name: value"));
    assert!(refused(&["--header", "content-length: 1"]).contains("the load's own"));
    assert!(refused(&["--requests", "f", "--path", "/a"]).contains("--path"));
    assert!(refused(&["--body", "f", "--data", "x"]).contains("--data"));
    assert!(refused(&["--rate", "fast"]).contains("50%"));
    assert!(refused(&["--against", "h:1"]).contains("http://HOST:PORT"));
    assert!(refused(&["--method", "CONNECT"]).contains("CONNECT"));
    assert!(refused(&["--duration", "10ms"]).contains("a second at least"));
    assert!(refused(&["--connections", "0"]).contains("0"));
    assert!(refused(&["--server-cores", "x"]).contains("0-3,6"));
    assert!(Line::try_parse_from(["compare"]).is_err());
    assert!(Line::try_parse_from(["compare", "--native-server", "f"]).is_err());
}

#[test]
fn versions_are_those_built_with() {
    let versions = versions();
    assert!(versions[0].starts_with("hostler ") && versions[1].starts_with("wasmtime 48."), "{versions:?}");
    assert!(versions[2].starts_with("hyper 1."), "{versions:?}");
}
