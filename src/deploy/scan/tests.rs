use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::super::name::AppName;
use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[&str]) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        for file in files {
            folder.write(file);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str) {
        fs::create_dir_all(self.path(name).parent().expect("it is in the folder")).expect("created");
        fs::write(self.path(name), name).expect("written");
    }

    fn scan(&self) -> FolderState {
        scan(self.0.path(), &Limits::default()).expect("the folder can be listed")
    }

    /// The apps, a `+` after those with a config.
    fn apps(&self) -> Vec<String> {
        let apps = self.scan().apps;
        apps.iter()
            .map(|(name, found)| format!("{name}{}", if found.config.is_some() { "+" } else { "" }))
            .collect()
    }

    fn problems(&self) -> Vec<String> {
        self.scan().problems.iter().map(ToString::to_string).collect()
    }
}

fn app(name: &str) -> AppName {
    AppName::parse(name).expect("a good name")
}

#[test]
fn apps_are_named_by_their_place() {
    let folder = Folder::new(&["hello.wasm", "index.wasm", "api/v1.wasm", "api/v2/x.wasm", "hello.toml"]);
    assert_eq!(folder.apps(), ["api/v1", "api/v2/x", "hello+", "index"]);
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn a_folder_with_an_app_in_it_is_one_app() {
    let folder =
        Folder::new(&["shop/app.wasm", "shop/app.toml", "shop/public/x.wasm", "shop/y.wasm", "shop/y.toml"]);
    assert_eq!(folder.apps(), ["shop+"]);
    assert_eq!(folder.problems(), [""; 0]);
    // Also while its app.wasm is away for a moment.
    fs::remove_file(folder.path("shop/app.wasm")).expect("removed");
    assert_eq!(folder.apps(), [""; 0]);
    assert_eq!(
        folder.problems(),
        [
            r#""shop/app.toml": it configures no app: there is no app.wasm beside it; put one there, or take this out"#
        ]
    );
}

#[test]
fn a_public_folder_without_an_app_is_shown_with_what_is_missing() {
    let folder = Folder::new(&[
        "shop/public/index.html",
        "api/public/v1.wasm",
        "api/public/notes.txt",
        "public/a.css",
    ]);
    assert_eq!(folder.apps(), ["api/public/v1"]);
    let text = "its files are not served: `public` belongs beside an app's app.wasm, and there is none";
    assert_eq!(folder.problems(), [format!("\"public\": {text}"), format!("\"shop/public\": {text}")]);
}

#[test]
fn public_is_known_by_what_it_looks_like_and_what_is_wrong_in_it_holds_nothing_up() {
    let folder = Folder::new(&["shop/app.wasm", "shop/public/a.css", "hello.wasm", "public/x.wasm"]);
    let public = |name: &str| folder.scan().apps[&app(name)].public.clone();
    assert_eq!((public("hello"), public("public/x")), (None, None));
    let before = public("shop").expect("a stamp");
    assert_eq!(public("shop").as_ref(), Some(&before));
    folder.write("shop/public/css/b.css");
    let after = public("shop").expect("a stamp");
    assert_ne!(after, before);
    symlink("/etc/passwd", folder.path("shop/public/x")).expect("linked");
    assert_ne!(public("shop"), Some(after));
    assert_eq!(folder.apps(), ["hello", "public/x", "shop"]);
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn the_entries_of_all_public_folders_are_bounded_and_shared() {
    let folder = Folder::new(&[
        "a/app.wasm",
        "b/app.wasm",
        "b/public/1",
        "b/public/2",
        "hello.wasm",
        "c/app.wasm",
        "c/public/1",
    ]);
    for number in 0..7 {
        folder.write(&format!("a/public/{number}"));
    }
    let seen = |public_entries| {
        let limits = Limits { public_entries, ..Limits::default() };
        let state = scan(folder.0.path(), &limits).expect("listed");
        assert!(
            state.apps.values().all(|found| found.public.is_some() == found.wasm.path.ends_with("app.wasm"))
        );
        let held = ["a", "b", "c"].map(|name| state.holds(&app(name)));
        (state.apps.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" "), held)
    };
    // Two for each are enough for two of them, whoever comes first.
    assert_eq!(seen(6), ("b c hello".to_owned(), [true, false, false]));
    // The first tries count, too.
    assert_eq!(seen(24), ("a b c hello".to_owned(), [false; 3]));
}

#[test]
fn at_the_top_app_is_a_name_like_any_other() {
    assert_eq!(Folder::new(&["app.wasm", "hello.wasm"]).apps(), ["app", "hello"]);
}

#[test]
fn unfinished_hidden_and_other_files_are_not_looked_at() {
    let folder = Folder::new(&[
        ".hidden.wasm",
        "hello.wasm.tmp",
        "hello.wasm.part",
        "hello.wasm~",
        ".hello.wasm.swp",
        "README",
        "notes on it.txt",
        ".git/x.wasm",
        "old~/x.wasm",
        "hello.WASM",
    ]);
    assert_eq!(folder.apps(), [""; 0]);
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn two_claims_to_one_name_are_shown_and_neither_is_chosen() {
    let folder = Folder::new(&["hello.wasm", "hello/app.wasm", "other.wasm"]);
    let state = folder.scan();
    assert_eq!(folder.apps(), ["other"]);
    assert!(state.holds(&app("hello")) && !state.holds(&app("other")));
    let expected = "hello.wasm and hello/app.wasm claim the same name; remove one of them";
    assert_eq!(folder.problems(), [format!("\"hello/app.wasm\": {expected}")]);
}

#[test]
fn names_that_are_refused_are_problems_with_a_reason() {
    let folder = Folder::new(&[
        "a b.wasm",
        "a%41.wasm",
        "a?b.wasm",
        "a#b.wasm",
        "a\\b.wasm",
        "a\nb.wasm",
        "my apps/x.wasm",
    ]);
    fs::write(folder.0.path().join(OsStr::from_bytes(b"\xff.wasm")), b"").expect("written");
    assert_eq!(folder.apps(), [""; 0]);
    assert_eq!(
        folder.problems(),
        [
            r#""a\nb.wasm": the name contains \n; rename it"#,
            r##""a b.wasm": the name contains a blank; rename it"##,
            r##""a#b.wasm": the name contains #; rename it"##,
            r#""a%41.wasm": the name contains %; rename it"#,
            r#""a?b.wasm": the name contains ?; rename it"#,
            r#""a\\b.wasm": the name contains \\; rename it"#,
            r#""my apps": the name contains a blank; rename it"#,
            r#""\xFF.wasm": the name is not valid UTF-8; rename it"#,
        ]
    );
}

#[test]
fn only_regular_files_are_apps() {
    let folder = Folder::new(&["folder.wasm/x"]);
    let made =
        std::process::Command::new("mkfifo").arg(folder.path("fifo.wasm")).status().expect("mkfifo runs");
    assert!(made.success());
    let _socket = UnixListener::bind(folder.path("socket.wasm")).expect("bound");
    symlink("/dev/null", folder.path("null.wasm")).expect("linked");
    assert_eq!(folder.apps(), [""; 0]);
    assert_eq!(
        folder.problems(),
        [
            r#""fifo.wasm": it is a FIFO, where a regular file is expected; take it out"#,
            r#""folder.wasm": it is a folder, where a regular file is expected; take it out"#,
            r#""null.wasm": a symbolic link that leads out of the apps folder; put the file itself here"#,
            r#""socket.wasm": it is a socket, where a regular file is expected; take it out"#,
        ]
    );
    assert!(folder.scan().holds(&app("fifo")));
}

#[test]
fn an_app_whose_config_cannot_be_taken_is_held() {
    let folder = Folder::new(&["hello.wasm"]);
    symlink("/etc/passwd", folder.path("hello.toml")).expect("linked");
    assert_eq!(folder.apps(), [""; 0]);
    assert!(folder.scan().holds(&app("hello")));
}

#[test]
fn links_are_followed_beneath_the_folder_only() {
    let outside = Folder::new(&["secret.wasm"]);
    let folder = Folder::new(&["store/v7.bin", "..data/one.wasm", "real/x.wasm"]);
    symlink("store/v7.bin", folder.path("hello.wasm")).expect("linked");
    symlink("..data/one.wasm", folder.path("one.wasm")).expect("linked");
    symlink("real", folder.path("alias")).expect("linked");
    symlink(outside.path("secret.wasm"), folder.path("secret.wasm")).expect("linked");
    symlink(outside.0.path(), folder.path("out")).expect("linked");
    symlink("missing.bin", folder.path("dangling.wasm")).expect("linked");
    assert_eq!(folder.apps(), ["alias/x", "hello", "one", "real/x"]);
    let state = folder.scan();
    assert!(state.apps[&app("hello")].wasm.path.ends_with("store/v7.bin"));
    assert!(state.holds(&app("secret")) && state.holds(&app("out/secret")) && state.holds(&app("dangling")));
    let leads_out = "a symbolic link that leads out of the apps folder; put the file itself here";
    assert_eq!(
        folder.problems(),
        [
            format!("\"out\": {leads_out}"),
            "\"dangling.wasm\": a symbolic link that leads nowhere; take it out, or put there what it names"
                .to_owned(),
            format!("\"secret.wasm\": {leads_out}"),
        ]
    );
}

#[test]
fn links_that_go_in_circles_end() {
    let folder = Folder::new(&["a/x.wasm", "b/y.wasm"]);
    symlink("..", folder.path("a/up")).expect("linked");
    symlink("../b", folder.path("a/b")).expect("linked");
    symlink("../a", folder.path("b/a")).expect("linked");
    assert_eq!(folder.apps(), ["a/b/y", "a/x", "b/a/x", "b/y"]);
    assert!(folder.problems().iter().all(|problem| {
        problem.ends_with("a symbolic link to itself or to a folder that it is in; take it out")
    }));
}

#[test]
fn a_folder_with_too_many_entries_costs_only_itself() {
    let folder = Folder::new(&["hello.wasm", "a/1.wasm", "a/2.wasm", "a/3.wasm", "a/4.wasm", "b/1.wasm"]);
    let limits = Limits { folder_entries: 3, ..Limits::default() };
    let state = scan(folder.0.path(), &limits).expect("listed");
    assert_eq!(state.apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["b/1", "hello"]);
    assert!(state.holds(&app("a/1")) && !state.holds(&app("b/2")));
    let limits = Limits { folder_entries: 2, ..Limits::default() };
    assert!(matches!(scan(folder.0.path(), &limits), Err(ScanError::TooMany { limit: 2, .. })));
}

#[test]
fn the_bound_on_all_entries_goes_by_depth_and_a_crowd_costs_only_its_own_folder() {
    let folder = Folder::new(&["hello.wasm", "a/1.wasm", "b/1.wasm", "z/1.wasm"]);
    for number in 1..4 {
        folder.write(&format!("a/deep/{number}.wasm"));
    }
    let seen = |entries| {
        let limits = Limits { entries, ..Limits::default() };
        let state = scan(folder.0.path(), &limits).expect("listed");
        assert!(state.holds(&app("a/deep/1")) != state.apps.contains_key("a/deep/1"));
        state.apps.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    // Four are at the top, and then two for each.
    assert_eq!(seen(10), "a/1 b/1 hello z/1");
    assert_eq!(seen(13), "a/1 a/deep/1 a/deep/2 a/deep/3 b/1 hello z/1");
    for number in 0..50 {
        folder.write(&format!("a/{number}.wasm"));
        folder.write(&format!("a/deep/more/{number}.wasm"));
    }
    let limits = Limits { entries: 20, ..Limits::default() };
    let state = scan(folder.0.path(), &limits).expect("listed");
    assert!(state.holds(&app("a/1")) && state.holds(&app("a/deep/more/1")));
    assert_eq!(state.apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["b/1", "hello", "z/1"]);
    let text = "the apps folder has more than 20 entries in all, and its top-level folder more than its share; take some out";
    assert_eq!(
        state.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("\"a\": {text}")]
    );
}

#[test]
fn a_link_out_of_ones_own_folder_takes_somebody_whose_that_is_or_the_operator() {
    // Only the superuser can make files of others: elsewhere the question can't be asked.
    let (me, tenant, other) = (rustix::process::geteuid().as_raw(), 1234, 1235);
    if me != 0 {
        return;
    }
    let folder = Folder::new(&["own/real.bin", "shop/app.wasm", "shop/app.toml", "store/v1.bin"]);
    let own = |path: &str, owner| {
        std::os::unix::fs::lchown(folder.path(path), Some(owner), None).expect("given away")
    };
    for path in ["shop", "shop/app.wasm", "shop/app.toml"] {
        own(path, other);
    }
    let link = |to: &str, at: &str, owner| {
        symlink(to, folder.path(at)).expect("linked");
        own(at, owner);
    };
    own("own/real.bin", tenant);
    link("real.bin", "own/inside.wasm", tenant);
    link("../store/v1.bin", "own/operators.wasm", me);
    link("../shop/app.wasm", "own/stolen.wasm", tenant);
    link("../shop", "own/taken", tenant);
    // By way of a link that the operator made for himself.
    link("shop", "current", me);
    link("../current/app.wasm", "own/roundabout.wasm", tenant);
    link("../store/v1.bin", "own/shared.wasm", tenant);
    assert_eq!(folder.apps(), ["current+", "own/inside", "own/operators", "shop+"]);
    let text = "a symbolic link out of its own folder to what somebody else owns; let that one's owner, the apps folder's, or \
                root make the link, or put the file itself here";
    let refused = ["own/taken", "own/roundabout.wasm", "own/shared.wasm", "own/stolen.wasm"];
    assert_eq!(folder.problems(), refused.map(|path| format!("\"{path}\": {text}")));
    // The apps folder's owner is its operator, and what is one's own may be anywhere in it.
    own("", tenant);
    assert_eq!(folder.problems(), [""; 0]);
    own("", other);
    own("store/v1.bin", tenant);
    assert_eq!(folder.problems().len(), 3);
}

#[test]
fn depth_is_bounded() {
    let folder = Folder::new(&["a/b/x.wasm", "a/b/c/y.wasm", "a/b/d/app.wasm"]);
    let limits = Limits { depth: 3, ..Limits::default() };
    let state = scan(folder.0.path(), &limits).expect("listed");
    assert_eq!(state.apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["a/b/d", "a/b/x"]);
    assert!(state.holds(&app("a/b/c/y")));
}

#[test]
fn a_missing_folder_is_an_error_and_an_empty_one_is_not() {
    let folder = Folder::new(&[]);
    assert!(folder.scan().is_empty());
    assert!(matches!(scan(&folder.path("missing"), &Limits::default()), Err(ScanError::Folder { .. })));
    folder.write("file");
    assert!(matches!(scan(&folder.path("file"), &Limits::default()), Err(ScanError::Folder { .. })));
}

#[test]
fn a_folder_that_may_not_be_listed_holds_its_apps() {
    let folder = Folder::new(&["api/v1.wasm", "hello.wasm"]);
    fs::set_permissions(folder.path("api"), fs::Permissions::from_mode(0o000)).expect("permissions set");
    // Whoever may do everything can list it all the same, and the question doesn't arise.
    if fs::read_dir(folder.path("api")).is_err() {
        let state = folder.scan();
        assert!(state.holds(&app("api/v1")) && state.holds(&app("api")) && !state.holds(&app("hello")));
    }
    fs::set_permissions(folder.path("api"), fs::Permissions::from_mode(0o755)).expect("permissions set");
    assert_eq!(folder.apps(), ["api/v1", "hello"]);
}

#[test]
fn a_change_shows_in_the_stamp() {
    let folder = Folder::new(&["hello.wasm"]);
    let stamp = || folder.scan().apps.remove(&app("hello")).map(|found| found.wasm);
    let before = stamp();
    assert_eq!(before, stamp());
    fs::write(folder.path("hello.wasm"), "longer than before").expect("written");
    let written = stamp();
    assert_ne!(before, written);
    fs::write(folder.path("new"), "longer than before").expect("written");
    fs::rename(folder.path("new"), folder.path("hello.wasm")).expect("renamed");
    assert_ne!(written, stamp());
}
