//! The allocator's memory.

/// Gives memory that is free, but that the allocator keeps between other pieces, back to the kernel. Takes some tens of
/// milliseconds where there is much of it, and keeps the allocator's arenas locked, one after the other, meanwhile: for
/// when much has just been freed, and seldom.
///
/// Measured: a thousand small apps whose code left memory left 85 MB so.
pub fn give_free_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called by any thread at any time; it touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
