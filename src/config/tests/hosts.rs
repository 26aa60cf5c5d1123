//! The operator's file.

use super::*;

#[test]
fn every_problem_is_named_with_file_line_key_and_what_is_right() {
    let table = [
        (
            "\n[defaults]\nmemory_limt = 1",
            "hostler.toml:3: defaults.memory_limt: unknown key, did you mean memory_limit?",
        ),
        ("[servr]", "hostler.toml:1: servr: unknown key, did you mean server?"),
        ("[server]\nlisen = 1", "hostler.toml:2: server.lisen: unknown key, did you mean listen?"),
        (
            "[admin]\nsomething = 1",
            "hostler.toml:2: admin.something: unknown key, the known ones here are listen",
        ),
        (
            "memory_limit = 1",
            "hostler.toml:1: memory_limit: unknown key here, it belongs in [compile] or [defaults]",
        ),
        (
            "[apps]\nlisten = 1",
            "hostler.toml:2: apps.listen: unknown key here, it belongs in [admin] or [server]",
        ),
        (
            "[pool]\ngrants = 1",
            "hostler.toml:2: pool.grants: unknown key here, it belongs in the file's own table",
        ),
        (
            "[defaults]\nhosts = []",
            "hostler.toml:2: defaults.hosts: belongs in an app's own file: one value can't serve all apps",
        ),
        (
            "[defaults]\npath = \"/\"",
            "hostler.toml:2: defaults.path: belongs in an app's own file: one value can't serve all apps",
        ),
        (
            "[server]\nlisten = 8080",
            "hostler.toml:2: server.listen: expected a string such as \"127.0.0.1:8080\", found an integer",
        ),
        (
            "[server]\nlisten = \"localhost\"",
            "hostler.toml:2: server.listen: not an address with a port, write for example \"127.0.0.1:8080\"",
        ),
        (
            "[server]\nmax_connections = \"many\"",
            "hostler.toml:2: server.max_connections: expected a whole number, found a string",
        ),
        (
            "[server]\nmax_connections = 0",
            "hostler.toml:2: server.max_connections: too small, the least is 1",
        ),
        (
            "[server]\nmax_connections = 99999999999999999999999999999999999999999999",
            "hostler.toml:2: server.max_connections: too large, the most is 1000000",
        ),
        ("[server]\nmax_streams = -1", "hostler.toml:2: server.max_streams: too small, the least is 1"),
        (
            "[server]\nheader_timeout = 10",
            "hostler.toml:2: server.header_timeout: \
             a duration needs a unit, for example \"250ms\", \"30s\", \"5m\" or \"1h\"",
        ),
        (
            "[server]\nheader_timeout = true",
            "hostler.toml:2: server.header_timeout: expected a duration such as \"30s\", found true or false",
        ),
        (
            "[server]\nheader_timeout = \"2h\"",
            "hostler.toml:2: server.header_timeout: too large, the most is 1h",
        ),
        (
            "[server]\nmax_header_bytes = \"64kb\"",
            "hostler.toml:2: server.max_header_bytes: \
             unknown unit \"kb\", use B, KiB, MiB, GiB or TiB, for example \"64MiB\"",
        ),
        (
            "[server]\nmax_header_bytes = 1.5",
            "hostler.toml:2: server.max_header_bytes: expected a size such as \"64MiB\", found a fraction",
        ),
        (
            "[server]\nworker_threads = \"all\"",
            "hostler.toml:2: server.worker_threads: expected a whole number or \"auto\"",
        ),
        (
            "[server]\nbusy_poll = \"50us\"",
            "hostler.toml:2: server.busy_poll: expected true or false, found a string",
        ),
        (
            "[server]\nerror_detail = \"yes\"",
            "hostler.toml:2: server.error_detail: expected true or false, found a string",
        ),
        ("server = 1", "hostler.toml:1: server: expected a table, found an integer"),
        ("[apps]\nfolder = \"\"", "hostler.toml:2: apps.folder: an empty path, write for example \"apps\""),
        ("[cache]\ndir = \"~/.cache\"", "hostler.toml:2: cache.dir: ~ is not expanded, write the whole path"),
        ("[log]\nformat = \"jsn\"", "hostler.toml:2: log.format: unknown format jsn, did you mean json?"),
        (
            "[log]\nlevel = \"verbose\"",
            "hostler.toml:2: log.level: unknown level verbose, use info, debug, warn, error, off",
        ),
        (
            "[log]\nlevel = \"hostler[x]=info\"",
            "hostler.toml:2: log.level: not a filter, write for example \"info\" or \"info,hostler=debug\"",
        ),
        (
            "[defaults]\nmode = \"keept\"",
            "hostler.toml:2: defaults.mode: unknown mode keept, did you mean kept?",
        ),
        (
            "[defaults]\nreset = \"rewinds\"",
            "hostler.toml:2: defaults.reset: unknown reset rewinds, did you mean rewind?",
        ),
        (
            "[pool]\nmax_instances = 10\n[defaults]\nmax_instances = 20",
            "hostler.toml:4: defaults.max_instances: 20 is more than all apps together have, 10",
        ),
        (
            "[pool]\nqueue_size = 10\n[grants.\"a b\"]\nqueue_size = 20",
            "hostler.toml:4: grants.\"a b\".queue_size: 20 is more than all apps together have, 10",
        ),
        (
            "[defaults]\nmin_instances = 100\nmax_instances = 64",
            "hostler.toml:2: defaults.min_instances: 100 is more than max_instances, 64",
        ),
        (
            "[pool]\nmax_instances = \"many\"",
            "hostler.toml:2: pool.max_instances: expected a whole number or \"auto\", found a string",
        ),
        (
            "[pool]\nmemory_budget = \"0%\"",
            "hostler.toml:2: pool.memory_budget: a share is \"1%\" to \"100%\"",
        ),
        (
            "[pool]\nmemory_budget = \"101%\"",
            "hostler.toml:2: pool.memory_budget: a share is \"1%\" to \"100%\"",
        ),
        (
            "[pool]\nmemory_budget = \"1MiB\"",
            "hostler.toml:2: pool.memory_budget: too small, the least is 16MiB",
        ),
        (
            "[pool]\nmemory_budget = 0.75",
            "hostler.toml:2: pool.memory_budget: \
             expected a share or a size such as \"75%\" or \"4GiB\", found a fraction",
        ),
        (
            "[pool]\nreserve = 1",
            "hostler.toml:2: pool.reserve: unknown key, the known ones here are max_instances, \
         memory_budget, queue_size",
        ),
        (
            "[compile]\nmemory_limit = \"1MiB\"",
            "hostler.toml:2: compile.memory_limit: too small, the least is 64MiB",
        ),
        ("[compile]\ncpu_time = \"500ms\"", "hostler.toml:2: compile.cpu_time: too small, the least is 1s"),
        ("[compile]\nnice = 20", "hostler.toml:2: compile.nice: too large, the most is 19"),
        ("[compile]\njobs = 0", "hostler.toml:2: compile.jobs: too small, the least is 1"),
        (
            "[compile]\nmemory = 1",
            "hostler.toml:2: compile.memory: unknown key, the known ones here are cpu_time, jobs, \
         memory_limit, nice, time_limit",
        ),
        (
            "[grants.a]\nmin_instances = 3\nmax_instances = 2",
            "hostler.toml:2: grants.\"a\".min_instances: 3 is more than max_instances, 2",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            "hostler.toml: admin.listen: the same address as server.listen, use another port",
        ),
        (
            "[defaults.env]\nA = 1",
            "hostler.toml:2: defaults.env.A: expected a string, found an integer: put it in quotes",
        ),
        ("a\u{1b}[2Jb = 1", "hostler.toml:1: invalid unquoted key, expected letters, numbers, `-`, `_`"),
    ];
    for (text, message) in table {
        assert_eq!(host_problems(text), [message], "{text}");
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_its_order() {
    let text = "[server]\nlisten = 1\nx_y_z_w_v = 1\n[defaults]\nmode = \"keept\"\ncpu_time = \"1\"\n[log]\naccess = 1\n";
    let lines: Vec<_> =
        host(text).unwrap_err().iter().map(|problem| problem.position.unwrap().line).collect();
    assert_eq!(lines, [2, 3, 5, 6, 8]);
}

#[test]
fn text_that_is_no_toml_is_reported_where_it_breaks() {
    let problems = host("[server]\nlisten = \n[log\n").unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.position.unwrap().line).collect();
    assert_eq!(lines, [2, 3]);
    let twice = host("[log]\naccess = true\naccess = true\n").unwrap_err();
    assert_eq!(twice[0].to_string(), "hostler.toml:3: duplicate key");
}

#[test]
fn a_file_that_is_wrong_everywhere_has_an_end() {
    let text: String = (0..5_000).map(|n| format!("key_{n} = 1\n")).collect();
    let problems = host_problems(&text);
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100], "hostler.toml: 4900 further problems are not shown");
    let long = format!("{} = 1\n\"\\u001b[2J\" = 2", "k".repeat(10_000));
    let problems = host_problems(&long);
    assert!(problems[0].starts_with(&format!("hostler.toml:1: {}…: unknown key", "k".repeat(80))));
    assert!(problems[1].starts_with("hostler.toml:2: \\u{1b}[2J: unknown key"));
}

#[test]
fn values_are_read_with_their_units() {
    let (config, _) = host(
        "[server]\nlisten = \"[::1]:0\"\nheader_timeout = \"1500ms\"\nmax_header_bytes = 10_000\nworker_threads = 2\n\
         [apps]\nfolder = \"/srv/apps\"\n[cache]\nmax_size = \"512MiB\"\n[log]\nformat = \"json\"\naccess = true\n",
    )
    .unwrap();
    assert_eq!(config.server.listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.server.header_timeout, Duration::from_millis(1500));
    assert_eq!(config.server.max_header_bytes, 10_000);
    assert_eq!(config.server.worker_threads, 2);
    assert_eq!(config.apps.folder, Path::new("/srv/apps"));
    assert_eq!(config.cache.dir, Path::new("/home/u/.cache/hostler"));
    assert_eq!(config.cache.max_size, 512 << 20);
    assert!(config.log.json && config.log.access);
}

#[test]
fn paths_are_relative_to_the_files_folder() {
    let text = "[apps]\nfolder = \"a\"\n[cache]\ndir = \"../c\"\n";
    let (config, _) = parse_host(Some((Path::new("/etc/hostler/hostler.toml"), text)), &home()).unwrap();
    assert_eq!(config.apps.folder, Path::new("/etc/hostler/a"));
    assert_eq!(config.cache.dir, Path::new("/etc/hostler/../c"));
}

#[test]
fn the_pool_is_sized_by_the_machine_unless_it_has_a_number() {
    let pool = |text: &str| host(text).unwrap().0.pool;
    assert_eq!(
        pool(""),
        Pool { max_instances: None, memory_budget: MemoryBudget::Share(75), queue_size: 10_000 }
    );
    assert_eq!(pool("[pool]\nmax_instances = \"auto\"").max_instances, None);
    assert_eq!(pool("[pool]\nmax_instances = 30").max_instances, Some(30));
    assert_eq!(pool("[pool]\nmemory_budget = \"50%\"").memory_budget, MemoryBudget::Share(50));
    assert_eq!(pool("[pool]\nmemory_budget = \"2GiB\"").memory_budget, MemoryBudget::Size(2 << 30));
    assert_eq!(pool("[pool]\nmemory_budget = 20_000_000").memory_budget, MemoryBudget::Size(20_000_000));
}

#[test]
fn what_compiling_may_take_is_the_operators_to_say() {
    let compile = |text: &str| host(text).unwrap().0.compile;
    let default = compile("");
    assert_eq!((default.memory_limit, default.nice, default.jobs), (2 << 30, 19, None));
    assert_eq!(compile("[compile]\nnice = 0").nice, 0);
    let given =
        compile("[compile]\nmemory_limit = \"64MiB\"\ncpu_time = \"1s\"\ntime_limit = \"2s\"\njobs = 3");
    assert_eq!((given.memory_limit, given.jobs.map(std::num::NonZero::get)), (64 << 20, Some(3)));
    assert_eq!((given.cpu_time, given.time_limit), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(compile("[compile]\njobs = \"auto\"").jobs, None);
    let [problem] = &app_problems("", "[compile]\njobs = 1")[..] else { panic!("one problem") };
    assert!(problem.starts_with("shop.toml:1: compile: unknown key"), "{problem}");
}
