//! What the kernel is asked: to protect pages from being written without a word, and which have been written since.
//!
//! This is the documented use of userfaultfd's write protection in its asynchronous mode with `PAGEMAP_SCAN`: a write to a
//! protected page takes the protection away, which the kernel does by itself, and no thread of ours handles faults. A page
//! counts as written wherever it is, in memory, swapped out or being moved: it is never asked for pages that are *present*.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// Faults of the kernel's own accesses are not ours to handle; without that only privileged processes may ask.
const USER_MODE_ONLY: u32 = 1;

const API: u64 = 0xaa;
/// Also pages that have never been touched can be protected.
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
/// A write takes the protection away and goes on.
const FEATURE_WP_ASYNC: u64 = 1 << 15;

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArg {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct ProtectArg {
    start: u64,
    length: u64,
    mode: u64,
}

const MODE_WP: u64 = 1 << 1;
const PROTECT: u64 = 1;

type ApiCall<'a> = Updater<'a, { opcode::read_write::<ApiArg>(0xaa, 0x3f) }, ApiArg>;
type RegisterCall<'a> = Updater<'a, { opcode::read_write::<RegisterArg>(0xaa, 0x00) }, RegisterArg>;
type ProtectCall<'a> = Updater<'a, { opcode::read_write::<ProtectArg>(0xaa, 0x06) }, ProtectArg>;

/// Pages of which the kernel told something, by their addresses.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Pages {
    pub start: u64,
    pub end: u64,
    categories: u64,
}

#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    found: u64,
    found_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// An error for pages that are not protected so, instead of an answer that means nothing.
const CHECK_WP_ASYNC: u64 = 1 << 1;
const IS_WRITTEN: u64 = 1 << 1;

struct Scan<'a>(&'a mut ScanArg);

// SAFETY: the opcode is `PAGEMAP_SCAN` with its argument's type; the kernel writes `walk_end` and as many elements at
// `found` as there are, which is what `IS_MUTATING` says.
unsafe impl Ioctl for Scan<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<ScanArg>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        usize::try_from(out).map_err(|_| Errno::OVERFLOW)
    }
}

/// The two descriptors by which this process asks the kernel. The kernel forgets a memory when it is unmapped.
pub struct Kernel {
    faults: OwnedFd,
    pagemap: OwnedFd,
}

impl Kernel {
    fn open() -> io::Result<Kernel> {
        let told = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
        // SAFETY: what the descriptor can do to memory is done in `protect` alone.
        let faults = unsafe { userfaultfd(flags) }.map_err(|error| told("userfaultfd", error.into()))?;
        let mut api = ApiArg { api: API, features: FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED, ioctls: 0 };
        // SAFETY: the opcode is `UFFDIO_API` with its argument's type.
        unsafe { ioctl(&faults, ApiCall::new(&mut api)) }
            .map_err(|error| told("userfaultfd's asynchronous write protection", error.into()))?;
        let pagemap = File::open("/proc/self/pagemap").map_err(|error| told("/proc/self/pagemap", error))?;
        Ok(Kernel { faults, pagemap: pagemap.into() })
    }

    /// This process's.
    pub fn of_process() -> Result<&'static Kernel, &'static str> {
        static KERNEL: OnceLock<Result<Kernel, String>> = OnceLock::new();
        let kernel = KERNEL.get_or_init(|| Kernel::open().map_err(|error| error.to_string()));
        kernel.as_ref().map_err(String::as_str)
    }

    /// From now on it is noted which of these addresses' pages are written. They are a mapping of the caller's, which he
    /// has just made.
    pub fn watch(&self, addresses: Range<usize>) -> rustix::io::Result<()> {
        let Range { start, end } = addresses.clone();
        let mut arg =
            RegisterArg { start: start as u64, length: (end - start) as u64, mode: MODE_WP, ioctls: 0 };
        // SAFETY: the opcode is `UFFDIO_REGISTER` with its argument's type. A write to the pages does what it did before,
        // since the protection is asynchronous.
        unsafe { ioctl(&self.faults, RegisterCall::new(&mut arg))? };
        self.protect(addresses)
    }

    /// Forgets which have been written.
    pub fn protect(&self, addresses: Range<usize>) -> rustix::io::Result<()> {
        let Range { start, end } = addresses;
        let mut arg = ProtectArg { start: start as u64, length: (end - start) as u64, mode: PROTECT };
        loop {
            // SAFETY: the opcode is `UFFDIO_WRITEPROTECT` with its argument's type. Otherwise as in `watch`.
            match unsafe { ioctl(&self.faults, ProtectCall::new(&mut arg)) } {
                // Another thread is about to change the process's mappings.
                Err(Errno::AGAIN | Errno::INTR) => {}
                protected => return protected,
            }
        }
    }

    /// Those of the addresses' pages that were written since they were last protected: as many as there is room for, and
    /// the address from which on it has to be asked again, which is the end if it was all.
    pub fn written(
        &self,
        addresses: Range<usize>,
        found: &mut [Pages],
    ) -> rustix::io::Result<(usize, usize)> {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: CHECK_WP_ASYNC,
            start: addresses.start as u64,
            end: addresses.end as u64,
            found: found.as_mut_ptr().expose_provenance() as u64,
            found_length: found.len() as u64,
            // The kernel has a quick way for just these: 9 microseconds instead of 46 for a Python app.
            category_mask: IS_WRITTEN,
            return_mask: IS_WRITTEN,
            ..ScanArg::default()
        };
        // SAFETY: `found` and its length are those of a slice that is borrowed meanwhile.
        let count = unsafe { ioctl(&self.pagemap, Scan(&mut arg))? };
        Ok((count.min(found.len()), usize::try_from(arg.walk_end).unwrap_or(addresses.end)))
    }
}
