//! One memory of an instance with its first-ready image: what the guest has written is put back, and what it has added
//! goes.

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use rustix::io::{Errno, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};

use super::image::{Image, Images};
use super::kernel::{Kernel, Pages};
use super::region::Region;
use super::renewal::Renewal;

/// Ranges of pages that are asked for at once. The kernel makes room for as many each time, so a short list comes first.
const SHORTEST: usize = 16;
const LONGEST: usize = 512;

pub struct Tracked {
    region: Arc<Region>,
    /// None for a memory without pages.
    image: Option<Arc<Image>>,
    kernel: &'static Kernel,
    renewal: Renewal,
    found: Vec<Pages>,
}

impl Tracked {
    /// Has the memory's pages come from its image; none, and nothing done, if it does not begin as the release's other
    /// instances do.
    ///
    /// # Safety
    /// Nobody uses the region or has references to its bytes meanwhile. After an error nobody may use it again.
    pub unsafe fn new(
        region: Arc<Region>,
        number: usize,
        images: &Images,
        kernel: &'static Kernel,
    ) -> Result<Option<Tracked>> {
        let found = vec![Pages::default(); SHORTEST];
        let mut tracked = Tracked { region, image: None, kernel, renewal: Renewal::default(), found };
        if tracked.region.size() == 0 {
            return Ok(Some(tracked));
        }
        // SAFETY: by the caller's promise.
        let Some(image) = images.of(number, unsafe { tracked.bytes() })? else { return Ok(None) };
        let addresses = tracked.addresses(image.bytes().len());
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: it takes the place of pages of the region, all of them within it, which hold the same bytes and which
        // nobody has a reference to.
        let mapped = unsafe {
            let base = tracked.region.base().cast();
            mmap(base, addresses.len(), access, flags, image.file(), 0)?
        };
        debug_assert_eq!(mapped.addr(), addresses.start);
        kernel.watch(addresses)?;
        tracked.image = Some(image);
        Ok(Some(tracked))
    }

    /// Bytes of the first-ready memory.
    pub fn length(&self) -> usize {
        self.image.as_ref().map_or(0, |image| image.bytes().len())
    }

    /// Puts every byte and the size back; returns how many pages that took. Wasmtime has to be told of the size.
    ///
    /// # Safety
    /// Nobody uses the region or has references to its bytes meanwhile, or relies on a larger size afterwards. After an
    /// error nobody may use it again.
    pub unsafe fn put_back(&mut self) -> Result<usize> {
        let pages = match self.image.clone() {
            // SAFETY: by the caller's promise.
            Some(image) => unsafe { self.copy_written(&image)? },
            None => 0,
        };
        if self.renewal.is_due(pages) {
            // SAFETY: by the caller's promise.
            unsafe { self.renew()? };
        }
        // SAFETY: by the caller's promise.
        unsafe { self.region.shrink(self.length())? };
        Ok(pages)
    }

    /// The size alone.
    ///
    /// # Safety
    /// As [`Tracked::put_back`].
    #[cfg(debug_assertions)]
    pub unsafe fn put_size_back(&self) -> Result<()> {
        // SAFETY: by the caller's promise.
        unsafe { self.region.shrink(self.length()) }
    }

    /// Drops the pages that are the guest's own: what is there is the image again, and it is found out anew what the guest
    /// writes.
    ///
    /// # Safety
    /// As [`Tracked::put_back`].
    pub unsafe fn renew(&mut self) -> Result<()> {
        let addresses = self.addresses(self.length());
        if addresses.is_empty() {
            return Ok(());
        }
        // SAFETY: the pages are a private mapping of the image; nobody uses them, by the caller's promise.
        unsafe { madvise(self.region.base().cast(), addresses.len(), Advice::LinuxDontNeed)? };
        self.kernel.protect(addresses)
    }

    /// Where the memory is not as it was first ready.
    ///
    /// # Safety
    /// Nobody changes the region meanwhile.
    pub unsafe fn difference(&self) -> Option<usize> {
        // SAFETY: by the caller's promise.
        let bytes = unsafe { self.bytes() };
        match &self.image {
            Some(image) => image.difference(bytes),
            None => (!bytes.is_empty()).then_some(0),
        }
    }

    unsafe fn copy_written(&mut self, image: &Image) -> Result<usize> {
        let Range { start: mut at, end } = self.addresses(image.bytes().len());
        let (start, mut ranges, mut pages) = (at, 0, 0);
        while at < end {
            let (count, next) = self.kernel.written(at..end, &mut self.found)?;
            for found in &self.found[..count] {
                let range = offsets(found, start, image.bytes().len())?;
                let from = &image.bytes()[range.clone()];
                // SAFETY: the range lies within the region's pages, which can be written. They are another mapping than
                // the image's, so the two don't overlap, and by the caller's promise nobody has references to them.
                unsafe {
                    let to = self.region.base().add(range.start);
                    ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
                }
                pages += from.len() / super::region::page_size();
            }
            ranges += count;
            if next <= at {
                // It would be asked for ever.
                return Err(Errno::IO);
            }
            at = next;
        }
        let wanted = (ranges + SHORTEST / 2).clamp(SHORTEST, LONGEST);
        self.found.resize(wanted, Pages::default());
        Ok(pages)
    }

    fn addresses(&self, length: usize) -> Range<usize> {
        let start = self.region.base().addr();
        start..start + length
    }

    unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes of the region can be read; by the caller's promise nobody writes them.
        unsafe { std::slice::from_raw_parts(self.region.base(), self.region.size()) }
    }
}

/// Offsets in a memory, of pages that the kernel found within its addresses.
fn offsets(found: &Pages, start: usize, length: usize) -> Result<Range<usize>> {
    let offset = |address: u64| usize::try_from(address).ok()?.checked_sub(start);
    match (offset(found.start), offset(found.end)) {
        (Some(from), Some(to)) if from <= to && to <= length => Ok(from..to),
        _ => Err(Errno::RANGE),
    }
}

#[cfg(test)]
mod tests;
