use std::borrow::Cow;

use proptest::prelude::*;

use super::{BadName, BadPath, Conflict, Mount, NormalPath, Route, Router, host_name, normalize};

fn route<T>(hosts: &[&str], mount: &str, target: T) -> Route<T> {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Route { hosts, mount: Mount::parse(mount).unwrap(), target }
}

/// The target and what its guest sees.
fn ask<'r, T>(router: &'r Router<T>, host: Option<&str>, path: &str) -> Option<(&'r T, String)> {
    let path = NormalPath::parse(path).unwrap();
    router.route(host, &path).map(|(target, prefix)| (target, path.below(prefix).to_owned()))
}

#[test]
fn a_path_has_one_normal_form() {
    let table = [
        ("/", "/"),
        ("", "/"),
        ("*", "*"),
        ("/shop", "/shop"),
        ("/shop/", "/shop/"),
        ("/%73hop/%7Euser/%2d", "/shop/~user/-"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/a\\..\\b", "/a%5C..%5Cb"),
        ("/a%252e", "/a%252e"),
        ("/%25%32%65", "/%252e"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a//b", "/a/b"),
        ("//", "/"),
        ("//evil.example/x", "/evil.example/x"),
        ("/a//../b", "/b"),
        ("/...", "/..."),
        ("/.a/..b", "/.a/..b"),
        ("/a;x/..;/b", "/a;x/..;/b"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/%ff", "/%FF"),
        ("/a\"b{c}|^`<>", "/a%22b%7Bc%7D%7C%5E%60%3C%3E"),
        ("/a+b:@!$&'()*,;=", "/a+b:@!$&'()*,;="),
        ("/a%2Bb", "/a%2Bb"),
    ];
    for (raw, normal) in table {
        assert_eq!(normalize(raw).as_deref(), Ok(normal), "{raw}");
    }
}

#[test]
fn a_path_that_can_be_read_two_ways_is_refused() {
    let table = [
        ("shop", BadPath::NotAbsolute),
        ("*/", BadPath::NotAbsolute),
        ("/%", BadPath::BadEscape),
        ("/%2", BadPath::BadEscape),
        ("/%zz", BadPath::BadEscape),
        ("/%+1", BadPath::BadEscape),
        ("/%2/e", BadPath::BadEscape),
        ("/%\u{e9}", BadPath::BadEscape),
        ("/%00", BadPath::Control),
        ("/%0a", BadPath::Control),
        ("/%7F", BadPath::Control),
        ("/a\tb", BadPath::Control),
        ("/a?b", BadPath::Delimiter),
        ("/a#b", BadPath::Delimiter),
        ("/..", BadPath::AboveRoot),
        ("/a/../..", BadPath::AboveRoot),
        ("/%2e%2e/a", BadPath::AboveRoot),
        ("//..", BadPath::AboveRoot),
    ];
    for (raw, reason) in table {
        assert_eq!(normalize(raw), Err(reason), "{raw}");
    }
}

#[test]
fn a_normal_path_is_not_copied() {
    for path in ["/", "*", "/shop/v1/", "/a%2Fb", "/%C3%A9", "/.well-known/x", "/a/..b"] {
        assert!(matches!(normalize(path), Ok(Cow::Borrowed(_))), "{path}");
    }
}

#[test]
fn the_longest_mount_wins_on_whole_segments() {
    let (router, conflicts) = Router::build([
        route(&[], "/", "index"),
        route(&[], "/api", "api"),
        route(&[], "/api/v1", "v1"),
        route(&[], "/a/deep/one", "deep"),
    ]);
    assert_eq!(conflicts, []);
    let table = [
        ("/", "index", "/"),
        ("/apis", "index", "/apis"),
        ("/ap", "index", "/ap"),
        ("/api", "api", "/"),
        ("/api/", "api", "/"),
        ("/api/v1", "v1", "/"),
        ("/api/v1/x/", "v1", "/x/"),
        ("/api/v10", "api", "/v10"),
        ("/api/v1/../v2", "api", "/v2"),
        ("/api%2Fv1", "index", "/api%2Fv1"),
        ("/%61pi/%76%31/x", "v1", "/x"),
        ("/a/deep", "index", "/a/deep"),
        ("/a/deep/one/two", "deep", "/two"),
    ];
    for (path, target, seen) in table {
        assert_eq!(ask(&router, None, path), Some((&target, seen.to_owned())), "{path}");
    }
}

#[test]
fn a_closer_host_wins_and_falls_back_to_the_next_one() {
    let (router, conflicts) = Router::build([
        route(&[], "/shop", "any"),
        route(&["*.example.com"], "/", "wild"),
        route(&["*.eu.example.com"], "/", "closer"),
        route(&["www.example.com", "::1"], "/", "exact"),
    ]);
    assert_eq!(conflicts, []);
    let table = [
        (Some("www.example.com"), "/x", Some("exact")),
        (Some("WWW.Example.COM:8080"), "/x", Some("exact")),
        (Some("www.example.com."), "/x", Some("exact")),
        (Some("[::1]:8080"), "/", Some("exact")),
        (Some("www.example.com"), "/shop", Some("exact")),
        (Some("a.example.com"), "/shop", Some("wild")),
        (Some("a.b.example.com"), "/", Some("wild")),
        (Some("a.eu.example.com"), "/", Some("closer")),
        (Some("eu.example.com"), "/", Some("wild")),
        (Some("example.com"), "/", None),
        (Some("example.com"), "/shop/x", Some("any")),
        (Some("notexample.com"), "/", None),
        (None, "/shop", Some("any")),
        (None, "/", None),
        (Some(""), "/shop", Some("any")),
    ];
    for (host, path, target) in table {
        let found = ask(&router, host, path).map(|(target, _)| *target);
        assert_eq!(found, target, "{host:?} {path}");
    }
    let long = "a".repeat(70_000);
    assert_eq!(ask(&router, Some(&long), "/shop"), Some((&"any", "/".to_owned())));
}

#[test]
fn a_host_without_the_path_leaves_it_to_apps_on_any_host() {
    let (router, _) = Router::build([route(&["a.example"], "/only", 1), route(&[], "/", 2)]);
    assert_eq!(ask(&router, Some("a.example"), "/only"), Some((&1, "/".to_owned())));
    assert_eq!(ask(&router, Some("a.example"), "/other"), Some((&2, "/other".to_owned())));
}

#[test]
fn of_two_claims_the_first_stays_and_both_are_named() {
    let (router, conflicts) = Router::build([
        route(&["a.example"], "/shop", "running"),
        route(&["A.example", "b.example"], "/shop/", "newcomer"),
        route(&[], "/x", "first"),
        route(&["*"], "/x", "second"),
    ]);
    let conflict = |host: Option<&str>, mount, holder, refused| Conflict {
        host: host.map(str::to_owned),
        mount: Mount::parse(mount).unwrap(),
        holder,
        refused,
    };
    assert_eq!(conflicts, [conflict(Some("A.example"), "/shop", 0, 1), conflict(None, "/x", 2, 3)]);
    assert_eq!(ask(&router, Some("a.example"), "/shop").unwrap().0, &"running");
    assert_eq!(ask(&router, Some("b.example"), "/shop").unwrap().0, &"newcomer");
    assert_eq!(ask(&router, None, "/x").unwrap().0, &"first");
}

#[test]
fn the_same_host_twice_in_one_route_is_no_conflict() {
    let (_, conflicts) = Router::build([route(&["a.example", "A.EXAMPLE"], "/", ())]);
    assert_eq!(conflicts, []);
}

#[test]
fn the_asterisk_belongs_to_no_app() {
    let (router, _) = Router::build([route(&[], "/", ())]);
    assert_eq!(ask(&router, None, "*"), None);
}

#[test]
fn two_thousand_apps_are_told_apart() {
    let (router, conflicts) =
        Router::build((0..2_000).map(|n| route(&[], &format!("/team{}/app{n}", n % 7), n)));
    assert_eq!(conflicts, []);
    for n in 0..2_000 {
        let seen = ask(&router, Some("localhost"), &format!("/team{}/app{n}/x", n % 7));
        assert_eq!(seen, Some((&n, "/x".to_owned())));
    }
    assert_eq!(ask(&router, None, "/team0/app1"), None);
}

#[test]
fn a_name_gives_the_mount() {
    let table = [
        ("shop", "/shop"),
        ("index", "/"),
        ("api/v1", "/api/v1"),
        ("api/index", "/api"),
        ("index/index", "/index"),
        ("index/a", "/index/a"),
        ("my app", "/my%20app"),
        ("50%41", "/50%2541"),
        ("a\\b?c", "/a%5Cb%3Fc"),
        ("\u{e9}", "/%C3%A9"),
        ("v1.2", "/v1.2"),
    ];
    for (name, path) in table {
        let mount = Mount::of_app(name).unwrap();
        assert_eq!(mount.as_str(), path, "{name}");
        assert_eq!(normalize(path).as_deref(), Ok(path), "{name}: a mount is in normal form");
    }
    for name in ["", "/", "/a", "a/", "a//b", ".", "a/..", "..", "/index", "../index"] {
        assert_eq!(Mount::of_app(name), Err(BadName::Part), "{name}");
    }
    assert_eq!(Mount::of_app("a\nb"), Err(BadName::Control));
}

#[test]
fn a_mount_covers_itself_and_what_is_beneath() {
    let mount = |path| Mount::parse(path).unwrap();
    assert!(mount("/").covers(&mount("/")) && mount("/").covers(&mount("/a/b")));
    assert!(mount("/a").covers(&mount("/a/")) && mount("/a").covers(&mount("/a/b")));
    assert!(!mount("/a").covers(&mount("/ab")) && !mount("/a").covers(&mount("/")));
    assert_eq!(Mount::parse("*"), Err(BadPath::NotAbsolute));
    assert_eq!(Mount::parse(""), Err(BadPath::NotAbsolute));
}

#[test]
fn a_host_is_named_without_port_brackets_and_final_dot() {
    let table =
        [("a.b:80", "a.b"), ("a.b.", "a.b"), ("a.b.:80", "a.b"), ("[::1]:80", "::1"), ("[::1", "::1")];
    for (host, name) in table {
        assert_eq!(host_name(host), name);
    }
}

/// Paths made of the pieces that matter: separators, dots, escapes whole and torn, and anything else.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("/".to_owned()),
        2 => prop::sample::select(vec![".", "..", "%2e", "%2E%2e", "%2f", "%5C", "\\", "%252e", "%25", "%", "%00", "%zz"])
            .prop_map(str::to_owned),
        2 => "[a-c]{1,2}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn mounts() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]{1,2}", 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #[test]
    fn normalizing_twice_changes_nothing(path in paths()) {
        if let Ok(normal) = normalize(&path) {
            prop_assert!(matches!(normalize(&normal), Ok(Cow::Borrowed(again)) if again == normal), "{normal}");
        }
    }

    #[test]
    fn a_normal_path_never_leaves_the_root_and_is_plain_ascii(path in paths()) {
        if let Ok(normal) = normalize(&path) {
            prop_assert!(normal.starts_with('/'));
            prop_assert!(normal.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#".contains(&byte)));
            prop_assert!(!normal.contains("//"));
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert!(!normal.to_ascii_lowercase().contains("%2e"));
        }
    }

    #[test]
    fn decoding_the_normal_form_gives_what_was_asked_for(path in "/[a-z]{1,3}(/[ -~&&[^%?#./\\\\]]{1,6}){0,4}") {
        let normal = normalize(&path).unwrap();
        let decoded = percent_encoding::percent_decode_str(&normal).decode_utf8().unwrap();
        prop_assert_eq!(decoded.as_ref(), path.as_str());
    }

    #[test]
    fn any_text_is_normalized_or_refused(path in any::<String>(), host in any::<String>()) {
        let (router, _) = Router::build([route(&["*.a.example", "b"], "/", ())]);
        if let Ok(path) = NormalPath::parse(&path) {
            router.route(Some(&host), &path);
        }
    }

    #[test]
    fn the_tree_agrees_with_looking_at_every_mount(all in prop::collection::vec(mounts(), 0..12), path in paths()) {
        let Ok(path) = NormalPath::parse(&path) else { return Ok(()) };
        let (router, _) = Router::build(all.iter().map(|mount| route(&[], mount, mount.clone())));
        let whole = Mount::parse(path.as_str()).unwrap();
        let expected = all.iter().filter(|mount| Mount::parse(mount).unwrap().covers(&whole)).max_by_key(|mount| mount.len());
        let found = router.route(None, &path);
        prop_assert_eq!(found.map(|(mount, _)| mount), expected);
        if let Some((mount, prefix)) = found {
            let seen = path.below(prefix);
            prop_assert!(seen.starts_with('/'));
            let rejoined = format!("{}{}", mount.strip_suffix('/').unwrap_or(mount), seen);
            let with_slash = format!("{}/", path.as_str());
            prop_assert!([path.as_str(), &with_slash].contains(&rejoined.as_str()), "{rejoined}");
        }
    }

    #[test]
    fn every_name_is_found_at_its_own_mount(name in "[^/\\p{Cc}]{1,8}(/[^/\\p{Cc}]{1,8}){0,2}") {
        if let Ok(mount) = Mount::of_app(&name) {
            let (router, _) = Router::build([Route { hosts: vec![], mount: mount.clone(), target: () }]);
            let path = NormalPath::parse(mount.as_str()).unwrap();
            prop_assert_eq!(router.route(None, &path).map(|(_, prefix)| path.below(prefix)), Some("/"));
        }
    }
}
