use std::fs;
use std::os::unix::fs::symlink;

use super::super::copies::Room;
use super::super::tree::{Limits, tree};
use super::*;

const LIMITS: Limits = Limits { entries: 1000, size: 1 << 20, depth: 8 };

struct Fixture {
    public: tempfile::TempDir,
    _cache: tempfile::TempDir,
    copies: Copies,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Fixture {
        let cache = tempfile::tempdir().expect("a folder");
        let copies =
            Copies::open(cache.path(), Room { memory: 1 << 20, disk: 1 << 20 }).expect("a place for copies");
        let fixture = Fixture { public: tempfile::tempdir().expect("a folder"), _cache: cache, copies };
        files.iter().for_each(|(path, text)| fixture.write(path, text));
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.public.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    fn beneath(&self) -> Beneath {
        Beneath::open(self.public.path()).expect("a folder")
    }

    fn tree(&self) -> Tree {
        tree(&self.beneath(), LIMITS).expect("nothing is wrong")
    }

    fn manifest(&self) -> Manifest {
        manifest(&self.beneath(), &self.tree(), &self.copies).expect("a manifest")
    }
}

fn text(hit: Option<Hit<'_>>) -> Option<String> {
    match hit? {
        Hit::Page(page) => Some(String::from_utf8_lossy(page.plain.blob.bytes()?).into_owned()),
        Hit::Folder => Some("a folder".to_owned()),
    }
}

#[test]
fn paths_lead_to_files_and_their_escapes_are_resolved_once() {
    let fixture = Fixture::new(&[
        ("index.html", "home"),
        ("a b.css", "space"),
        ("a+b.css", "plus"),
        ("100%.txt", "percent"),
        ("%41.txt", "an escape in a name"),
        ("ü/ä.txt", "umlaut"),
        ("docs/index.html", "docs"),
        ("css/a.css", "css"),
    ]);
    let manifest = fixture.manifest();
    let find = |path: &str| text(manifest.find(path, Some("index.html")));
    for (path, found) in [
        ("/", "home"),
        ("/index.html", "home"),
        ("/a%20b.css", "space"),
        ("/a%2Bb.css", "plus"),
        ("/a+b.css", "plus"),
        ("/100%25.txt", "percent"),
        ("/%2541.txt", "an escape in a name"),
        ("/%C3%BC/%C3%A4.txt", "umlaut"),
        ("/docs/", "docs"),
        ("/docs", "a folder"),
        ("/css/a.css", "css"),
    ] {
        assert_eq!(find(path).as_deref(), Some(found), "{path}");
    }
    for path in
        ["/css%2Fa.css", "/css", "/css/", "/index.html/", "/A.txt", "/none", "/%FF", "*", "", "/docs/x"]
    {
        assert_eq!(find(path), None, "{path}");
    }
    assert_eq!(text(manifest.find("/", None)), None, "without an index a folder is nothing");
    assert_eq!(text(manifest.find("/docs", None)), None);
}

#[test]
fn types_follow_the_names() {
    for (path, kind) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("A.PNG", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.css.br", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
    ] {
        assert_eq!(content_type(path), kind, "{path}");
    }
}

#[test]
fn compressed_files_are_versions_of_the_page_with_tags_of_their_own() {
    let fixture = Fixture::new(&[
        ("a.css", "same"),
        ("a.css.br", "same"),
        ("a.css.gz", "other"),
        ("a.css.zst", "third"),
        ("b.css", "same"),
        ("only.css.br", "no page"),
    ]);
    let manifest = fixture.manifest();
    let page = |path: &str| match manifest.find(path, None) {
        Some(Hit::Page(page)) => page,
        other => panic!("{path}: {other:?}"),
    };
    let a = page("/a.css");
    let encodings: Vec<_> = a.encoded.iter().filter_map(|version| version.encoding).collect();
    assert_eq!(encodings, Encoding::ALL);
    assert_eq!(a.plain.etag, page("/b.css").plain.etag, "equal bytes have equal tags");
    let mut tags: Vec<_> = a.versions().map(|version| version.etag.clone()).collect();
    tags.dedup();
    assert_eq!(tags.len(), 4, "versions never do: {tags:?}");
    assert!(page("/b.css").encoded.is_empty());
    assert!(manifest.find("/only.css", None).is_none());
    assert!(manifest.find("/only.css.br", None).is_some());
}

#[test]
fn the_digest_is_of_paths_and_contents_alone() {
    let fixture = Fixture::new(&[("a", "1"), ("b", "2")]);
    let first = fixture.manifest().digest();
    fixture.write("a", "1");
    assert_eq!(fixture.manifest().digest(), first, "the same bytes again");
    fixture.write("a", "2");
    let second = fixture.manifest().digest();
    assert_ne!(second, first);
    fs::rename(fixture.public.path().join("b"), fixture.public.path().join("c")).expect("renamed");
    assert_ne!(fixture.manifest().digest(), second);
}

#[test]
fn what_is_not_what_was_looked_at_is_not_taken() {
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("a"), "secret").expect("written");
    let at = |fixture: &Fixture| fixture.public.path().join("sub/a");
    let changes: [&dyn Fn(&Fixture); 5] = [
        &|fixture| fixture.write("sub/a", "2"),
        &|fixture| fs::remove_file(at(fixture)).expect("removed"),
        &|fixture| {
            fs::remove_file(at(fixture)).expect("removed");
            symlink(outside.path().join("a"), at(fixture)).expect("linked");
        },
        &|fixture| {
            fs::rename(fixture.public.path().join("sub"), fixture.public.path().join("moved"))
                .expect("renamed");
            symlink(outside.path(), fixture.public.path().join("sub")).expect("linked");
        },
        &|fixture| {
            fs::remove_file(at(fixture)).expect("removed");
            let made = std::process::Command::new("mkfifo").arg(at(fixture)).status();
            assert!(made.expect("mkfifo runs").success());
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let fixture = Fixture::new(&[("sub/a", "1")]);
        let tree = fixture.tree();
        change(&fixture);
        let error = manifest(&fixture.beneath(), &tree, &fixture.copies).map(|_| ()).expect_err("changed");
        let leads_out = matches!(error, ManifestError::Trouble(Trouble::LinkLeadsOut { .. }));
        assert!(matches!(error, ManifestError::Changed) || leads_out, "{number}: {error}");
        assert_eq!(fixture.copies.usage(), Default::default());
    }
}

#[test]
fn the_manifest_of_the_same_files_in_any_order_is_the_same() {
    let fixture = Fixture::new(&[("b.css", "2"), ("a.css", "1"), ("a.css.br", "3")]);
    let manifest = fixture.manifest();
    let copied = |(path, version): (&str, &Version)| {
        let Version { blob, modified, .. } = version;
        Copied { path: path.to_owned(), blob: blob.clone(), modified: *modified }
    };
    let mut files: Vec<Copied> = manifest.copied().map(copied).collect();
    for _ in 0..files.len() {
        files.rotate_left(1);
        let again = Manifest::of(files.clone());
        assert_eq!((again.digest(), again.size(), again.files()), (manifest.digest(), 3, 3));
        let pages = [&again, &manifest].map(|manifest| match manifest.find("/a.css", None) {
            Some(Hit::Page(page)) => page.versions().map(|version| version.etag.clone()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        });
        assert_eq!(pages[0], pages[1]);
    }
}
