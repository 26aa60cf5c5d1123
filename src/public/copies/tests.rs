use std::fs;

use super::*;

const ROOM: Room = Room { memory: 1 << 20, disk: 1 << 20 };

struct Fixture {
    files: TempDir,
    cache: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { files: TempDir::new().expect("a folder"), cache: TempDir::new().expect("a folder") }
    }

    fn copies(&self, room: Room) -> Copies {
        Copies::open(self.cache.path(), room).expect("a place for copies")
    }

    fn file(&self, bytes: &[u8]) -> (File, u64) {
        let path = self.files.path().join("file");
        fs::write(&path, bytes).expect("written");
        (File::open(path).expect("a file"), bytes.len() as u64)
    }

    fn keep(&self, copies: &Copies, bytes: &[u8]) -> Result<Arc<Blob>, CopyError> {
        let (file, size) = self.file(bytes);
        copies.keep(&file, size)
    }

    /// Entries of the directories in the cache directory.
    fn on_disk(&self) -> usize {
        let dirs = fs::read_dir(self.cache.path()).expect("listed");
        dirs.map(|dir| fs::read_dir(dir.expect("an entry").path()).expect("listed").count()).sum()
    }
}

fn content(blob: &Blob) -> Vec<u8> {
    let len = usize::try_from(blob.len()).expect("small enough");
    blob.open().expect("open").read_at(0, len).expect("read").to_vec()
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; 100_000]
}

#[test]
fn small_copies_are_in_memory_and_large_ones_on_disk() {
    let fixture = Fixture::new();
    let copies = fixture.copies(ROOM);
    let (small, big) =
        (fixture.keep(&copies, b"small").expect("kept"), fixture.keep(&copies, &large(1)).expect("kept"));
    assert_eq!(small.bytes().map(|bytes| &bytes[..]), Some(&b"small"[..]));
    assert!(big.bytes().is_none());
    assert_eq!((content(&small), content(&big)), (b"small".to_vec(), large(1)));
    assert_eq!((small.digest(), big.digest()), (Digest::of(b"small"), Digest::of(&large(1))));
    assert_eq!(copies.usage(), Usage { files: 2, memory_bytes: 5, disk_bytes: 100_000 });
}

#[test]
fn equal_contents_are_kept_once_and_go_with_their_last_owner() {
    let fixture = Fixture::new();
    let copies = fixture.copies(ROOM);
    let first = fixture.keep(&copies, &large(1)).expect("kept");
    let second = fixture.keep(&copies, &large(1)).expect("kept");
    assert!(Arc::ptr_eq(&first, &second));
    drop(first);
    copies.sweep();
    assert_eq!((content(&second), fixture.on_disk()), (large(1), 1));
    let being_read = second.open().expect("open");
    drop(second);
    copies.sweep();
    assert_eq!((copies.usage(), fixture.on_disk()), (Usage::default(), 0));
    assert_eq!(being_read.read_at(99_999, 1).expect("still there for who reads it"), &[1][..]);
    assert_eq!(content(&fixture.keep(&copies, &large(1)).expect("kept")), large(1));
}

#[test]
fn a_copy_is_what_the_file_was_whatever_becomes_of_it() {
    let fixture = Fixture::new();
    let copies = fixture.copies(ROOM);
    for bytes in [b"small".to_vec(), large(1)] {
        let blob = fixture.keep(&copies, &bytes).expect("kept");
        let open = blob.open().expect("open");
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(fixture.files.path().join("file"))
            .expect("truncated");
        assert_eq!(content(&blob), bytes);
        assert_eq!(open.read_at(0, bytes.len()).expect("read"), bytes);
        assert!(open.read_at(1, bytes.len()).is_err(), "more than there is is an error");
    }
}

#[test]
fn a_file_of_another_size_has_changed() {
    let fixture = Fixture::new();
    let copies = fixture.copies(ROOM);
    for bytes in [b"small".to_vec(), large(1)] {
        for wrong in [bytes.len() as u64 - 1, bytes.len() as u64 + 1] {
            let (file, _) = fixture.file(&bytes);
            assert!(matches!(copies.keep(&file, wrong), Err(CopyError::Changed)), "{wrong}");
        }
    }
    assert_eq!((copies.usage(), fixture.on_disk()), (Usage::default(), 0));
}

#[test]
fn memory_that_is_full_sends_small_files_to_disk_and_a_full_disk_is_an_error() {
    let fixture = Fixture::new();
    let copies = fixture.copies(Room { memory: 8, disk: 150_000 });
    let first = fixture.keep(&copies, b"12345").expect("kept");
    let second = fixture.keep(&copies, b"67890").expect("kept");
    assert!(first.bytes().is_some() && second.bytes().is_none());
    assert_eq!(content(&second), b"67890");
    let big = fixture.keep(&copies, &large(1)).expect("kept");
    let message = fixture.keep(&copies, &large(2)).map_err(|error| error.to_string());
    assert!(message.is_err_and(|message| message.contains("more than 150000 bytes of disk")));
    assert_eq!(copies.usage().disk_bytes, 100_005);
    drop((big, first));
    fixture.keep(&copies, &large(2)).expect("there is room again");
}

#[test]
fn what_a_host_that_was_killed_has_left_is_removed_and_a_living_ones_is_not() {
    let fixture = Fixture::new();
    let living = fixture.copies(ROOM);
    let blob = fixture.keep(&living, &large(1)).expect("kept");
    let left = fixture.cache.path().join("public-left");
    fs::create_dir(&left).expect("created");
    fs::write(left.join("0"), "x").expect("written");
    fs::write(fixture.cache.path().join("an artifact"), "x").expect("written");
    let other = fixture.copies(ROOM);
    assert!(!left.exists() && fixture.cache.path().join("an artifact").exists());
    assert_eq!(content(&blob), large(1));
    drop((living, other, blob));
    assert_eq!(
        fs::read_dir(fixture.cache.path()).expect("listed").count(),
        1,
        "an orderly end leaves nothing"
    );
}

#[test]
fn a_copy_that_somebody_has_cleaned_up_is_made_anew() {
    let fixture = Fixture::new();
    let copies = fixture.copies(ROOM);
    let first = fixture.keep(&copies, &large(1)).expect("kept");
    for entry in fs::read_dir(fixture.cache.path()).expect("listed") {
        fs::remove_dir_all(entry.expect("an entry").path()).expect("removed");
    }
    assert!(first.open().is_err());
    let second = fixture.keep(&copies, &large(1)).expect("kept");
    assert_eq!(content(&second), large(1));
    drop(first);
    assert!(Arc::ptr_eq(&second, &fixture.keep(&copies, &large(1)).expect("kept")), "the later one is found");
    copies.sweep();
    assert_eq!(copies.usage(), Usage { files: 1, memory_bytes: 0, disk_bytes: 100_000 });
}
