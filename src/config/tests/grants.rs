//! What tenants may have.

use super::*;

#[test]
fn more_than_granted_names_the_grant_and_what_the_operator_would_write() {
    let grant = "[grants.\"shop\"]\nmemory_limit = \"256MiB\"\nhosts = [\"*.shop.example\"]\npaths = [\"/store\"]\n\
                 outbound = [\"https://*.example.com\"]\nmodes = [\"cached\", \"cold\"]\n";
    let table = [
        (
            "",
            "memory_limit = \"256MiB\"",
            "shop.toml:1: memory_limit: 256MiB is more than the 128MiB of [defaults]; the operator can allow it \
             with memory_limit = \"256MiB\" under [grants.\"shop\"] in hostler.toml",
        ),
        (
            grant,
            "mode = \"cold\"\nmemory_limit = \"512MiB\"",
            "shop.toml:2: memory_limit: 512MiB is more than the 256MiB of [grants.\"shop\"]; the operator can allow it \
             with memory_limit = \"512MiB\" under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "[grants.\"*\"]\nqueue_size = 300\n",
            "queue_size = 301",
            "shop.toml:1: queue_size: 301 is more than the 300 of [grants.\"*\"]; the operator can allow it \
             with queue_size = 301 under [grants.\"*\"] in hostler.toml",
        ),
        (
            "",
            "cpu_time = \"1m\"",
            "shop.toml:1: cpu_time: 1m is more than the 10s of [defaults]; the operator can allow it \
             with cpu_time = \"1m\" under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "",
            "[outbound]\nmax_concurrent = 65",
            "shop.toml:2: outbound.max_concurrent: 65 is more than the 64 of [defaults]; the operator can allow it \
             with outbound.max_concurrent = 65 under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "[pool]\nmax_instances = 1000\n",
            "max_instances = 2000",
            "shop.toml:1: max_instances: 2000 is more than all apps together have, 1000",
        ),
        (
            "[grants.shop]\nweight = 300\n",
            "weight = 301",
            "shop.toml:1: weight: 301 is more than the 300 of [grants.\"shop\"]; the operator can allow it \
             with weight = 301 under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "",
            "max_lifetime = \"off\"",
            "shop.toml:1: max_lifetime: off is more than the 1h of [defaults]; the operator can allow it \
             with max_lifetime = \"off\" under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "[defaults]\nbackend_connections = 20\nconnections_per_instance = 4\n",
            "backend_connections = \"none\"",
            "shop.toml:1: backend_connections: none is more than the 20 of [defaults]; the operator can allow it \
             with backend_connections = \"none\" under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "[defaults]\nbackend_connections = 20\nconnections_per_instance = 4\n",
            "connections_per_instance = 3",
            "shop.toml:1: connections_per_instance: 3 is less than the 4 of [defaults]; the operator can allow it \
             with connections_per_instance = 3 under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "",
            "hosts = [\"a.example\"]",
            "shop.toml:1: hosts: a.example is not granted; the operator can allow it \
             with hosts = [\"a.example\"] under [grants.\"shop\"] in hostler.toml",
        ),
        (
            grant,
            "mode = \"cold\"\nhosts = [\"a.shop.example\", \"shop.example\"]",
            "shop.toml:2: hosts: shop.example is not granted; the operator can allow it \
             with hosts = [\"shop.example\"] under [grants.\"shop\"] in hostler.toml",
        ),
        (
            grant,
            "mode = \"cold\"\npath = \"/stores\"",
            "shop.toml:2: path: /stores is not granted; the operator can allow it \
             with paths = [\"/stores\"] under [grants.\"shop\"] in hostler.toml",
        ),
        (
            "",
            "[outbound]\nallow = [\"https://api.example.com\"]",
            "shop.toml:2: outbound.allow: https://api.example.com is not granted; the operator can allow it \
             with outbound = [\"https://api.example.com\"] under [grants.\"shop\"] in hostler.toml",
        ),
        (grant, "", "shop.toml: mode: pooled is not among the modes of [grants.\"shop\"]: cached, cold"),
        (
            grant,
            "mode = \"pooled\"",
            "shop.toml:1: mode: pooled is not among the modes of [grants.\"shop\"]: cached, cold",
        ),
    ];
    for (host, text, message) in table {
        assert_eq!(app_problems(host, text), [message], "{host}{text}");
    }
}

#[test]
fn what_is_granted_may_be_asked_for() {
    let host = "[grants.\"shop\"]\nmemory_limit = \"256MiB\"\nhosts = [\"*.shop.example\"]\npaths = [\"/store\"]\n\
                modes = [\"cached\"]\noutbound = [\"https://*.example.com\", \"10.0.0.0/8\", \"http://127.0.0.1:9000\"]\n";
    let text = "mode = \"cached\"\nmemory_limit = \"256MiB\"\nhosts = [\"A.Shop.Example\", \"*.b.shop.example\"]\n\
                path = \"/store/%76%31/\"\n\
                [outbound]\nallow = [\"https://api.example.com\", \"http://10.1.2.3:8080\", \"http://127.0.0.1:9000\"]\n";
    let config = app(host, "shop", text);
    assert_eq!(config.memory_limit, 256 << 20);
    assert_eq!(config.hosts, ["a.shop.example", "*.b.shop.example"]);
    assert_eq!(config.path.as_deref(), Some("/store/v1"));
    assert_eq!(config.outbound.allow.len(), 3);
    let granted = |address: &str| config.outbound.address_granted(address.parse().unwrap());
    assert!(granted("10.200.0.1:1") && granted("127.0.0.1:9000") && granted("[::ffff:10.0.0.1]:1"));
    assert!(!granted("127.0.0.1:9001") && !granted("127.0.0.2:9000") && !granted("169.254.169.254:80"));
}

#[test]
fn weight_and_lifetime_can_be_granted_and_the_apps_own_connections_need_no_grant() {
    let host = "[grants.shop]\nweight = 300\nmax_lifetime = \"off\"\n";
    let config = app(host, "shop", "weight = 300\nmax_lifetime = \"off\"");
    assert_eq!((config.weight, config.max_lifetime), (300, None));
    let modest = app(host, "other", "weight = 10\nmax_lifetime = \"5m\"");
    assert_eq!((modest.weight, modest.max_lifetime), (10, Some(Duration::from_secs(300))));
    // It asks for less by saying that each instance takes more.
    let own = app("[defaults]\nbackend_connections = 20\n", "shop", "connections_per_instance = 5");
    assert_eq!(own.most_instances(), Some(4));
    let host = "[defaults]\nbackend_connections = 20\nconnections_per_instance = 4\n\
                [grants.shop]\nconnections_per_instance = 2\n";
    assert_eq!(app(host, "shop", "connections_per_instance = 2").most_instances(), Some(10));
    assert_eq!(app(host, "shop", "").most_instances(), Some(5));
}

#[test]
fn a_grant_may_also_lower_what_the_defaults_give() {
    let config = app("[grants.\"shop\"]\nmemory_limit = \"64MiB\"\nmax_instances = 2\n", "shop", "");
    assert_eq!((config.memory_limit, config.max_instances), (64 << 20, Some(2)));
}

#[test]
fn the_longest_name_counts_and_it_alone() {
    let host = "[grants.\"*\"]\nqueue_size = 1301\n[grants.\"api\"]\nqueue_size = 1302\n[grants.\"api/v1\"]\nlog_lines = 2000\n\
                [grants.\"api/v1/x\"]\nqueue_size = 1303\n";
    let most = |name: &str| {
        let policy = policy(host);
        let fits = |size: &u32| {
            let text = format!("queue_size = {size}");
            policy.app_config(name, Some((Path::new("a.toml"), &text))).is_ok()
        };
        (950..1310).rev().find(fits).unwrap()
    };
    let table = [
        ("shop", 1301),
        ("apis", 1301),
        ("api", 1302),
        ("api/v2", 1302),
        ("api/v2/x", 1302),
        ("api/v1", 1000),
    ];
    for (name, size) in
        table.into_iter().chain([("api/v1/y", 1000), ("api/v1/x", 1303), ("api/v1/x/y", 1303)])
    {
        assert_eq!(most(name), size, "{name}");
    }
}

#[test]
fn an_app_may_claim_the_path_of_its_name_and_no_other_one() {
    for (name, path) in
        [("shop", "/shop"), ("shop", "/shop/"), ("index", "/"), ("api/index", "/api"), ("a b", "/a%20b")]
    {
        app("", name, &format!("path = \"{path}\""));
    }
    for (name, path) in [("shop", "/"), ("shop", "/shop/v1"), ("api/v1", "/api"), ("api/index", "/api/index")]
    {
        let text = format!("path = \"{path}\"");
        assert!(policy("").app_config(name, Some((Path::new("a.toml"), &text))).is_err(), "{name} {path}");
    }
}

#[test]
fn the_operators_default_destinations_need_no_grant() {
    let host = "[defaults.outbound]\nallow = [\"https://api.example.com\", \"http://10.0.0.1\"]\n\
                [grants.closed]\noutbound = []\n";
    let config = app(host, "shop", "");
    assert_eq!(config.outbound.allow.len(), 2);
    assert!(config.outbound.address_granted("10.0.0.1:80".parse().unwrap()));
    assert_eq!(app(host, "shop", "[outbound]\nallow = [\"http://10.0.0.1\"]").outbound.allow.len(), 1);
    assert_eq!(app(host, "closed", "").outbound.allow, []);
}

#[test]
fn a_wrong_grant_is_the_operators_problem() {
    let table = [
        (
            "[grants.\"api/\"]",
            "hostler.toml:1: grants.\"api/\": not the name of an app or a folder, write for example [grants.\"api/v1\"]",
        ),
        ("[grants]\nshop = 1", "hostler.toml:2: grants.\"shop\": expected a table, found an integer"),
        (
            "[grants.shop]\nmemory_limt = 1",
            "hostler.toml:2: grants.\"shop\".memory_limt: unknown key, did you mean memory_limit?",
        ),
        (
            "[grants.shop]\nmodes = [\"keept\"]",
            "hostler.toml:2: grants.\"shop\".modes: \
             unknown mode keept, did you mean kept?",
        ),
        (
            "[grants.shop]\npaths = [\"store\"]",
            "hostler.toml:2: grants.\"shop\".paths: \
             store: the path does not begin with /, write for example \"/shop\"",
        ),
        (
            "[grants.shop]\noutbound = [\"10.1.0.0/8\"]",
            "hostler.toml:2: grants.\"shop\".outbound: 10.1.0.0/8: this network is written 10.0.0.0/8",
        ),
        (
            "[grants.shop.outbound]\nallow = [\"api\"]",
            "hostler.toml:2: grants.\"shop\".outbound.allow: api: not a destination, \
             write for example \"https://api.example.com\" or \"10.0.0.0/8\"",
        ),
        (
            "[grants.shop]\nmode = \"cold\"",
            "hostler.toml:2: grants.\"shop\".mode: unknown key, did you mean modes?",
        ),
    ];
    for (text, message) in table {
        assert_eq!(host_problems(text), [message], "{text}");
    }
}

#[test]
fn where_the_operator_is_not_known_only_what_is_wrong_by_itself_is_a_problem() {
    let problems = |text: &str| {
        let config = Policy::of_any_operator("shop", Some((Path::new("shop.toml"), text)));
        config.map_or_else(|problems| shown(&problems), |_| Vec::new())
    };
    let granted = "memory_limit = \"4GiB\"\nhosts = [\"a.example.com\"]\npath = \"/x\"\nqueue_size = 20_000\n\
                   max_requests = 3\nconnections_per_instance = 2\n[outbound]\nallow = [\"https://a.example.com\"]";
    assert_eq!(problems(granted), [""; 0]);
    assert!(app_problems("", granted).len() > 5);
    for (text, message) in [
        ("memory_limt = 1", "shop.toml:1: memory_limt: unknown key, did you mean memory_limit?"),
        ("cpu_time = \"1\"", "shop.toml:1: cpu_time: a duration needs a unit"),
        ("mode = \"pooled\"\nmax_requests = 3", "shop.toml:2: max_requests: mode pooled resets an instance"),
        (
            "max_instances = 2\nmin_instances = 3",
            "shop.toml:2: min_instances: 3 is more than max_instances, 2",
        ),
    ] {
        let problems = problems(text);
        assert!(problems.len() == 1 && problems[0].starts_with(message), "no {message:?} in {problems:?}");
    }
}
