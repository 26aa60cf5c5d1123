//! Can this machine do it? The real cycle on a small memory, once in a process.

use std::sync::{Arc, OnceLock};

use super::image::Images;
use super::kernel::Kernel;
use super::region::{Region, page_size};
use super::tracked::Tracked;

/// Whether instances can be rewound on this machine, or why they can't: tried once.
pub fn can_rewind() -> Result<(), &'static str> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    TRIED.get_or_init(attempt).as_ref().copied().map_err(String::as_str)
}

const PAGES: usize = 8;
const GROWN: usize = 2;

fn attempt() -> Result<(), String> {
    let kernel = Kernel::of_process()?;
    let failed = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    let page = page_size();
    let region = Region::new(PAGES * page, 2 * PAGES * page, page).map_err(failed("no address space"))?;
    let region = Arc::new(region);
    let at = |number: usize| region.base().wrapping_add(number * page);
    // SAFETY: the bytes lie within the region, which nobody else has, here and in all blocks below.
    unsafe { at(1).write(1) };
    // SAFETY: nobody uses the region meanwhile, and not after an error.
    let tracked = unsafe { Tracked::new(region.clone(), 0, &Images::default(), kernel) };
    let tracked = tracked.map_err(failed("a memory's pages can't be watched"))?;
    let mut tracked = tracked.ok_or("a memory is not as its own image")?;
    for round in 0..3 {
        region.grow((PAGES + GROWN) * page).map_err(failed("a memory can't grow"))?;
        // SAFETY: as above. Page 1 has other bytes in its image, page 3 has none there, the last was just added.
        unsafe {
            at(1).write(2);
            at(3).write(3);
            at(PAGES + GROWN - 1).write(4);
        }
        // SAFETY: no reference to the region's bytes is left.
        let pages = unsafe { tracked.put_back() }.map_err(failed("a memory can't be put back"))?;
        if !(2..=PAGES).contains(&pages) {
            return Err(format!("{pages} pages were found to be written in round {round}, which wrote 2"));
        }
        // SAFETY: nobody changes the region meanwhile.
        if let Some(byte) = unsafe { tracked.difference() } {
            return Err(format!("byte {byte} of a memory was not put back in round {round}"));
        }
        if round == 1 {
            // SAFETY: as for `put_back`.
            unsafe { tracked.renew() }.map_err(failed("a memory's pages can't be watched anew"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it is red there is no rewind, and the tests of it mean nothing.
    #[test]
    fn this_machine_can_rewind() {
        assert_eq!(can_rewind(), Ok(()));
    }
}
