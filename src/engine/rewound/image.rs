//! What the memories of an instance held when it was first ready: kept in memory files, from which the pages that a guest
//! has not written come, and with which those are overwritten that it has.
//!
//! Nearly always all instances of a release begin with the same bytes, and so they share the images, with the pages
//! that none of them writes. One that begins otherwise is not put back: images of its own would be memory and descriptors
//! that nobody counts, as many as there are instances.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{Errno, Result, pwrite};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::region::page_size;
use crate::pieces::piece;

/// Bytes that are looked at in one go, to leave out those that are zeros.
const CHUNK: usize = 64 << 10;

/// The first-ready bytes of one memory; never empty.
pub struct Image {
    file: OwnedFd,
    base: usize,
    length: usize,
    /// Where there is anything but zeros, in rising order. The file has nothing elsewhere.
    filled: Vec<Range<usize>>,
}

impl Image {
    /// Keeps these bytes, of which there are some, in whole pages.
    pub fn of(bytes: &[u8]) -> Result<Image> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(page_size()) {
            return Err(Errno::INVAL);
        }
        let file = memory_file()?;
        ftruncate(&file, bytes.len() as u64)?;
        let filled = filled(bytes);
        for range in &filled {
            write_all(&file, &bytes[range.clone()], range.start as u64)?;
        }
        // From here on it is what it is: nobody can write it, or cut it off under who has it mapped.
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses replaces none of ours. The file is sealed, so the
        // bytes neither change nor end.
        let base =
            unsafe { mmap(ptr::null_mut(), bytes.len(), ProtFlags::READ, MapFlags::SHARED, &file, 0)? };
        Ok(Image { file, base: base.addr(), length: bytes.len(), filled })
    }

    pub fn file(&self) -> impl AsFd {
        self.file.as_fd()
    }

    pub fn bytes(&self) -> &[u8] {
        let base: *const u8 = ptr::with_exposed_provenance(self.base);
        // SAFETY: the mapping of `of`, which lives as long as this and never changes.
        unsafe { std::slice::from_raw_parts(base, self.length) }
    }

    /// The first byte that differs, if the lengths don't. Where the image has only zeros it is not touched: that would
    /// fill it with pages.
    pub fn difference(&self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() != self.length {
            return Some(self.length.min(bytes.len()));
        }
        let mut at = 0;
        for range in &self.filled {
            if let Some(offset) = not_zero(&bytes[at..range.start]) {
                return Some(at + offset);
            }
            let (ours, theirs) = (&self.bytes()[range.clone()], &bytes[range.clone()]);
            if ours != theirs {
                let same = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
                return Some(range.start + same);
            }
            at = range.end;
        }
        not_zero(&bytes[at..]).map(|offset| at + offset)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping of `of`; `bytes` is borrowed from this, so nobody has them.
        let unmapped = unsafe { munmap(ptr::with_exposed_provenance_mut(self.base), self.length) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}

/// The images that the instances of a release share: of its first instance, one for each memory.
#[derive(Default)]
pub struct Images(Mutex<Vec<Option<Arc<Image>>>>);

impl Images {
    /// The image of these bytes, which memory number `at` of an instance begins with; none if the first instance began with
    /// others.
    pub fn of(&self, at: usize, bytes: &[u8]) -> Result<Option<Arc<Image>>> {
        let known = self.0.lock().get(at).cloned().flatten();
        let image = match known {
            Some(image) => image,
            None => self.keep(at, Arc::new(Image::of(bytes)?)),
        };
        Ok(image.difference(bytes).is_none().then_some(image))
    }

    /// The one that is kept: that of another instance, if two were first.
    fn keep(&self, at: usize, image: Arc<Image>) -> Arc<Image> {
        let mut images = self.0.lock();
        if images.len() <= at {
            images.resize(at + 1, None);
        }
        images[at].get_or_insert(image).clone()
    }
}

fn memory_file() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels can be told to give no others than these; those before 6.3 don't know them.
    match memfd_create("hostler-image", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("hostler-image", flags),
        made => made,
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, piece(bytes), at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where there is anything but zeros, by chunks; neighbours are one.
fn filled(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut filled: Vec<Range<usize>> = Vec::new();
    for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
        if not_zero(chunk).is_none() {
            continue;
        }
        let range = number * CHUNK..number * CHUNK + chunk.len();
        match filled.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => filled.push(range),
        }
    }
    filled
}

fn not_zero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 256] = [0; 256];
    let chunks = bytes.chunks(ZEROS.len()).enumerate();
    let mut filled = chunks.filter(|(_, chunk)| **chunk != ZEROS[..chunk.len()]);
    let (number, chunk) = filled.next()?;
    Some(number * ZEROS.len() + chunk.iter().take_while(|byte| **byte == 0).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(at: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0; 4 * CHUNK];
        at.iter().for_each(|at| bytes[*at] = 1);
        bytes
    }

    #[test]
    fn an_image_is_the_bytes_it_was_made_of_and_only_where_they_are_not_zeros() {
        let original = bytes(&[5, CHUNK + 1, 4 * CHUNK - 1]);
        let image = Image::of(&original).expect("an image");
        assert_eq!(image.filled, [0..2 * CHUNK, 3 * CHUNK..4 * CHUNK]);
        assert_eq!(image.difference(&original), None);
        assert_eq!(image.bytes(), original);
    }

    #[test]
    fn a_difference_is_found_among_zeros_and_others_at_the_begin_and_the_end() {
        let image = Image::of(&bytes(&[5, 3 * CHUNK])).expect("an image");
        for at in [0, 4, 6, CHUNK, 3 * CHUNK - 1, 3 * CHUNK + 1, 4 * CHUNK - 1] {
            assert_eq!(image.difference(&bytes(&[5, at, 3 * CHUNK])), Some(at));
        }
        assert_eq!(image.difference(&bytes(&[3 * CHUNK])), Some(5), "a byte that is zero now");
        assert_eq!(image.difference(&bytes(&[5, 3 * CHUNK])[CHUNK..]), Some(3 * CHUNK), "a shorter one");
    }

    #[test]
    fn nobody_can_write_an_image_or_cut_it_off() {
        let image = Image::of(&bytes(&[5])).expect("an image");
        assert_eq!(pwrite(&image.file, b"x", 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&image.file, 0), Err(Errno::PERM));
    }

    #[test]
    fn instances_that_begin_alike_share_images_and_others_have_none() {
        let images = Images::default();
        let of = |at, bytes: &[u8]| images.of(at, bytes).expect("no error");
        let first = of(1, &bytes(&[5])).expect("an image");
        assert!(Arc::ptr_eq(&first, &of(1, &bytes(&[5])).expect("an image")));
        assert!(of(1, &bytes(&[6])).is_none());
        assert!(of(0, &bytes(&[6])).is_some(), "of another memory");
        assert!(Arc::ptr_eq(&first, &of(1, &bytes(&[5])).expect("an image")), "the first one's stays");
    }

    #[test]
    fn of_two_that_are_first_one_is_kept() {
        let images = Images::default();
        let image = |at| Arc::new(Image::of(&bytes(&[at])).expect("an image"));
        let (one, other) = (image(5), image(6));
        assert!(Arc::ptr_eq(&images.keep(0, one.clone()), &one));
        assert!(Arc::ptr_eq(&images.keep(0, other), &one));
    }
}
