//! The linear memories of instances that are rewound: ours, so that they can be put back, and Wasmtime's to use.
//!
//! Wasmtime asks for a memory by its type alone and does not say for which instance. So the making of an instance is
//! wrapped in a future ([`collecting`]) which says for the length of each of its polls, and for the thread that polls,
//! that what is asked for is its own. Guests run on stacks of their own but in the thread of their poll, so there is no
//! other way to ask; who asks outside of such a poll is refused.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Bytes beyond the first-ready ones that are erased in place; more is given back to the kernel. As with what the pooling
/// allocator keeps resident: page faults cost more than a few pages of zeros.
const ERASED: usize = 256 << 10;

/// The address space of one linear memory: what the guest may use, and behind it nothing that can be touched.
pub struct Region {
    base: usize,
    /// Bytes that the guest may use.
    size: AtomicUsize,
    capacity: usize,
    /// Bytes of the mapping: the capacity and the guard behind it.
    mapped: usize,
}

impl Region {
    /// Zeros.
    pub fn new(size: usize, capacity: usize, guard: usize) -> rustix::io::Result<Region> {
        let invalid = rustix::io::Errno::INVAL;
        let mapped = capacity.checked_add(guard).ok_or(invalid)?;
        if size > capacity || !size.is_multiple_of(page_size()) || !mapped.is_multiple_of(page_size()) {
            return Err(invalid);
        }
        // SAFETY: an anonymous mapping at an address that the kernel chooses replaces no mapping of ours.
        let base = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::empty(), flags)?
        };
        let region = Region { base: base.addr(), size: AtomicUsize::new(0), capacity, mapped };
        region.grow(size)?;
        Ok(region)
    }

    pub fn base(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base)
    }

    pub fn size(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// To a larger size; what is added are zeros.
    pub fn grow(&self, size: usize) -> rustix::io::Result<()> {
        let now = self.size();
        if size > self.capacity || size < now || !size.is_multiple_of(page_size()) {
            return Err(rustix::io::Errno::NOMEM);
        }
        if size > now {
            // SAFETY: the pages lie within our mapping, and nobody relies on their being out of reach but for guests,
            // to which the caller gives them.
            unsafe { mprotect(self.at(now), size - now, MprotectFlags::READ | MprotectFlags::WRITE)? };
            self.size.store(size, Relaxed);
        }
        Ok(())
    }

    /// To a smaller size; what is cut off is out of reach, and zeros when it comes back.
    ///
    /// # Safety
    /// Nobody has a reference to what is cut off, or will use it.
    pub unsafe fn shrink(&self, size: usize) -> rustix::io::Result<()> {
        let (now, size) = (self.size(), size.next_multiple_of(page_size()));
        if size >= now {
            return Ok(());
        }
        let (tail, length) = (self.at(size), now - size);
        // SAFETY: the pages lie within our mapping and can be written until the last call. The caller vouches that
        // nobody uses them.
        unsafe {
            if length <= ERASED {
                ptr::write_bytes(tail.cast::<u8>(), 0, length);
            } else {
                madvise(tail, length, Advice::LinuxDontNeed)?;
            }
            mprotect(tail, length, MprotectFlags::empty())?;
        }
        self.size.store(size, Relaxed);
        Ok(())
    }

    fn at(&self, offset: usize) -> *mut core::ffi::c_void {
        self.base().wrapping_add(offset).cast()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that was made in `new`. Both who can reach it, Wasmtime's memory and the one who puts
        // it back, hold a reference of their own to this, so neither is left.
        let unmapped = unsafe { munmap(self.at(0), self.mapped) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}

pub fn page_size() -> usize {
    rustix::param::page_size()
}

thread_local! {
    /// The memories of the instance that is being made in the poll under way.
    static MAKING: RefCell<Option<Vec<Arc<Region>>>> = const { RefCell::new(None) };
}

/// Gives Wasmtime the memories that it asks for.
pub struct Creator;

// SAFETY: a memory is of zeros, as large as is asked for, with everything behind it out of reach up to the end of the
// guard; it never moves. What is done to it outside of Wasmtime is done by `Tracked`, which has the arguments.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        MAKING.with_borrow_mut(|making| {
            let Some(making) = making else {
                return Err("a memory was asked for outside of the making of an instance".to_owned());
            };
            let capacity = reserved.unwrap_or(0).max(minimum);
            let region = Region::new(minimum, capacity, guard);
            let region = Arc::new(region.map_err(|error| format!("no address space for a memory: {error}"))?);
            making.push(region.clone());
            Ok(Box::new(Memory(region)) as Box<dyn LinearMemory>)
        })
    }
}

/// Wasmtime's side of a region.
struct Memory(Arc<Region>);

// SAFETY: `as_ptr` is the base of a mapping of ours whose first `byte_size` bytes can be read and written, and which lives
// as long as this; the base never changes. The size can become smaller between two calls of guests: `Rewinder` has the
// argument for that.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.0.size()
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        self.0.grow(size).map_err(|error| wasmtime::format_err!("a memory can't grow: {error}"))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base()
    }
}

/// Runs a future that makes an instance, and returns the memories that were made for it, in the order in which they were.
pub async fn collecting<F: Future>(making: F) -> (F::Output, Vec<Arc<Region>>) {
    let mut making = pin!(making);
    let mut collected = Vec::new();
    let made = std::future::poll_fn(|cx| poll_collecting(making.as_mut(), &mut collected, cx)).await;
    (made, collected)
}

fn poll_collecting<F: Future>(
    making: Pin<&mut F>,
    collected: &mut Vec<Arc<Region>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    /// Puts back what was there before, also when the poll panics: another making may be polled within this one's.
    struct Scope<'c> {
        collected: &'c mut Vec<Arc<Region>>,
        around: Option<Vec<Arc<Region>>>,
    }
    impl Drop for Scope<'_> {
        fn drop(&mut self) {
            *self.collected = MAKING.replace(self.around.take()).unwrap_or_default();
        }
    }
    let around = MAKING.replace(Some(std::mem::take(collected)));
    let _scope = Scope { collected, around };
    making.poll(cx)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const PAGE: usize = 64 << 10;

    fn ask(pages: usize) -> Result<Box<dyn LinearMemory>, String> {
        let ty = MemoryType::new(0, None);
        Creator.new_memory(ty, pages * PAGE, None, Some(16 * PAGE), PAGE)
    }

    /// A making that asks for a memory, waits, and asks for another.
    async fn two_memories(first: usize, second: usize) -> [Box<dyn LinearMemory>; 2] {
        let one = ask(first).expect("a memory");
        let mut waited = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        [one, ask(second).expect("a memory")]
    }

    fn sizes(regions: &[Arc<Region>]) -> Vec<usize> {
        regions.iter().map(|region| region.size() / PAGE).collect()
    }

    #[test]
    fn makings_that_take_turns_in_one_thread_get_their_own_memories() {
        let (mut one, mut other) =
            (pin!(collecting(two_memories(1, 2))), pin!(collecting(two_memories(3, 4))));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert!(other.as_mut().poll(&mut cx).is_pending());
        let (Poll::Ready((_, of_one)), Poll::Ready((_, of_other))) =
            (one.as_mut().poll(&mut cx), other.as_mut().poll(&mut cx))
        else {
            panic!("both are done")
        };
        assert_eq!((sizes(&of_one), sizes(&of_other)), (vec![1, 2], vec![3, 4]));
    }

    #[test]
    fn a_making_within_the_poll_of_another_keeps_its_memories_apart() {
        let mut cx = Context::from_waker(Waker::noop());
        let nested = async {
            let first = ask(1).expect("a memory");
            let inner = pin!(collecting(async { ask(5).expect("a memory") }));
            let Poll::Ready((_, of_inner)) = inner.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("it is done")
            };
            (first, ask(2).expect("a memory"), of_inner)
        };
        let Poll::Ready(((_, _, of_inner), of_outer)) = pin!(collecting(nested)).poll(&mut cx) else {
            panic!("it is done")
        };
        assert_eq!((sizes(&of_outer), sizes(&of_inner)), (vec![1, 2], vec![5]));
    }

    #[test]
    fn outside_of_a_making_there_is_no_memory_also_after_one_that_panicked() {
        assert!(ask(1).is_err());
        let panicked = std::panic::catch_unwind(|| {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = pin!(collecting(async { panic!("in the midst of it") })).poll(&mut cx);
        });
        assert!(panicked.is_err());
        assert!(ask(1).is_err(), "the scope of the one that panicked is over");
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros_whether_it_was_erased_or_given_back() {
        for grown in [PAGE, ERASED + PAGE] {
            let region = Region::new(PAGE, 16 * PAGE, PAGE).expect("a region");
            region.grow(PAGE + grown).expect("room");
            let last = PAGE + grown - 1;
            // SAFETY: the byte lies within the size, and nobody else has the region.
            unsafe { region.base().add(last).write(7) };
            // SAFETY: no reference to the region's bytes is left.
            unsafe { region.shrink(PAGE) }.expect("smaller");
            assert_eq!(region.size(), PAGE);
            region.grow(PAGE + grown).expect("room");
            // SAFETY: as above.
            assert_eq!(unsafe { region.base().add(last).read() }, 0, "{grown}");
        }
    }

    #[test]
    fn a_memory_grows_up_to_its_capacity_only_and_by_whole_pages() {
        let region = Region::new(PAGE, 2 * PAGE, PAGE).expect("a region");
        assert!(region.grow(3 * PAGE).is_err());
        assert!(region.grow(PAGE + 1).is_err());
        assert!(region.grow(2 * PAGE).is_ok());
        assert!(Region::new(PAGE, 0, PAGE).is_err());
        assert!(Region::new(100, PAGE, PAGE).is_err());
    }
}
