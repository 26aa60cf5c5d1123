use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    folder
}

fn table(text: &str) -> Table {
    text.parse().unwrap()
}

#[test]
fn an_app_is_found_by_its_name_or_its_file() {
    let apps =
        folder(&[("hello.wasm", "h"), ("api/v1.wasm", "v"), ("shop/app.wasm", "s"), ("index.wasm", "i")]);
    let find = |app: &str| App::find(app, apps.path()).unwrap();
    for (app, name, root) in [
        ("hello", "hello", "/hello"),
        ("hello.wasm", "hello", "/hello"),
        ("api/v1", "api/v1", "/api/v1"),
        ("shop", "shop", "/shop"),
        ("index", "index", "/"),
    ] {
        let found = find(app);
        assert_eq!((found.name.as_str(), found.target("/").as_str()), (name, root));
        let by_file = find(found.file.to_str().unwrap());
        assert_eq!((by_file.name, by_file.bytes), (found.name, found.bytes));
    }
    let elsewhere = App::find(apps.path().join("api/v1.wasm").to_str().unwrap(), Path::new("none")).unwrap();
    assert_eq!(elsewhere.name, "v1");
}

#[test]
fn an_app_that_is_not_there_is_named_with_where_it_was_looked_for() {
    let apps = folder(&[]);
    let error = App::find("nope", apps.path()).unwrap_err().to_string();
    assert!(error.contains("nope.wasm") && error.contains("nope/app.wasm"), "{error}");
    let outside = folder(&[("x.wasm", "")]);
    let app = format!("../{}/x", outside.path().file_name().unwrap().to_str().unwrap());
    assert!(matches!(App::find(&app, apps.path()), Err(AppError::Name(..))));
}

#[test]
fn a_path_is_below_the_app() {
    let apps = folder(&[("hello.wasm", ""), ("index.wasm", "")]);
    let target = |app: &str, path: &str| App::find(app, apps.path()).unwrap().target(path);
    assert_eq!(target("hello", "/a?b=c"), "/hello/a?b=c");
    assert_eq!(target("hello", "/?b=c"), "/hello?b=c");
    assert_eq!(target("index", "/a"), "/a");
}

#[test]
fn an_apps_own_settings_hold_but_for_mode_route_and_what_the_mode_has_not() {
    let own = r#"mode = "cached"
        path = "/x"
        min_instances = 3
        memory_limit = "1MiB"
        [env]
        A = "b""#;
    let apps = folder(&[("hello.wasm", "bytes"), ("hello.toml", own)]);
    let app = App::find("hello", apps.path()).unwrap();
    let laid_out = |mode: Variant| {
        let root = tempfile::tempdir().unwrap();
        let place = app.lay_out(root.path(), mode, &Table::new()).unwrap();
        assert_eq!(std::fs::read(place.folder.join("hello.wasm")).unwrap(), b"bytes");
        read_table(&place.folder.join("hello.toml")).unwrap()
    };
    let pooled = "mode = \"pooled\"\nmin_instances = 3\nmemory_limit = \"1MiB\"\nenv.A = \"b\"";
    assert_eq!(laid_out(Variant::Pooled), table(pooled));
    assert_eq!(laid_out(Variant::Replace), table(&format!("reset = \"replace\"\n{pooled}")));
    assert_eq!(laid_out(Variant::Cold), table("mode = \"cold\"\nmemory_limit = \"1MiB\"\nenv.A = \"b\""));
    assert_eq!(app.ignored_keys(Variant::Cold), ["path", "min_instances"]);
    assert_eq!(app.ignored_keys(Variant::Pooled), ["path"]);
}

#[test]
fn the_operators_settings_hold_but_for_places_and_listeners() {
    let operator = table(
        r#"server = { listen = "0.0.0.0:80", worker_threads = 3, max_connections = 7 }
        admin = { listen = "127.0.0.1:1" }
        apps = { folder = "x" }
        cache = { dir = "y" }
        log = { access = true }
        defaults = { mode = "cold", memory_limit = "2MiB" }
        grants."hello" = { memory_limit = "3MiB" }"#,
    );
    assert_eq!(worker_threads(&operator), Some(3));
    assert_eq!(worker_threads(&table(r#"server.worker_threads = "auto""#)), None);
    let apps = folder(&[("hello.wasm", "")]);
    let root = tempfile::tempdir().unwrap();
    let app = App::find("hello", apps.path()).unwrap();
    let place = app.lay_out(root.path(), Variant::Pooled, &operator).unwrap();
    let kept = r#"apps.settle_time = "1ms"
        server.max_connections = 7
        defaults.memory_limit = "2MiB"
        grants."hello".memory_limit = "3MiB""#;
    assert_eq!(read_table(&place.config).unwrap(), table(kept));
}
