use super::*;
use crate::deploy::store::static_files::StaticFile;
use crate::prepare::Digest;

fn digests(text: &str) -> Digests {
    Digests { wasm: Digest::of(text.as_bytes()), config: None, public: None }
}

fn kept(number: u64, text: &str) -> Kept {
    Kept {
        number,
        digests: digests(text),
        size: 1,
        file: "shop.wasm".to_owned(),
        config_file: None,
        static_files: Default::default(),
        deployed: number,
        standing: Standing::Probation,
    }
}

/// With these releases, deployed one after the other; those in capitals have stood their probation.
fn record(texts: &[&str]) -> Record {
    let mut record = Record::of("shop");
    for (number, text) in (1..).zip(texts) {
        record.begin(kept(number, text), 10);
        if text.chars().all(char::is_uppercase) {
            record.prove(number);
        }
    }
    record
}

fn standings(record: &Record) -> Vec<(u64, &str)> {
    record.releases.iter().map(|kept| (kept.number, kept.standing.as_str())).collect()
}

#[test]
fn a_newer_release_ends_the_probation_of_the_one_before_without_proof() {
    let record = record(&["A", "b", "c"]);
    assert_eq!(standings(&record), [(1, "proven"), (2, "unproven"), (3, "on probation")]);
    assert_eq!(record.live, Some(3));
}

#[test]
fn the_newest_are_kept_and_always_the_live_and_the_proven_one() {
    let mut record = record(&["A", "b", "c", "d"]);
    record.begin(kept(5, "e"), 3);
    assert_eq!(standings(&record), [(1, "proven"), (4, "unproven"), (5, "on probation")]);
    record.roll_back(1, None, "by order");
    record.begin(kept(6, "f"), 2);
    assert_eq!(standings(&record), [(1, "proven"), (6, "on probation")]);
}

#[test]
fn the_same_bytes_are_one_release_with_the_newest_number() {
    let mut again = record(&["A", "b"]);
    again.begin(kept(3, "A"), 10);
    assert_eq!(standings(&again), [(2, "unproven"), (3, "on probation")], "other bytes were live in between");
    let mut restarted = record(&["a", "B"]);
    restarted.begin(kept(3, "B"), 10);
    assert_eq!(standings(&restarted), [(1, "unproven"), (3, "proven")], "it has proven itself, and was live");
}

#[test]
fn a_rollback_goes_to_the_one_before_that_was_not_rolled_back_itself() {
    let mut record = record(&["A", "B", "c"]);
    assert_eq!(record.target(None).map(|kept| kept.number), Ok(2));
    record.roll_back(2, Some(digests("c")), "by order");
    assert_eq!(standings(&record), [(1, "proven"), (2, "proven"), (3, "rolled back")]);
    assert_eq!(record.live, Some(2));
    assert_eq!(record.target(None).map(|kept| kept.number), Ok(1));
    record.begin(kept(4, "d"), 10);
    assert_eq!(record.target(None).map(|kept| kept.number), Ok(2), "not the bad one");
    assert_eq!(record.target(Some(3)).map(|kept| kept.number), Ok(3), "but by its number");
    assert_eq!(record.target(Some(4)), Err(NoTarget::Live(4)));
    assert_eq!(record.target(Some(9)), Err(NoTarget::NotKept(9)));
    record.roll_back(1, None, "by order");
    assert_eq!(record.target(None), Err(NoTarget::NoneBefore));
}

#[test]
fn what_was_live_and_what_the_file_has_are_held_back_until_other_bytes_go_live() {
    let mut record = record(&["A", "b"]);
    record.roll_back(1, Some(digests("broken")), "by order");
    let held = record.held.clone().expect("something is held");
    assert!(held.has(digests("b")) && held.has(digests("broken")) && !held.has(digests("A")));
    assert_eq!((held.from, held.why.as_str()), (Some(2), "by order"));
    record.begin(kept(3, "A"), 10);
    assert!(record.held.is_some(), "it was built anew");
    record.begin(kept(4, "d"), 10);
    assert_eq!(record.held, None);
}

#[test]
fn a_rollback_to_what_the_file_has_holds_nothing_back() {
    let mut record = record(&["A", "b"]);
    record.roll_back(1, Some(digests("b")), "by order");
    record.roll_back(2, Some(digests("b")), "by order");
    assert_eq!((record.live, &record.held), (Some(2), &None));
    assert_eq!(standings(&record), [(1, "rolled back"), (2, "unproven")]);
}

#[test]
fn after_a_crash_the_last_proven_release_is_taken_and_after_an_orderly_end_the_same() {
    let mut crashed = record(&["A", "b", "c"]);
    assert_eq!(crashed.recover(), Some((3, 1)));
    assert_eq!(crashed.live, Some(1));
    assert!(crashed.held.as_ref().is_some_and(|held| held.has(digests("c"))));
    assert_eq!(crashed.recover(), None, "once");

    let mut stopped = record(&["A", "b"]);
    stopped.stop();
    assert_eq!(stopped.recover(), None);
    assert_eq!((stopped.live, &stopped.held), (Some(2), &None));
    stopped.resume(2, &Standing::Probation);
    assert_eq!(standings(&stopped), [(1, "proven"), (2, "on probation")], "it begins anew");

    let mut first = record(&["a"]);
    assert_eq!(first.recover(), None, "there is nothing better");
    assert_eq!(first.live, Some(1));
    let mut proven = record(&["a", "B"]);
    assert_eq!(proven.recover(), None);
}

#[test]
fn when_the_live_release_is_torn_the_newest_good_one_takes_its_place() {
    let mut torn = record(&["A", "b", "c"]);
    torn.retain(|kept| kept.number != 3);
    assert_eq!(torn.live, Some(1));
    let mut unproven = record(&["a", "b", "c"]);
    unproven.retain(|kept| kept.number != 3);
    assert_eq!(unproven.live, Some(2));
    let mut held = record(&["A", "b"]);
    held.roll_back(1, Some(digests("b")), "by order");
    held.retain(|kept| kept.number != 1);
    assert_eq!(
        (held.live, &held.held),
        (None, &None),
        "what was undone is not taken, nor held back for nothing"
    );
}

#[test]
fn a_record_is_the_same_after_it_was_written_and_read() {
    let mut record = record(&["A", "b", "c"]);
    record.roll_back(1, Some(digests("x")), "by order");
    let text = serde_json::to_string(&record).expect("JSON");
    assert_eq!(serde_json::from_str::<Record>(&text).expect("the same"), record);
}

#[test]
fn of_releases_with_long_lists_of_static_files_fewer_are_kept() {
    let list = |files: usize| -> StaticFiles {
        let file =
            |n| StaticFile { path: format!("{n:0>500}"), digest: Digest::of(b""), size: 0, modified: 0 };
        (0..files).map(file).collect::<Vec<_>>().into()
    };
    let third = list(usize::try_from(LARGEST_LISTS / 3 / 1160).expect("a number"));
    let mut record = record(&["A", "b"]);
    for number in 3..=5 {
        record.begin(Kept { static_files: third.clone(), ..kept(number, &number.to_string()) }, 10);
    }
    assert_eq!(record.releases.len(), 5, "there is room for three");
    record.begin(Kept { static_files: third.clone(), ..kept(6, "f") }, 10);
    assert_eq!(standings(&record), [(1, "proven"), (4, "unproven"), (5, "unproven"), (6, "on probation")]);
    assert!(!record.is_too_large());
    let written = serde_json::to_vec(&third).expect("JSON").len() as u64;
    assert!(written <= third.bytes(), "{written} of {}", third.bytes());
    record.begin(Kept { static_files: list(40_000), ..kept(7, "g") }, 10);
    assert!(record.is_too_large() && record.live == Some(7), "not for the store to keep");
}

#[test]
fn what_a_list_takes_up_is_never_underrated() {
    let file = |path: &str| StaticFile {
        path: path.to_owned(),
        digest: Digest::of(b""),
        size: u64::MAX,
        modified: u64::MAX,
    };
    for path in ["", "a", "\"\"\\\\", "ü/ä", "\u{2028}"] {
        let list = StaticFiles::from(vec![file(path)]);
        assert!(serde_json::to_vec(&list).expect("JSON").len() as u64 <= list.bytes(), "{path}");
        let mut record = record(&["a"]);
        record.releases.iter_mut().for_each(|kept| kept.static_files = list.clone());
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("the same"), record);
    }
}
