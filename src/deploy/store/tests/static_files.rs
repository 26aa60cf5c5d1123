use std::time::Duration;

use super::*;
use crate::public::{Copied, Hit};

const CHANGED: Duration = Duration::from_secs(1_700_000_000);

/// Longer than what is written at once.
fn long(byte: u8) -> String {
    char::from(byte).to_string().repeat(300_000)
}

impl Fixture {
    /// A release with these static files, copied as from an app folder.
    fn deployed(&self, number: u64, files: &[(&str, &str)]) -> Deployed {
        let copied = |(path, text): &(&str, &str)| {
            let file = self.folder.path().join("file");
            fs::write(&file, text).expect("written");
            let open = fs::File::open(&file).expect("a file");
            let blob = self.copies.keep(&open, text.len() as u64).expect("copied");
            Copied { path: (*path).to_owned(), blob, modified: SystemTime::UNIX_EPOCH + CHANGED }
        };
        let public = Arc::new(Manifest::of(files.iter().map(copied).collect()));
        let mut deployed = deployed(number, "code");
        deployed.digests.public = Some(public.digest());
        Deployed { public: Some(public), ..deployed }
    }

    fn begin(&self, number: u64, files: &[(&str, &str)]) {
        self.store().begin("shop", &self.deployed(number, files));
    }

    fn blob(&self, text: &str) -> PathBuf {
        self.dir().join(Digest::of(text.as_bytes()).to_string())
    }

    fn tear(&self, text: &str, to: &[u8]) {
        fs::remove_file(self.blob(text)).expect("it was there");
        fs::write(self.blob(text), to).expect("written");
    }
}

fn text(stored: &Stored, path: &str) -> String {
    let public = stored.public.as_ref().expect("static files");
    let Some(Hit::Page(page)) = public.find(path, None) else { panic!("{path} is not there") };
    assert_eq!(page.plain.modified, SystemTime::UNIX_EPOCH + CHANGED);
    let blob = &page.plain.blob;
    let bytes = blob.open().and_then(|open| open.read_at(0, usize::try_from(blob.len()).unwrap_or(0)));
    String::from_utf8(bytes.expect("read").to_vec()).expect("text")
}

#[test]
fn static_files_are_kept_and_their_manifest_is_the_same_again() {
    let mut fixture = Fixture::new();
    let (before, after) = (long(b'a'), long(b'b'));
    fixture.begin(1, &[("a.css", "old"), ("a.css.br", "compressed"), ("img/b \"c\".png", &before)]);
    fixture.begin(2, &[("a.css", "new"), ("img/b \"c\".png", &after)]);
    fixture.reopen();
    let [first, second] = [1, 2].map(|number| fixture.load(number).expect("it is kept"));
    assert_eq!((text(&first, "/a.css"), text(&first, "/img/b%20%22c%22.png")), ("old".to_owned(), before));
    assert_eq!((text(&second, "/a.css"), text(&second, "/img/b%20%22c%22.png")), ("new".to_owned(), after));
    let digest = |stored: &Stored| stored.public.as_ref().map(Manifest::digest);
    assert_eq!((digest(&first), digest(&second)), (first.kept.digests.public, second.kept.digests.public));
    let public = first.public.as_ref().expect("static files");
    let Some(Hit::Page(page)) = public.find("/a.css", None) else { panic!("it is there") };
    assert_eq!(page.encoded.len(), 1);
}

#[test]
fn equal_static_files_are_kept_once_and_removed_when_no_record_names_them() {
    let mut fixture = Fixture::new();
    fixture.begin(1, &[("a", "same"), ("b", "same"), ("c", "one")]);
    fixture.begin(2, &[("a", "same"), ("c", "two")]);
    fixture.store().begin("other", &fixture.deployed(3, &[("x", "two")]));
    assert_eq!(fixture.blobs(), 2 + 3, "code, config and three contents");
    let before = fixture.store().begin("shop", &fixture.deployed(4, &[("d", "four")]));
    fixture.store().withdraw(&before, 4);
    assert!(!fixture.blob("four").exists() && fixture.load(1).is_ok());
    fixture.reopen();
    fixture.begin(5, &[("d", "five")]);
    fixture.begin(6, &[("d", "six")]);
    assert!(!fixture.blob("one").exists(), "three releases are kept");
    assert!(fixture.blob("same").exists() && fixture.load(2).is_ok());
    fixture.store().forget("shop", Some(6));
    assert!(!fixture.blob("same").exists() && fixture.blob("two").exists(), "the other one has it");
    fixture.store().forget("other", Some(3));
    assert_eq!(fixture.blobs(), 0);
}

#[test]
fn a_release_of_which_a_static_file_is_torn_is_forgotten_and_the_same_files_heal_it() {
    let content = long(b'x');
    let mut other = content.clone().into_bytes();
    *other.last_mut().expect("bytes") = b'y';
    let longer = [content.as_bytes(), b"x"].concat();
    for tear in [&b""[..], b"xx", &other, &longer] {
        let mut fixture = Fixture::new();
        fixture.store().begin("shop", &deployed(1, "one"));
        fixture.begin(2, &[("a", &content)]);
        fixture.tear(&content, tear);
        // Found at the start, if its size tells, or else when it is read.
        for reopened in [false, true] {
            if reopened {
                fixture.begin(2, &[("a", &content)]);
                fixture.tear(&content, tear);
                fixture.reopen();
            }
            let loaded = fixture.load(2);
            let is_forgotten =
                matches!(loaded, Err(LoadError::Torn { number: 2, .. } | LoadError::NotKept(2)));
            assert!(is_forgotten, "{loaded:?}");
            let record = fixture.store().record("shop").expect("a record");
            assert_eq!((record.live, record.releases.len()), (Some(1), 1), "{} bytes", tear.len());
            assert!(!fixture.blob(&content).exists());
        }
        fixture.begin(3, &[("a", &content)]);
        fixture.tear(&content, tear);
        fixture.begin(4, &[("a", &content), ("b", "more")]);
        assert_eq!(text(&fixture.load(4).expect("healed"), "/a"), content);
    }
}

#[test]
fn a_list_that_does_not_make_the_same_manifest_is_torn() {
    let fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    fixture.begin(2, &[("a", "text")]);
    fixture.store().change("shop", |record| {
        let public = Manifest::of(Vec::new());
        record.releases.iter_mut().for_each(|kept| kept.static_files = StaticFiles::of(&public));
    });
    let loaded = fixture.load(2);
    assert!(
        matches!(loaded, Err(LoadError::Torn { what: "the list of its static files", .. })),
        "{loaded:?}"
    );
    assert_eq!(fixture.store().record("shop").and_then(|record| record.live), Some(1));
}

#[test]
fn static_files_that_may_not_be_served_any_more_are_not_and_are_kept() {
    let mut fixture = Fixture::new();
    fixture.begin(1, &[("a/b/c", "deep"), ("d", "")]);
    let says = |fixture: &Fixture| fixture.load(1).map(|_| ()).expect_err("refused").to_string();
    assert!(says(&fixture).contains("public/a/b/c: folders within folders are served 2 deep"));
    fixture.limits = Some(Limits { entries: 1, size: 4, depth: 3 });
    assert!(says(&fixture).contains("static.max_files"));
    fixture.limits = Some(Limits { entries: 2, size: 3, depth: 3 });
    assert!(says(&fixture).contains("static.max_size"));
    fixture.limits = None;
    assert!(fixture.load(1).expect("it is kept").public.is_none(), "switched off");
    fixture.limits = Some(Limits { entries: 2, size: 4, depth: 3 });
    assert_eq!(text(&fixture.load(1).expect("it is kept"), "/a/b/c"), "deep");
}

#[test]
fn static_files_that_can_not_be_copied_now_are_kept() {
    let mut fixture = Fixture::new();
    let content = long(b'x');
    fixture.begin(1, &[("a", &content)]);
    fixture.copies =
        Copies::open(&fixture.folder.path().join("cache"), Room { memory: 8, disk: 8 }).expect("a place");
    let loaded = fixture.load(1);
    assert!(matches!(loaded, Err(LoadError::Copy { number: 1, .. })), "{loaded:?}");
    assert_eq!(fixture.store().record("shop").map(|record| record.releases.len()), Some(1));
}
