use super::*;
use crate::engine::rewound::region::page_size;

const PAGES: usize = 96;

/// A tracked memory and what a guest would do to it.
struct Rig {
    region: Arc<Region>,
    tracked: Tracked,
}

impl Rig {
    /// Each page begins with its number, but for the second half, which is zeros.
    fn new(images: &Images) -> Rig {
        let page = page_size();
        let region = Arc::new(Region::new(PAGES * page, 4 * PAGES * page, page).expect("a region"));
        for number in 0..PAGES / 2 {
            write(&region, number * page, number as u8);
        }
        // SAFETY: nobody else has the region.
        let tracked =
            unsafe { Tracked::new(region.clone(), 0, images, Kernel::of_process().expect("a kernel")) };
        Rig { region, tracked: tracked.expect("no error").expect("a tracked memory") }
    }

    fn write(&self, page: usize, value: u8) {
        write(&self.region, page * page_size() + 100, value);
    }

    /// SAFETY of what it calls: no reference to the region's bytes is kept anywhere in these tests.
    fn put_back(&mut self) -> usize {
        // SAFETY: see above.
        unsafe { self.tracked.put_back() }.expect("put back")
    }

    fn difference(&self) -> Option<usize> {
        // SAFETY: see above.
        unsafe { self.tracked.difference() }
    }

    /// Its pages that are in memory and its own, not the image's.
    fn own_pages(&self) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let begin = format!("{:x}-", self.region.base().addr());
        let mapping = smaps.split_once(&begin).expect("a mapping").1;
        let line = mapping.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a number");
        let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kib * 1024 / page_size()
    }
}

fn write(region: &Region, at: usize, value: u8) {
    assert!(at < region.size());
    // SAFETY: it lies within the region, to which nobody has references.
    unsafe { region.base().add(at).write(value) };
}

fn read(region: &Region, at: usize) -> u8 {
    assert!(at < region.size());
    // SAFETY: as above.
    unsafe { region.base().add(at).read() }
}

#[test]
fn just_the_pages_that_were_written_are_put_back() {
    let mut rig = Rig::new(&Images::default());
    assert_eq!((rig.put_back(), rig.difference()), (0, None));
    for page in [0, 5, 6, PAGES / 2, PAGES - 1] {
        rig.write(page, 99);
    }
    assert_eq!(rig.difference(), Some(100));
    assert_eq!((rig.put_back(), rig.difference()), (5, None));
    // They stay known as written, so they are looked at from now on; reading the others changes nothing.
    rig.write(7, 99);
    (0..PAGES).for_each(|page| assert!(read(&rig.region, page * page_size()) <= PAGES as u8));
    assert_eq!((rig.put_back(), rig.difference()), (6, None));
}

#[test]
fn every_second_page_is_found_though_that_makes_many_ranges() {
    let mut rig = Rig::new(&Images::default());
    for _ in 0..3 {
        (0..PAGES).step_by(2).for_each(|page| rig.write(page, 99));
        assert_eq!((rig.put_back(), rig.difference()), (PAGES / 2, None));
    }
}

#[test]
fn a_memory_that_grew_is_as_small_as_before_and_grows_zeros_again() {
    let mut rig = Rig::new(&Images::default());
    let (small, large) = (rig.region.size(), rig.region.size() + 70 * page_size());
    for _ in 0..3 {
        rig.region.grow(large).expect("room");
        assert_eq!(read(&rig.region, large - 1), 0);
        write(&rig.region, large - 1, 1);
        rig.put_back();
        assert_eq!((rig.region.size(), rig.difference()), (small, None));
    }
}

#[test]
fn what_was_written_is_found_when_the_kernel_has_moved_it_out() {
    let mut rig = Rig::new(&Images::default());
    (0..PAGES).for_each(|page| rig.write(page, 99));
    let base = rig.region.base().cast();
    // SAFETY: it changes where the pages are, not what they hold. Without swap it does nothing to them.
    unsafe { madvise(base, PAGES * page_size(), Advice::LinuxPageOut) }.expect("advice");
    assert_eq!((rig.put_back(), rig.difference()), (PAGES, None));
}

#[test]
fn after_a_renewal_only_new_writes_count_and_what_the_guest_had_is_given_back() {
    let mut rig = Rig::new(&Images::default());
    (0..PAGES).for_each(|page| rig.write(page, 99));
    assert_eq!(rig.own_pages(), PAGES);
    // SAFETY: nobody has references to the region's bytes.
    unsafe { rig.tracked.renew() }.expect("renewed");
    assert_eq!((rig.own_pages(), rig.difference()), (0, None));
    rig.write(3, 99);
    rig.write(40, 99);
    assert_eq!((rig.put_back(), rig.difference()), (2, None));
}

#[test]
fn one_request_that_wrote_much_is_forgotten() {
    let mut rig = Rig::new(&Images::default());
    let mut pages = (0..200).map(|request| {
        rig.write(3, 99);
        if request == 20 {
            (0..PAGES + 1).for_each(|page| rig.write(page % PAGES, 99));
        }
        rig.put_back()
    });
    assert_eq!(pages.nth(20), Some(PAGES));
    assert_eq!(pages.next(), Some(PAGES), "what was written once is put back with the rest");
    assert_eq!(pages.last(), Some(1), "for a while");
}

#[test]
fn instances_that_begin_alike_do_not_see_each_others_writes() {
    let images = Images::default();
    let (mut one, mut other) = (Rig::new(&images), Rig::new(&images));
    one.write(1, 99);
    assert_eq!((one.difference().is_some(), other.difference()), (true, None));
    assert_eq!(other.put_back(), 0);
    assert_eq!((one.put_back(), one.difference()), (1, None));
}

#[test]
fn a_memory_without_pages_stays_without() {
    let page = page_size();
    let region = Arc::new(Region::new(0, 8 * page, page).expect("a region"));
    let kernel = Kernel::of_process().expect("a kernel");
    // SAFETY: nobody else has the region, here and below.
    let tracked = unsafe { Tracked::new(region.clone(), 0, &Images::default(), kernel) }.expect("no error");
    let mut tracked = tracked.expect("tracked");
    region.grow(2 * page).expect("room");
    write(&region, page, 1);
    // SAFETY: as above.
    assert!(unsafe { tracked.difference() }.is_some());
    // SAFETY: as above.
    assert_eq!(unsafe { tracked.put_back() }, Ok(0));
    assert_eq!(region.size(), 0);
    region.grow(2 * page).expect("room");
    assert_eq!(read(&region, page), 0);
}
