//! The `hostler` program: see `hostler --help`.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A request of a small app allocates and frees some fifty times, in code that each time comes round once: what counts is
/// how little that code is. Counted in instructions, glibc's allocator had an eighth of such a request, this one has a
/// twentieth. Its options are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    hostler::cli::run(std::env::args_os())
}

#[cfg(test)]
mod tests {
    use tikv_jemalloc_ctl::{background_thread, config};

    /// Nobody would notice, but by the memory that it keeps.
    #[test]
    fn the_allocator_gives_back_what_is_free() {
        let options = config::malloc_conf::read().unwrap();
        assert!(options.contains("dirty_decay_ms:1000") && options.contains("retain:false"), "{options}");
        assert!(background_thread::read().unwrap(), "no thread does it");
    }
}
