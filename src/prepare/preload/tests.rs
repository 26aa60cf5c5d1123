use super::*;

fn preload() -> Preload {
    Preload {
        start: Start::Warmup(vec!["/".to_owned()]),
        allowed: Vec::new(),
        compared: ["/".to_owned(), "/".to_owned()],
        env: Vec::new(),
        memory_limit: 1 << 20,
        table_limit: 100,
        resource_limit: 100,
        header_limit: 1000,
    }
}

#[test]
fn the_name_of_an_artifact_covers_the_app_and_all_that_is_asked_for() {
    let app = Digest::of(b"app");
    let base = preload().digest(&app);
    assert_eq!(base, preload().digest(&app));
    assert_ne!(base, app);
    assert_ne!(base, preload().digest(&Digest::of(b"another")));
    let allowed = |frozen| vec![Allowance { source: Source::Random, frozen }];
    let others = [
        Preload { start: Start::Init, ..preload() },
        Preload { start: Start::Warmup(vec!["/a".to_owned()]), ..preload() },
        Preload { allowed: allowed(false), ..preload() },
        Preload { allowed: allowed(true), ..preload() },
        Preload { compared: ["/".to_owned(), "/b".to_owned()], ..preload() },
        Preload { env: vec![("A".to_owned(), "b".to_owned())], ..preload() },
        Preload { memory_limit: 2 << 20, ..preload() },
        Preload { table_limit: 101, ..preload() },
        Preload { resource_limit: 101, ..preload() },
        Preload { header_limit: 1001, ..preload() },
    ];
    let mut digests: Vec<_> = others.iter().map(|other| other.digest(&app)).chain([base]).collect();
    digests.sort_by_key(|digest| *digest.as_bytes());
    digests.dedup();
    assert_eq!(digests.len(), others.len() + 1);
}

#[test]
fn the_recipe_names_the_tool_that_is_built_in() {
    let manifest = include_str!("../../../Cargo.toml");
    let version = RECIPE.rsplit(' ').next().expect("a version");
    assert!(manifest.contains(&format!("wasmtime-wizer = {{ version = \"={version}\"")), "{RECIPE}");
}

#[test]
fn each_way_to_the_host_is_a_source() {
    for (interface, source) in [
        ("wasi:random/random@0.2.0", Some(Source::Random)),
        ("wasi:random/insecure-seed@0.2.6", Some(Source::Random)),
        ("wasi:clocks/monotonic-clock@0.2.3", Some(Source::Clocks)),
        ("wasi:clocks/wall-clock", Some(Source::Clocks)),
        ("wasi:cli/environment@0.2.0", Some(Source::Environment)),
        ("wasi:cli/stdin@0.2.0", Some(Source::Stdin)),
        ("wasi:filesystem/preopens@0.2.0", Some(Source::Filesystem)),
        ("wasi:http/outgoing-handler@0.2.0", Some(Source::Outbound)),
        ("wasi:sockets/instance-network@0.2.0", Some(Source::Outbound)),
        ("wasi:io/streams@0.2.0", None),
        ("wasi:http/types@0.2.0", None),
    ] {
        assert_eq!(Source::of_interface(interface), source, "{interface}");
    }
}

#[test]
fn what_is_no_component_and_what_has_state_that_cannot_be_read_is_refused() {
    assert!(opened(b"nonsense").is_err());
    let sets = r#"(component (core module $m (table 1 funcref)
        (func (table.set (i32.const 0) (ref.null func)))) (core instance (instantiate $m)))"#;
    let error = opened(&wat::parse_str(sets).expect("text")).map(drop).expect_err("a table that changes");
    assert_eq!(error, "its state can't be kept: unsupported `table.set` instruction");
}

#[test]
fn a_verdict_is_one_word_in_the_status_and_a_reason() {
    let on = Verdict::On { app_size: 1, image_size: 2 };
    let refused = Verdict::refused("x".repeat(5000));
    assert_eq!(serde_json::to_string(&on).expect("JSON"), r#"{"state":"on","app_size":1,"image_size":2}"#);
    let text = serde_json::to_string(&refused).expect("JSON");
    assert!(text.starts_with(r#"{"state":"refused","reason":"xxx"#) && text.len() < 1100);
    assert_eq!(serde_json::from_str::<Verdict>(&text).expect("a verdict"), refused);
}
