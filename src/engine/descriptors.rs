//! The open files that this process was started with.

use std::os::fd::RawFd;

/// Standard input, output and error.
const STANDARD: RawFd = 2;

/// Closes every descriptor above the standard three: what whoever started this process has left open by mistake, such as
/// a supervisor's listening sockets. For the very begin of a program that needs none of them.
pub fn close_inherited() -> std::io::Result<()> {
    // The list has the descriptor that it is read by, too, which is closed before the loop: closing it again does nothing.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > STANDARD)
        .collect();
    for descriptor in open {
        // SAFETY: no memory is touched. A descriptor must not be closed under whoever owns it; the only caller is the
        // `compile` verb, whose first act this is, on the only thread, before it has opened any.
        unsafe {
            libc::close(descriptor);
        }
    }
    Ok(())
}
