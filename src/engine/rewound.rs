//! Instances that are rewound: put back in place to the exact state in which they were first ready.
//!
//! An app is prepared for that (`prepare::instrument`): modules are added to its component which can save and put back
//! what lies in Wasmtime's own structures, globals, tables and the numbers of handles. What lies in linear memory is put
//! back from here. In reading order: [`region`] is a memory, ours and Wasmtime's; [`image`] what it held at first;
//! [`kernel`] tells which pages were written since; [`tracked`] puts these together; [`renewal`] is when to find out anew;
//! [`probe`] tries that on this machine, and [`proof`] all of it with a guest.

mod image;
mod kernel;
mod probe;
mod proof;
mod region;
mod renewal;
mod tracked;

use std::sync::Arc;

use futures_util::FutureExt;
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre, TypedFunc};

pub use image::Images;
pub use probe::can_rewind;
pub use proof::prove;
pub(super) use region::Creator;

use crate::prepare::instrument::MOST_LEFT;
use kernel::Kernel;
use region::{Region, collecting};
use tracked::Tracked;

/// The exports of a component that was prepared, and how many memories it has: the added modules have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exports {
    pub save: &'static str,
    pub rewind: &'static str,
    pub left: &'static str,
    pub drop: &'static str,
    pub memories: usize,
    /// Types of resources whose handles can be dropped. If there are none, it has neither `left` nor `drop`.
    pub droppable: u32,
}

/// What there is to know of an instance's handles to put them back. The store must let it have so many more than it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handles {
    /// How many it may have had at once since it was put back last, no fewer.
    pub had: u32,
    /// Handles of which it is looked at besides that they are in order.
    pub beyond: u32,
}

/// What is needed to put one instance back, the only one in its store.
pub struct Rewinder {
    memories: Vec<Tracked>,
    rewind: TypedFunc<(u32, u32), (u32,)>,
    /// Apart, since few instances need it.
    left: Option<Box<Left>>,
    /// The address of the store's data, which stays the same as long as the store lives.
    store: usize,
    /// It was put back only in part, and must not be used.
    is_spoiled: bool,
    /// The bytes of its memories are not put back: for the tests that have to find that.
    #[cfg(debug_assertions)]
    pub is_broken: bool,
}

/// How handles are found and dropped that a request has left.
struct Left {
    which: TypedFunc<(u32,), (u64,)>,
    drop: TypedFunc<(u32, u32), ()>,
    droppable: u32,
}

/// Why an instance was not put back. It must not be used any more.
#[derive(Debug, thiserror::Error)]
pub enum NotRewound {
    #[error("the kernel refused: {0}")]
    Kernel(#[from] rustix::io::Errno),
    #[error("it trapped while it was put back: {0:#}")]
    Trapped(wasmtime::Error),
    #[error("it waited for something while it was put back")]
    Waited,
    /// A table or a memory has another size, or handles are left.
    #[error("something of it can't be put back: its own check says {0}")]
    Refused(u32),
    #[error("it was not put back before, or is in another store")]
    Spoiled,
}

/// Epochs that pass while an instance is put back, at most: it must not be interrupted.
const NO_INTERRUPTION: u64 = 1 << 40;

impl Rewinder {
    /// Makes an instance of a prepared component in a store that has none, whose memories come from the release's images.
    /// It can't be put back if it does not begin as these are. `had`: what [`Handles::had`] is when it was made.
    ///
    /// # Errors
    /// It can't be instantiated, is not prepared as it should be, or the kernel refuses something.
    pub async fn instantiate<T: Send + 'static>(
        store: &mut Store<T>,
        pre: &InstancePre<T>,
        exports: &Exports,
        images: &Images,
        had: impl FnOnce(&mut T) -> u32,
    ) -> wasmtime::Result<(Instance, Option<Rewinder>)> {
        let kernel = Kernel::of_process().map_err(wasmtime::Error::msg)?;
        let (instance, regions) = collecting(pre.instantiate_async(&mut *store)).await;
        let instance = instance?;
        let save: TypedFunc<(u32, u32), (u32,)> = instance.get_typed_func(&mut *store, exports.save)?;
        let rewind = instance.get_typed_func(&mut *store, exports.rewind)?;
        let had = had(store.data_mut());
        let left = match exports.droppable {
            0 => None,
            droppable => Some(Box::new(Left {
                which: instance.get_typed_func(&mut *store, exports.left)?,
                drop: instance.get_typed_func(&mut *store, exports.drop)?,
                droppable,
            })),
        };
        let (saved,) = save.call_async(&mut *store, (had, 0)).await?;
        if saved != 0 {
            return Err(wasmtime::format_err!("its first-ready state can't be saved: it says {saved}"));
        }
        if regions.len() != exports.memories {
            let (made, known) = (regions.len(), exports.memories);
            return Err(wasmtime::format_err!("it has {made} memories, and {known} can be put back"));
        }
        // SAFETY: `store` is borrowed for this alone, so no guest runs in it and nobody has a reference to its memories.
        // The regions were made for this instance, which lives in no other store. After an error the caller has no
        // instance, and nothing can reach the memories but the store's drop, which does not read them.
        let Some(memories) = unsafe { track(regions, images, kernel) }? else {
            return Ok((instance, None));
        };
        let store = address(store);
        let rewinder = Rewinder {
            memories,
            rewind,
            left,
            store,
            is_spoiled: false,
            #[cfg(debug_assertions)]
            is_broken: false,
        };
        Ok((instance, Some(rewinder)))
    }

    /// Puts the instance back, all but the store's own data, which is the caller's. Returns how many pages of memory that
    /// took. Its calls must have ended; the epoch's deadline has to be set anew.
    ///
    /// # Errors
    /// See [`NotRewound`].
    pub fn rewind<T: Send + 'static>(
        &mut self,
        store: &mut Store<T>,
        handles: Handles,
    ) -> Result<usize, NotRewound> {
        self.spoiled_unless_ok(store, |rewinder, store| rewinder.put_back(store, handles))
    }

    fn put_back<T: Send + 'static>(
        &mut self,
        store: &mut Store<T>,
        Handles { had, beyond }: Handles,
    ) -> Result<usize, NotRewound> {
        let mut pages = 0;
        for memory in &mut self.memories {
            #[cfg(debug_assertions)]
            if self.is_broken {
                // SAFETY: as below.
                unsafe { memory.put_size_back() }?;
                continue;
            }
            // SAFETY: the regions are those of the instance in this store, which is borrowed for this alone: no guest runs,
            // and nobody has a reference to its memories. Wasmtime still has the sizes from before, and learns the new
            // ones below, where an added module lets each memory grow by nothing: that publishes base and size again. Up
            // to there nothing uses the memories, since the added modules have no other instruction on them; should something all
            // the same, it finds pages that are out of reach, within the region, which is a trap to a guest.
            pages += unsafe { memory.put_back() }?;
        }
        let (status,) = at_once(self.rewind.call_async(&mut *store, (had, beyond)))?;
        if status != 0 { Err(NotRewound::Refused(status)) } else { Ok(pages) }
    }

    /// Types of resources whose handles can be dropped.
    pub fn droppable(&self) -> u32 {
        self.left.as_ref().map_or(0, |left| left.droppable)
    }

    /// The handles that the last request has left, a bit for each number, that of number 1 first. To be asked before the
    /// instance is put back, where there are droppable ones; else none are told, and if it `had` more than [`MOST_LEFT`].
    ///
    /// # Errors
    /// See [`NotRewound`]: it can't be put back.
    pub fn left<T: Send + 'static>(&mut self, store: &mut Store<T>, had: u32) -> Result<u64, NotRewound> {
        self.spoiled_unless_ok(store, |rewinder, store| {
            let Some(left) = rewinder.left.as_ref().filter(|_| had <= MOST_LEFT) else { return Ok(0) };
            at_once(left.which.call_async(store, (had,))).map(|(which,)| which)
        })
    }

    /// Drops such a handle, if it is of this type, one of the droppable ones.
    ///
    /// # Errors
    /// It is of another type, or the host's resource can't go at once: the instance can't be put back.
    pub fn drop_left<T: Send + 'static>(
        &mut self,
        store: &mut Store<T>,
        ty: u32,
        handle: u32,
    ) -> Result<(), NotRewound> {
        self.spoiled_unless_ok(store, |rewinder, store| {
            let Some(left) = &rewinder.left else { return Err(NotRewound::Spoiled) };
            at_once(left.drop.call_async(store, (ty, handle)))
        })
    }

    /// Does something with the instance, in its own store and without being interrupted. It is of no use any more after an
    /// error, or a panic.
    fn spoiled_unless_ok<T: Send + 'static, R>(
        &mut self,
        store: &mut Store<T>,
        work: impl FnOnce(&mut Self, &mut Store<T>) -> Result<R, NotRewound>,
    ) -> Result<R, NotRewound> {
        if std::mem::replace(&mut self.is_spoiled, true) || address(store) != self.store {
            return Err(NotRewound::Spoiled);
        }
        store.set_epoch_deadline(NO_INTERRUPTION);
        let result = work(self, store)?;
        self.is_spoiled = false;
        Ok(result)
    }

    /// Where an instance that was just put back is not as it was first ready: the memory's number and the byte's. Compares
    /// all of its memories, which takes as long as reading them.
    pub fn difference<T>(&self, store: &mut Store<T>) -> Option<(usize, usize)> {
        if address(store) != self.store {
            return None;
        }
        self.memories.iter().enumerate().find_map(|(number, memory)| {
            // SAFETY: as in `rewind`; the bytes are only read.
            unsafe { memory.difference() }.map(|byte| (number, byte))
        })
    }

    /// Bytes of memory that the instance had when it was first ready.
    pub fn memory(&self) -> usize {
        self.memories.iter().map(Tracked::length).sum()
    }
}

/// The outcome of a call that has nothing to wait for.
fn at_once<R>(call: impl Future<Output = wasmtime::Result<R>>) -> Result<R, NotRewound> {
    call.now_or_never().ok_or(NotRewound::Waited)?.map_err(NotRewound::Trapped)
}

/// None if one of them does not begin as its image is; all can be used on as they are then.
///
/// # Safety
/// As [`Tracked::new`] for all of them.
unsafe fn track(
    regions: Vec<Arc<Region>>,
    images: &Images,
    kernel: &'static Kernel,
) -> rustix::io::Result<Option<Vec<Tracked>>> {
    let numbered = regions.into_iter().enumerate();
    // SAFETY: by the caller's promise.
    let tracked = numbered.map(|(number, region)| unsafe { Tracked::new(region, number, images, kernel) });
    let tracked: Vec<Option<Tracked>> = tracked.collect::<Result<_, _>>()?;
    Ok(tracked.into_iter().collect())
}

fn address<T>(store: &Store<T>) -> usize {
    std::ptr::from_ref(store.data()).addr()
}

#[cfg(test)]
mod tests;
