use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

const LIMITS: Limits = Limits { entries: 100, size: 1000, depth: 4 };

struct Public(tempfile::TempDir);

impl Public {
    fn new(files: &[&str]) -> Public {
        let public = Public(tempfile::tempdir().expect("a folder"));
        for file in files {
            fs::create_dir_all(public.at(file).parent().expect("a parent")).expect("created");
            fs::write(public.at(file), file).expect("written");
        }
        public
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn tree(&self, limits: Limits) -> Result<Tree, Trouble> {
        tree(&Beneath::open(self.0.path()).expect("a folder"), limits)
    }

    fn paths(&self) -> Vec<String> {
        let tree = self.tree(LIMITS).expect("nothing is wrong");
        tree.files.into_iter().map(|file| file.path).collect()
    }

    fn trouble(&self, limits: Limits) -> String {
        self.tree(limits).expect_err("something is wrong").to_string()
    }
}

#[test]
fn files_are_found_by_their_paths_and_hidden_and_unfinished_ones_are_not() {
    let public = Public::new(&[
        "index.html",
        "css/a b.css",
        "css/deep/ü.css",
        ".htaccess",
        ".git/config",
        "x.part",
        "x.tmp",
        "x~",
        "x.swp",
        "css/.hidden",
    ]);
    assert_eq!(public.paths(), ["css/a b.css", "css/deep/ü.css", "index.html"]);
}

#[test]
fn links_inside_are_files_and_folders_like_others() {
    let public = Public::new(&["css/a.css", "..data/b.css"]);
    symlink("a.css", public.at("css/link.css")).expect("linked");
    symlink("css", public.at("styles")).expect("linked");
    symlink("..data/b.css", public.at("b.css")).expect("linked");
    assert_eq!(public.paths(), ["b.css", "css/a.css", "css/link.css", "styles/a.css", "styles/link.css"]);
}

#[test]
fn what_cannot_be_served_is_said_with_its_path() {
    let with = |make: &dyn Fn(&Public)| {
        let public = Public::new(&["index.html", "css/a.css"]);
        make(&public);
        public.trouble(LIMITS)
    };
    let link = |to: &'static str| move |public: &Public| symlink(to, public.at("css/x")).expect("linked");
    let fifo = |public: &Public| {
        let made = std::process::Command::new("mkfifo").arg(public.at("css/x")).status();
        assert!(made.expect("mkfifo runs").success());
    };
    let leads_out = "public/css/x: a symbolic link that leads out of public/; put the file itself there";
    assert_eq!(with(&link("/etc/passwd")), leads_out);
    assert_eq!(with(&link("/dev/zero")), leads_out);
    assert_eq!(with(&link("../../../../../../etc/passwd")), leads_out);
    assert_eq!(with(&link("none")), "public/css/x: a symbolic link that leads nowhere; take it out");
    assert_eq!(
        with(&link("x")),
        "public/css/x: a symbolic link to itself or to a folder that it is in; take it out"
    );
    assert_eq!(
        with(&link("..")),
        "public/css/x: a symbolic link to itself or to a folder that it is in; take it out"
    );
    assert_eq!(with(&fifo), "public/css/x: it is a FIFO, where a file or a folder is expected; take it out");
    let socket = |public: &Public| drop(UnixListener::bind(public.at("s")).expect("bound"));
    assert_eq!(with(&socket), "public/s: it is a socket, where a file or a folder is expected; take it out");
    let named = |name: &'static [u8]| {
        move |public: &Public| fs::write(public.0.path().join(OsStr::from_bytes(name)), "").expect("written")
    };
    let name = "the name is not valid UTF-8 or has a control character; rename it";
    assert_eq!(with(&named(b"a\n\x1b[31mb")), format!("public/a\\n\\u{{1b}}[31mb: {name}"));
    assert_eq!(with(&named(b"\xff")), format!("public/\u{fffd}: {name}"));
}

#[test]
fn everything_is_bounded() {
    let public = Public::new(&["a", "b", "c/d", "c/e/f"]);
    let limits = Limits { entries: 6, size: 10, depth: 3 };
    assert_eq!(public.tree(limits).map(|tree| tree.size()), Ok(10));
    assert_eq!(public.tree(Limits { entries: 5, ..limits }), Err(Trouble::TooMany { limit: 5 }));
    assert_eq!(public.tree(Limits { size: 9, ..limits }), Err(Trouble::TooLarge { limit: 9 }));
    let too_deep = Trouble::TooDeep { path: "c/e".into(), limit: 2 };
    assert_eq!(public.tree(Limits { depth: 2, ..limits }), Err(too_deep));
}

#[test]
fn a_file_of_many_gigabytes_that_takes_no_room_is_too_large_all_the_same() {
    let public = Public::new(&[]);
    let file = fs::File::create(public.at("sparse")).expect("created");
    file.set_len(10 << 30).expect("a sparse file");
    assert_eq!(public.tree(LIMITS), Err(Trouble::TooLarge { limit: 1000 }));
}

#[test]
fn links_between_folders_end_at_a_bound() {
    let public = Public::new(&["a/x", "b/y"]);
    for name in ["1", "2", "3", "4"] {
        symlink("../b", public.at(&format!("a/{name}"))).expect("linked");
        symlink("../a", public.at(&format!("b/{name}"))).expect("linked");
    }
    assert!(public.tree(LIMITS).is_err());
}

#[test]
fn a_change_shows_in_the_fingerprint_and_a_look_does_not() {
    let public = Public::new(&["a", "b/c"]);
    let fingerprint = || public.tree(LIMITS).expect("nothing is wrong").fingerprint();
    let first = fingerprint();
    fs::read(public.at("a")).expect("read");
    assert_eq!(fingerprint(), first);
    fs::write(public.at("b/c"), "other").expect("written");
    let second = fingerprint();
    assert_ne!(second, first);
    fs::rename(public.at("b/c"), public.at("b/d")).expect("renamed");
    assert_ne!(fingerprint(), second);
}
