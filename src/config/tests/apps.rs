//! An app's own file.

use super::*;

#[test]
fn every_problem_is_named_with_file_line_key_and_what_is_right() {
    let table = [
        ("memory_limt = 1", "shop.toml:1: memory_limt: unknown key, did you mean memory_limit?"),
        ("[outbound]\nalow = []", "shop.toml:2: outbound.alow: unknown key, did you mean allow?"),
        ("mode = \"poold\"", "shop.toml:1: mode: unknown mode poold, did you mean pooled?"),
        ("mode = \"keept\"", "shop.toml:1: mode: unknown mode keept, did you mean kept?"),
        (
            "mode = \"kept\"\nreset = \"replace\"",
            "shop.toml:2: reset: mode kept keeps what the guest left, so leave this key out or use pooled",
        ),
        (
            "max_requests = 10",
            "shop.toml:1: max_requests: mode pooled resets an instance after each request, so leave this key out or use \
             kept",
        ),
        (
            "mode = \"cold\"\nmax_retained_memory = \"1MiB\"",
            "shop.toml:2: max_retained_memory: mode cold keeps no instances, so leave this key out or use pooled",
        ),
        (
            "mode = \"kept\"\nmax_concurrent = 3",
            "shop.toml:2: max_concurrent: mode kept gives an instance one request at once, so leave this key out or use \
             resident",
        ),
        (
            "mode = \"kept\"\nmax_requests = \"20..10\"",
            "shop.toml:2: max_requests: the range begins above its end, write \"10..20\"",
        ),
        (
            "mode = \"kept\"\nmax_requests = \"20-30\"",
            "shop.toml:2: max_requests: 20-30: write a whole number, a range such as \"500..1000\", or \"off\"",
        ),
        (
            "mode = \"kept\"\nmax_requests = true",
            "shop.toml:2: max_requests: expected requests, found true or false: write a whole number, a range such as \
             \"500..1000\", or \"off\"",
        ),
        ("mode = \"kept\"\nmax_requests = \"0..10\"", "shop.toml:2: max_requests: too small, the least is 1"),
        (
            "warmup = [\"/\", \"ready\"]",
            "shop.toml:1: warmup: ready: not a path as in a request, write for example \"/\" or \"/search?q=a\"",
        ),
        ("warmup = \"/\"", "shop.toml:1: warmup: expected a list, found a string"),
        ("keep_releases = 1", "shop.toml:1: keep_releases: too small, the least is 2"),
        ("mode = \"\"", "shop.toml:1: mode: unknown mode , use pooled, cached, cold, kept, resident"),
        (
            "mode = \"cold\"\nmin_instances = 1",
            "shop.toml:2: min_instances: mode cold keeps no instances, so leave this key out or use pooled",
        ),
        (
            "idle_time = \"1s\"\nmode = \"cached\"",
            "shop.toml:1: idle_time: mode cached keeps no instances, so leave this key out or use pooled",
        ),
        (
            "mode = \"cached\"\nreset = \"replace\"",
            "shop.toml:2: reset: mode cached keeps no instances, so leave this key out or use pooled",
        ),
        ("reset = \"clean\"", "shop.toml:1: reset: unknown reset clean, use auto, replace, rewind"),
        ("min_instances = 1\nmax_instances = 0", "shop.toml:2: max_instances: too small, the least is 1"),
        (
            "max_instances = \"all\"",
            "shop.toml:1: max_instances: expected a whole number or \"auto\", found a string",
        ),
        (
            "max_instances = true",
            "shop.toml:1: max_instances: expected a whole number or \"auto\", found true or false",
        ),
        ("max_instances = 18446744073709551615", "shop.toml:1: max_instances: too large, the most is 100000"),
        ("weight = 0", "shop.toml:1: weight: too small, the least is 1"),
        ("max_lifetime = \"10ms\"", "shop.toml:1: max_lifetime: too small, the least is 1s"),
        (
            "max_lifetime = \"never\"",
            "shop.toml:1: max_lifetime: not a duration, write a whole number and a unit, for example \"250ms\" or \
             \"30s\" or \"off\"",
        ),
        ("backend_connections = 0", "shop.toml:1: backend_connections: too small, the least is 1"),
        (
            "backend_connections = \"all\"",
            "shop.toml:1: backend_connections: expected a whole number or \"none\", found a string",
        ),
        (
            "connections_per_instance = 2",
            "shop.toml:1: connections_per_instance: there is no number of backend_connections to be divided by it, so \
             set that or leave this key out",
        ),
        (
            "backend_connections = 2\nconnections_per_instance = 3",
            "shop.toml:1: backend_connections: 2 are too few for one instance, which holds 3",
        ),
        (
            "mode = \"cold\"\ncode_idle_time = \"1m\"",
            "shop.toml:2: code_idle_time: mode cold keeps no code, so leave this key out or use cached",
        ),
        (
            "mode = \"cached\"\nmax_lifetime = \"1m\"",
            "shop.toml:2: max_lifetime: mode cached keeps no instances, so leave this key out or use pooled",
        ),
        ("[static]\nindx = \"a\"", "shop.toml:2: static.indx: unknown key, did you mean index?"),
        (
            "static.index = \"a/b\"",
            "shop.toml:1: static.index: expected the name of a file such as \"index.html\", or \"off\"",
        ),
        (
            "static.cache_control = \"a\\nb\"",
            "shop.toml:1: static.cache_control: expected what the header may say, such as \"public, max-age=3600\", \
             in at most 256 characters of ASCII",
        ),
        ("static.enabled = \"no\"", "shop.toml:1: static.enabled: expected true or false, found a string"),
        (
            "static.max_files = 10_001",
            "shop.toml:1: static.max_files: 10001 is more than the 10000 of [defaults]; the operator can allow it with \
             static.max_files = 10001 under [grants.\"shop\"] in hostler.toml",
        ),
        ("memory_limit = \"1KiB\"", "shop.toml:1: memory_limit: too small, the least is 64KiB"),
        ("memory_limit = \"5GiB\"", "shop.toml:1: memory_limit: too large, the most is 4GiB"),
        ("hosts = \"a\"", "shop.toml:1: hosts: expected a list, found a string"),
        (
            "hosts = [1]",
            "shop.toml:1: hosts: expected a string such as \"shop.example.com\", found an integer",
        ),
        ("hosts = [\"*\"]", "shop.toml:1: hosts: leave hosts out to answer on any host"),
        (
            "hosts = [\"a:80\"]",
            "shop.toml:1: hosts: a:80: a host is named without a port here, for example \"shop.example.com\"",
        ),
        (
            "path = \"shop\"",
            "shop.toml:1: path: shop: the path does not begin with /, write for example \"/shop\"",
        ),
        (
            "path = \"/..\"",
            "shop.toml:1: path: /..: the path leads above the root, write for example \"/shop\"",
        ),
        ("env = []", "shop.toml:1: env: expected a table, found a list"),
        (
            "[env]\n\"A=B\" = \"\"",
            "shop.toml:2: env.A=B: a variable's name has no =, and neither it nor its value has a NUL",
        ),
        (
            "[outbound]\nallow = [\n  \"api.example.com\",\n]",
            "shop.toml:3: outbound.allow: api.example.com: not an origin, write \
             for example \"https://api.example.com\" or \"http://*.internal:8080\"",
        ),
    ];
    for (text, message) in table {
        assert_eq!(app_problems("", text), [message], "{text}");
    }
}

#[test]
fn each_key_that_a_mode_refuses_is_one() {
    for mode in Mode::ALL {
        for key in mode.refuses() {
            let value = match *key {
                "min_instances" | "max_concurrent" | "max_requests" => "1",
                "max_retained_memory" => "\"1MiB\"",
                "reset" => "\"auto\"",
                "preload" => "\"init\"",
                "preload_allow" => "[\"random\"]",
                _ => "\"1m\"",
            };
            let problems = app_problems("", &format!("{key} = {value}\nmode = \"{mode}\""));
            let begin = format!("shop.toml:1: {key}: mode {mode} ");
            assert!(problems.len() == 1 && problems[0].starts_with(&begin), "{problems:?}");
        }
    }
}

#[test]
fn an_apps_keys_go_before_the_defaults() {
    let host = "[defaults]\nmode = \"cached\"\nqueue_size = 100\nmemory_limit = \"64MiB\"\nenv = { A = \"1\", B = \"2\" }\n";
    let config = app(host, "shop", "queue_size = 5\nenv = { B = \"3\", C = \"4\" }\n");
    assert_eq!((config.mode, config.queue_size, config.memory_limit), (Mode::Cached, 5, 64 << 20));
    let env: Vec<_> = config.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "3"), ("C", "4")]);
}

#[test]
fn a_mode_without_instances_has_none_whatever_the_defaults_say() {
    let host = "[defaults]\nmin_instances = 3\n";
    assert_eq!(app(host, "shop", "").min_instances, 3);
    assert_eq!(app(host, "shop", "mode = \"cached\"").min_instances, 0);
    assert_eq!(app(host, "shop", "mode = \"cold\"").min_instances, 0);
}

#[test]
fn fewer_instances_than_the_default_least_are_just_fewer() {
    let config = app("[defaults]\nmin_instances = 3\n", "shop", "max_instances = 2");
    assert_eq!((config.min_instances, config.max_instances), (2, Some(2)));
    assert_eq!(
        app_problems("[defaults]\nmin_instances = 3\n", "max_instances = 2\nmin_instances = 3"),
        ["shop.toml:2: min_instances: 3 is more than max_instances, 2"]
    );
}

#[test]
fn a_small_pool_bounds_what_nobody_chose() {
    let config = app("[pool]\nmax_instances = 8\nqueue_size = 16\n", "shop", "");
    assert_eq!((config.max_instances, config.queue_size), (Some(8), 16));
}

#[test]
fn variables_together_have_an_end() {
    let text = format!("[env]\nA = \"{}\"\n", "x".repeat(64 << 10));
    assert_eq!(
        app_problems("", &text),
        ["shop.toml:2: env: all variables together may have 65536 bytes, these have 65539"]
    );
}

#[test]
fn a_file_that_is_too_large_is_not_parsed() {
    let text = "#".repeat(LARGEST_APP_FILE + 1);
    assert_eq!(app_problems("", &text), ["shop.toml: larger than the 262144 bytes that are read"]);
}

#[test]
fn a_hostile_file_is_refused_and_harms_nobody() {
    let times = |text: &str| text.repeat((LARGEST_APP_FILE - 100) / text.len());
    let hostile = [
        format!("a = {}", times("[")),
        format!("a = {}", times("{a=")),
        format!("{}a = 1", times("a.")),
        format!("[{}a]", times("a.")),
        times("[a]\n"),
        times("[[a]]\n"),
        times("\""),
        (0..25_000).map(|n| format!("k{n}=1\n")).collect(),
        format!("hosts = [{}]", times("1,")),
        format!("hosts = [{}]", times("\"a.b\",")),
    ];
    for text in hostile {
        let problems = app_problems("", &text);
        assert!((1..=101).contains(&problems.len()), "{:.20}", text);
        assert!(problems.iter().all(|problem| problem.len() < 1_000), "{:.20}", text);
    }
}

#[test]
fn an_app_may_have_as_many_instances_as_it_is_granted_by_saying_auto() {
    let most = |host: &str, text: &str| app(host, "shop", text).max_instances;
    assert_eq!(most("", "max_instances = \"auto\""), None);
    assert_eq!(most("", "max_instances = 2000"), Some(2_000));
    let few = "[defaults]\nmax_instances = 8\n";
    assert_eq!((most(few, ""), most(few, "max_instances = \"auto\"")), (Some(8), Some(8)));
    let granted = format!("{few}[grants.shop]\nmax_instances = \"auto\"\n");
    assert_eq!((most(&granted, ""), most(&granted, "max_instances = \"auto\"")), (Some(8), None));
    assert_eq!(most(&granted, "max_instances = 500"), Some(500));
    let bounded = format!("[pool]\nmax_instances = 20\n{granted}");
    assert_eq!(most(&bounded, "max_instances = \"auto\""), Some(20));
}

#[test]
fn the_backends_connections_bound_the_instances() {
    let config = |host: &str, text: &str| app(host, "shop", text);
    let most = |host: &str, text: &str| config(host, text).most_instances();
    assert_eq!(most("", "backend_connections = 20"), Some(20));
    assert_eq!(most("", "backend_connections = 20\nconnections_per_instance = 3"), Some(6));
    assert_eq!(most("", "backend_connections = 20\nmax_instances = 7"), Some(7));
    let host = "[defaults]\nbackend_connections = 40\nconnections_per_instance = 2\nmin_instances = 3\n";
    assert_eq!(most(host, ""), Some(20));
    assert_eq!(most(host, "backend_connections = 10"), Some(5));
    assert_eq!(
        app_problems(host, "min_instances = 3\nbackend_connections = 4"),
        ["shop.toml:1: min_instances: 3 is more than the backend's connections allow, 2"]
    );
    // What a few connections leave no room for is just not made beforehand.
    assert_eq!(config(host, "backend_connections = 4").min_instances, 2);
}

#[test]
fn static_files_have_the_apps_settings_then_the_operators_then_the_defaults() {
    let files = |host: &str, own: &str| app(host, "shop", own).files;
    let built_in = files("", "");
    assert!(built_in.enabled);
    assert_eq!(
        (built_in.index.as_deref(), &built_in.cache_control),
        (Some("index.html"), &HeaderValue::from_static("no-cache"))
    );
    let limits = public::Limits { entries: 10_000, size: 256 << 20, depth: 16 };
    assert_eq!(built_in.limits, limits);
    let host =
        "[defaults.static]\nenabled = false\nindex = \"off\"\ncache_control = \"no-store\"\nmax_files = 5";
    let operators = files(host, "");
    assert_eq!((operators.enabled, operators.index.as_deref()), (false, None));
    assert_eq!(
        (&operators.cache_control, operators.limits.entries),
        (&HeaderValue::from_static("no-store"), 5)
    );
    let own =
        files(host, "[static]\nenabled = true\nindex = \"a.htm\"\ncache_control = \"public\"\nmax_depth = 2");
    assert_eq!((own.enabled, own.index.as_deref()), (true, Some("a.htm")));
    assert_eq!((&own.cache_control, own.limits.depth), (&HeaderValue::from_static("public"), 2));
    let granted = "[grants.shop.static]\nmax_files = 20_000\nmax_size = \"1GiB\"\nmax_depth = 32";
    let asked = files(granted, "[static]\nmax_files = 20_000\nmax_size = \"1GiB\"\nmax_depth = 32").limits;
    assert_eq!(asked, public::Limits { entries: 20_000, size: 1 << 30, depth: 32 });
    assert_eq!(policy(granted).largest_public(), asked);
}

#[test]
fn warmup_paths_are_as_in_a_request_and_not_too_many() {
    let config = app("", "shop", "warmup = [\"/\", \"/a/b?c=d\", \"/%20\"]");
    assert_eq!(config.warmup, ["/", "/a/b?c=d", "/%20"]);
    for path in ["", "a", "/a b", "/%zz", "http://a/", "/a#b\t"] {
        let text = format!("warmup = ['{path}']");
        assert_eq!(app_problems("", &text).len(), 1, "{path:?}");
    }
    let many = format!("warmup = [{}]", "\"/\",".repeat(33));
    assert!(app_problems("", &many)[0].contains("more than 32 paths"));
    let problems = host_problems("[defaults]\nwarmup = [\"/\"]").join("; ");
    assert!(problems.contains("belongs in an app's own file"), "{problems}");
}

#[test]
fn preload_is_off_an_init_function_or_requests() {
    use crate::prepare::preload::{Allowance, Source, Start};
    let start = |text: &str| app("", "shop", &format!("preload = {text}")).preload;
    assert_eq!(app("", "shop", "").preload, None);
    assert_eq!(start("\"off\""), None);
    assert_eq!(start("\"init\""), Some(Start::Init));
    let requests = Start::Warmup(vec!["/".to_owned(), "/a?b=c".to_owned()]);
    assert_eq!(start("{ warmup = [\"GET /\", \"GET /a?b=c\"] }"), Some(requests));
    let allowed = "preload = \"init\"\npreload_allow = [\"random\", \"frozen-clocks\", \"stdout\"]";
    let allowance = |source, frozen| Allowance { source, frozen };
    let expected = [(Source::Random, false), (Source::Clocks, true), (Source::Stdout, false)];
    let expected = expected.map(|(source, frozen)| allowance(source, frozen));
    assert_eq!(app("", "shop", allowed).preload_allow, expected);
}

#[test]
fn what_is_wrong_with_preload_is_named() {
    const EXAMPLE: &str = "write \"off\", \"init\" or for example { warmup = [\"GET /\"] }";
    let known = "random, clocks, environment, filesystem, stdin, stdout, frozen-random, frozen-clocks, frozen-environment";
    for (text, message) in [
        ("preload = \"on\"", format!("preload: unknown preload on, {EXAMPLE}")),
        ("preload = true", format!("preload: expected how to preload, found true or false: {EXAMPLE}")),
        ("preload = { warmup = [] }", format!("preload: no requests, {EXAMPLE}")),
        ("preload = {}", format!("preload: no requests, {EXAMPLE}")),
        ("preload = { warm = [\"GET /\"] }", format!("preload: unknown key warm, {EXAMPLE}")),
        ("preload = { warmup = \"GET /\" }", "preload: expected a list of requests, found a string".to_owned()),
        (
            "preload = { warmup = [\"POST /\"] }",
            "preload: POST /: not a GET request, write for example \"GET /\"".to_owned(),
        ),
        (
            "preload_allow = [\"dice\"]\npreload = \"init\"",
            format!("preload_allow: unknown source dice, use {known}"),
        ),
        (
            "preload_allow = [\"frozen-stdin\"]\npreload = \"init\"",
            format!("preload_allow: unknown source frozen-stdin, use {known}"),
        ),
        (
            "preload_allow = [\"outbound\"]\npreload = \"init\"",
            "preload_allow: outbound can't be allowed: an app is preloaded where there is no network".to_owned(),
        ),
        (
            "preload_allow = [\"random\"]",
            "preload_allow: there is no preload for which anything could be allowed, so set that or leave this key out"
                .to_owned(),
        ),
    ] {
        assert_eq!(app_problems("", text), [format!("shop.toml:1: {message}")], "{text}");
    }
    let problems = host_problems("[defaults]\npreload = \"init\"");
    assert!(problems[0].contains("belongs in an app's own file"), "{problems:?}");
}
