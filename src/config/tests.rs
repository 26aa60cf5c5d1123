use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::reader::{self, Document};
use super::*;

mod apps;
mod grants;
mod hosts;

const EXAMPLE: &str = include_str!("../../hostler.example.toml");

/// Somewhere to keep the cache, so that nothing is missing.
fn home() -> Overrides {
    Overrides { cache_home: Some("/home/u/.cache".into()), ..Overrides::default() }
}

fn host(text: &str) -> Result<(HostConfig, Policy), Vec<Problem>> {
    parse_host(Some((Path::new("hostler.toml"), text)), &home())
}

fn policy(text: &str) -> Policy {
    match host(text) {
        Ok((_, policy)) => policy,
        Err(problems) => panic!("{}", shown(&problems).join("\n")),
    }
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

/// The problems of `hostler.toml` with this text.
fn host_problems(text: &str) -> Vec<String> {
    host(text).map_or_else(|problems| shown(&problems), |_| Vec::new())
}

/// The problems of `shop.toml` with this text, where the operator's file has that one.
fn app_problems(host: &str, text: &str) -> Vec<String> {
    let config = policy(host).app_config("shop", Some((Path::new("shop.toml"), text)));
    config.map_or_else(|problems| shown(&problems), |_| Vec::new())
}

fn app(host: &str, name: &str, text: &str) -> AppConfig {
    match policy(host).app_config(name, Some((Path::new("app.toml"), text))) {
        Ok(config) => config,
        Err(problems) => panic!("{}", shown(&problems).join("\n")),
    }
}

/// The example with every key in force, also those that are shown as comments.
fn example_in_force() -> String {
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(key)
            if key
                .split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
        {
            format!("{key}\n")
        }
        _ => format!("{line}\n"),
    };
    EXAMPLE.lines().map(line).collect()
}

#[test]
fn the_example_shows_the_defaults() {
    let (config, example) = host(EXAMPLE).unwrap();
    let (defaults, built_in) = parse_host(None, &home()).unwrap();
    assert_eq!(config, defaults);
    assert_eq!(example.app_config("other", None), built_in.app_config("other", None));
}

#[test]
fn the_example_has_every_key_there_is() {
    let text = example_in_force();
    assert_ne!(text, EXAMPLE);
    let path = Path::new("hostler.example.toml");
    let table = reader::parse(path, &text, LARGEST_HOST_FILE).unwrap();
    let doc = Document::new(path, &text);
    host::read_root(&doc, doc.root("", Some(&table)), path, &home());
    assert_eq!(doc.absent(), Vec::<String>::new());
    assert_eq!(shown(&doc.into_problems()), Vec::<String>::new());
}

#[test]
fn the_example_has_every_variable_there_is() {
    let words = EXAMPLE.split_whitespace().filter(|word| word.starts_with("HOSTLER_") && word.len() > 8);
    let shown = words.collect::<std::collections::BTreeSet<_>>();
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), overrides::NAMES);
    for name in overrides::NAMES {
        let problems =
            variables(&[(name, "")]).map_or_else(|problems| super::tests::shown(&problems), |_| Vec::new());
        assert!(!problems.join("").contains("unknown variable"), "{problems:?}");
    }
}

#[test]
fn the_app_in_the_example_is_within_its_grant() {
    let text = EXAMPLE.lines().filter_map(|line| line.strip_prefix("#|")).collect::<Vec<_>>().join("\n");
    let config = app(EXAMPLE, "shop", &text);
    assert_eq!(config.hosts, ["shop.example.com"]);
    assert_eq!(config.path.as_deref(), Some("/store"));
    assert_eq!(config.memory_limit, 256 << 20);
    assert_eq!(config.env, [("CURRENCY".to_owned(), "EUR".to_owned())]);
    assert_eq!(config.outbound.allow.len(), 2);
    assert_eq!(config.outbound.granted_networks.len(), 2);
}

#[test]
fn a_file_that_is_there_is_read_and_one_that_is_not_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hostler.toml");
    let problems = load_host(Some(&file), &home()).unwrap_err();
    assert!(problems[0].to_string().starts_with(&format!("{}: can't be read: ", file.display())));

    std::fs::write(&file, "[apps]\nfolder = \"my\"\n[cache]\ndir = \"/c\"\n").unwrap();
    let (config, _) = load_host(Some(&file), &home()).unwrap();
    assert_eq!(config.apps.folder, folder.path().join("my"));
    assert_eq!(config.cache.dir, Path::new("/c"));

    std::fs::write(&file, b"\xff").unwrap();
    let problems = load_host(Some(&file), &home()).unwrap_err();
    assert_eq!(problems, [Problem::of_file(&file, "not UTF-8 text")]);
    assert!(load_host(None, &home()).is_ok());
}

#[test]
fn without_a_home_the_cache_has_to_be_named() {
    let problems = parse_host(None, &Overrides::default()).unwrap_err();
    let message = "hostler.toml: cache.dir: neither XDG_CACHE_HOME nor HOME is set: \
                   name a folder here or in HOSTLER_CACHE_DIR";
    assert_eq!(shown(&problems), [message]);
    let named = Overrides { cache_dir: Some("/c".into()), ..Overrides::default() };
    assert_eq!(parse_host(None, &named).unwrap().0.cache.dir, Path::new("/c"));
}

fn variables(list: &[(&str, &str)]) -> Result<Overrides, Vec<Problem>> {
    Overrides::from_env(list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn the_environment_is_read_whole() {
    let overrides = variables(&[
        ("PATH", "/bin"),
        ("HOME", "/home/u"),
        ("HOSTLER_CONFIG", "h.toml"),
        ("HOSTLER_LISTEN", "[::1]:80"),
        ("HOSTLER_FOLDER", "f"),
        ("HOSTLER_STATE_DIR", "/state"),
        ("HOSTLER_ADMIN", "127.0.0.1:1"),
        ("HOSTLER_CACHE_DIR", "/c"),
        ("HOSTLER_LOG_FORMAT", "json"),
        ("HOSTLER_LOG_LEVEL", "warn,hostler=debug"),
        ("HOSTLER_LOG_ACCESS", "true"),
        ("HOSTLER_WORKER_THREADS", "3"),
        ("HOSTLER_MODE", "cached"),
        ("HOSTLER_VERIFY_ISOLATION", "true"),
    ]);
    let expected = Overrides {
        state_dir: Some("/state".into()),
        config: Some("h.toml".into()),
        listen: Some("[::1]:80".parse().unwrap()),
        folder: Some("f".into()),
        admin: Some("127.0.0.1:1".parse().unwrap()),
        cache_dir: Some("/c".into()),
        log_json: Some(true),
        log_level: Some("warn,hostler=debug".to_owned()),
        log_access: Some(true),
        worker_threads: Some(3),
        mode: Some(Mode::Cached),
        verify_isolation: Some(true),
        cache_home: Some("/home/u/.cache".into()),
    };
    assert_eq!(overrides.as_ref(), Ok(&expected));

    let file = "verify_isolation = false\n[server]\nlisten = \"127.0.0.1:9\"\nworker_threads = 1\n[apps]\nfolder = \"g\"\n[cache]\ndir = \"/d\"\n\
                [admin]\nlisten = \"127.0.0.1:2\"\n[log]\nformat = \"human\"\nlevel = \"info\"\naccess = false\n\
                [defaults]\nmode = \"cold\"\n";
    let (config, policy) = parse_host(Some((Path::new("hostler.toml"), file)), &expected).unwrap();
    assert_eq!(config.server.listen, "[::1]:80".parse().unwrap());
    assert_eq!(config.server.worker_threads, 3);
    assert!(config.verify_isolation);
    assert_eq!(config.apps.folder, Path::new("f"));
    assert_eq!(config.apps.state_dir.as_deref(), Some(Path::new("/state")));
    assert_eq!(config.cache.dir, Path::new("/c"));
    assert_eq!(config.admin.listen, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(config.log, Log { json: true, level: "warn,hostler=debug".to_owned(), access: true });
    assert_eq!(policy.app_config("a", None).unwrap().mode, Mode::Cached);
}

#[test]
fn a_flag_goes_before_the_environment() {
    let port = |port: u16| Some(([127, 0, 0, 1], port).into());
    let flags = Overrides { listen: port(1), log_json: Some(false), ..Overrides::default() };
    let env = Overrides { listen: port(2), log_json: Some(true), admin: port(3), ..Overrides::default() };
    let expected =
        Overrides { listen: port(1), log_json: Some(false), admin: port(3), ..Overrides::default() };
    assert_eq!(flags.over(env), expected);
}

#[test]
fn every_wrong_variable_is_a_problem() {
    let problems = variables(&[
        ("HOSTLER_LISTN", "x"),
        ("HOSTLER_ADMIN", "9090"),
        ("HOSTLER_MODE", "keept"),
        ("HOSTLER_WORKER_THREADS", "0"),
        ("HOSTLER_SOMETHING_ELSE", ""),
        ("HOSTLER_LOG_LEVEL", "inof"),
    ]);
    let expected = [
        "HOSTLER_ADMIN: not an address with a port, write for example \"127.0.0.1:8080\"",
        "HOSTLER_LISTN: unknown variable, did you mean HOSTLER_LISTEN?",
        "HOSTLER_LOG_LEVEL: unknown level inof, did you mean info?",
        "HOSTLER_MODE: unknown mode keept, did you mean kept?",
        "HOSTLER_SOMETHING_ELSE: unknown variable, the known ones are HOSTLER_ADMIN, HOSTLER_CACHE_DIR, \
         HOSTLER_CONFIG, HOSTLER_FOLDER, HOSTLER_LISTEN, HOSTLER_LOG_ACCESS, HOSTLER_LOG_FORMAT, \
         HOSTLER_LOG_LEVEL, HOSTLER_MODE, HOSTLER_STATE_DIR, HOSTLER_VERIFY_ISOLATION, HOSTLER_WORKER_THREADS",
        "HOSTLER_WORKER_THREADS: too small, the least is 1",
    ];
    assert_eq!(shown(&problems.unwrap_err()), expected);
}

#[test]
fn the_cache_is_where_the_user_keeps_caches() {
    let home = |list| variables(list).unwrap().cache_home;
    assert_eq!(home(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x".into()));
    assert_eq!(home(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]), Some("/h/.cache".into()));
    assert_eq!(home(&[("HOME", "")]), None);
}

/// Lines of files that are nearly right: keys of the vocabulary with values of every kind.
fn lines() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "[server]",
        "[defaults]",
        "[outbound]",
        "[grants.\"*\"]",
        "[grants.a]",
        "[env]",
        "[defaults.outbound]",
        "[static]",
        "[defaults.static]",
        "index",
        "cache_control",
        "max_files",
        "listen",
        "mode",
        "hosts",
        "path",
        "paths",
        "modes",
        "env",
        "max_instances",
        "min_instances",
        "weight",
        "max_lifetime",
        "backend_connections",
        "connections_per_instance",
        "memory_budget",
        "[pool]",
        "memory_limit",
        "cpu_time",
        "outbound",
        "allow",
        "worker_threads",
        "level",
        "folder",
        "x",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "-1",
        "1e3",
        "true",
        "\"auto\"",
        "\"off\"",
        "\"none\"",
        "\"75%\"",
        "\"1s\"",
        "\"64MiB\"",
        "\"pooled\"",
        "[]",
        "[\"*\"]",
        "[\"/a\", 1]",
        "{}",
        "{ a = \"b\" }",
        "{ allow = [\"https://*\"] }",
        "[\"10.0.0.0/8\", \"http://[::1]\"]",
        "1979-05-27",
        "\"\\u0000\"",
        "99999999999999999999",
        "0xff",
        "\"127.0.0.1:80\"",
        "inf",
    ]);
    let line = (key, value).prop_map(|(key, value)| match key.starts_with('[') {
        true => key.to_owned(),
        false => format!("{key} = {value}"),
    });
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_has_problems(text in prop_oneof![lines(), any::<String>()]) {
        for problem in host(&text).err().unwrap_or_default() {
            prop_assert!(!problem.to_string().contains(char::is_control), "{}", problem);
        }
        let file = (Path::new("shop.toml"), text.as_str());
        let _ = policy("").app_config("shop", Some(file));
        let _ = policy("[grants.\"*\"]\nhosts = [\"*\"]\noutbound = [\"https://*\"]").app_config(&text, Some(file));
    }

    #[test]
    fn no_app_gets_more_than_the_operator_set(text in lines()) {
        if let Ok(config) = Policy::default().app_config("shop", Some((Path::new("shop.toml"), &text))) {
            let most = Policy::default().app_config("shop", None).unwrap();
            prop_assert!(config.memory_limit <= most.memory_limit);
            prop_assert!(config.weight <= most.weight && config.max_lifetime <= most.max_lifetime);
            prop_assert!(config.min_instances <= most.min_instances);
            prop_assert!(config.cpu_time <= most.cpu_time);
            prop_assert!(config.hosts.is_empty() && config.outbound.allow.is_empty());
            prop_assert!(config.path.is_none_or(|path| path == "/shop"));
        }
    }
}

#[test]
fn a_default_app_has_the_documented_numbers() {
    let config = Policy::default().app_config("shop", None).unwrap();
    assert_eq!((config.mode, config.reset), (Mode::Pooled, Reset::Auto));
    assert_eq!(
        (config.min_instances, config.max_instances, config.idle_time),
        (1, None, Duration::from_secs(60))
    );
    assert_eq!((config.weight, config.max_lifetime), (100, Some(Duration::from_secs(3_600))));
    assert_eq!(config.code_idle_time, Some(Duration::from_secs(24 * 3_600)));
    assert_eq!((config.backend_connections, config.connections_per_instance), (None, 1));
    assert_eq!(config.most_instances(), None);
    assert_eq!((config.memory_limit, config.cpu_time), (128 << 20, Duration::from_secs(10)));
    assert_eq!((config.max_request_body, config.max_response_body), (2 << 30, 8 << 30));
    assert_eq!(config.outbound.connect_timeout, Duration::from_secs(5));
    assert!(config.outbound.allow.is_empty() && config.outbound.granted_networks.is_empty());
}
