//! How much address space the pooling allocator may have.
//!
//! The allocator reserves one contiguous stretch for all linear memories at once, thousands of gigabytes for a
//! thousand instances. That costs nothing where there is room, but there is none under `ulimit -v`, in some containers
//! and on arm64 with 39 address bits, and then making the engine would fail. So it is tried beforehand, and less is
//! asked for.

use std::ptr;

/// A memory of this size, with its guard, needs no bounds checks for 32-bit addresses.
const FULL_RESERVATION: u64 = 4 << 30;
const WASM_PAGE: u64 = 64 << 10;

/// What one instance takes of the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Linear memories.
    pub memories: u32,
    /// Bytes that a linear memory must be able to grow to: the highest limit that any app is granted.
    pub memory_limit: u64,
    /// Bytes of guard region behind a linear memory.
    pub guard: u64,
    /// Bytes of everything else: tables and stacks.
    pub rest: u64,
}

/// What the allocator is to be made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatorSize {
    /// At least one, even where that will not fit: then making the engine fails and says why.
    pub instances: u32,
    /// Bytes to reserve for each linear memory; never less than `memory_limit`.
    pub reservation: u64,
    /// What an operator should know: set when there is less than was wanted.
    pub note: Option<String>,
}

/// Plans for `wanted` instances, or as many as fit if that is `enough`, in the address space that this process can get
/// now.
///
/// Where not even `enough` fit, memories first get smaller reservations, which makes guests slower (their accesses are
/// checked) but loses no instance; only then are there fewer instances. There are just two reservations, full and
/// smallest, because it is part of the compiled code: one computed from what happens to be free would
/// differ from start to start, and the code cache would never hit.
pub fn plan(wanted: u32, enough: u32, footprint: &Footprint) -> AllocatorSize {
    plan_within(wanted, enough, footprint, probe)
}

/// Bytes of address space, at most `wanted`, that can be reserved in one piece. Nothing stays reserved. Exact to
/// about three per cent; honours `RLIMIT_AS`, because the kernel does.
pub fn probe(wanted: u64) -> u64 {
    largest(wanted, can_reserve)
}

fn plan_within(
    wanted: u32,
    enough: u32,
    footprint: &Footprint,
    available: impl Fn(u64) -> u64,
) -> AllocatorSize {
    let wanted = wanted.max(1);
    let enough = enough.clamp(1, wanted);
    let smallest = footprint.memory_limit.next_multiple_of(WASM_PAGE).max(WASM_PAGE);
    let full = FULL_RESERVATION.max(smallest);
    let need = |reservation| footprint.bytes(reservation).saturating_mul(u64::from(wanted));
    // Half is left to the other engine, code, stacks and the heap.
    let room = available(need(full).saturating_mul(2)) / 2;
    let fitting = |reservation, most: u32| {
        let fitting = room / footprint.bytes(reservation).max(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).min(most)
    };
    if fitting(full, wanted) >= enough {
        return AllocatorSize { instances: fitting(full, wanted), reservation: full, note: None };
    }
    let instances = fitting(smallest, enough).max(1);
    AllocatorSize {
        instances,
        reservation: smallest,
        note: Some(note(enough, instances, room, full, smallest)),
    }
}

impl Footprint {
    fn bytes(&self, reservation: u64) -> u64 {
        reservation
            .saturating_add(self.guard)
            .saturating_mul(u64::from(self.memories))
            .saturating_add(self.rest)
    }
}

fn note(wanted: u32, instances: u32, room: u64, full: u64, smallest: u64) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let mut text =
        format!("only {} MiB of address space can be used for instances (see `ulimit -v`)", mib(room));
    if smallest < full {
        text += &format!(
            ": {} MiB instead of {} MiB are reserved for each memory, which makes guests somewhat slower",
            mib(smallest),
            mib(full)
        );
    }
    if instances < wanted {
        text += &format!(": {instances} instead of {wanted} instances");
    }
    text
}

/// The largest size up to `wanted` that fits, found by halving and then closing in on it from below.
fn largest(wanted: u64, fits: impl Fn(u64) -> bool) -> u64 {
    if fits(wanted) {
        return wanted;
    }
    let mut low = wanted / 2;
    while low >= WASM_PAGE && !fits(low) {
        low /= 2;
    }
    if low < WASM_PAGE {
        return 0;
    }
    let mut step = low / 2;
    for _ in 0..5 {
        if fits(low + step) {
            low += step;
        }
        step /= 2;
    }
    low
}

fn can_reserve(bytes: u64) -> bool {
    let Ok(len) = usize::try_from(bytes) else {
        return false;
    };
    if len == 0 {
        return true;
    }
    // SAFETY: an anonymous mapping at an address that the kernel chooses replaces no mapping of ours, and nothing
    // ever reads or writes it.
    let address = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0)
    };
    if address == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: exactly the mapping that was just made, to which no reference exists.
    let unmapped = unsafe { libc::munmap(address, len) };
    debug_assert_eq!(unmapped, 0, "a mapping just made can be unmapped");
    true
}

#[cfg(test)]
mod tests;
