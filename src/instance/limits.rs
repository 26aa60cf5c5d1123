//! Memory and table limits of one instance.

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi_http::FieldMapError;

use crate::config::AppConfig;
use crate::config::units::format_size;

/// Names the key of a limit that a guest failed at, where the error by itself tells only what was exhausted.
pub fn name_limit(error: wasmtime::Error, config: &AppConfig) -> wasmtime::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(ResourceTableError::Full))
    };
    let is_too_big = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(FieldMapError::TotalSizeTooBig))
    };
    if error.chain().any(is_full) {
        error.context(format!("it wanted more than its resource_limit of {}", config.resource_limit))
    } else if error.chain().any(is_too_big) {
        let limit = u64::try_from(config.header_limit).unwrap_or(u64::MAX);
        error.context(format!("it wanted more than its header_limit of {}", format_size(limit)))
    } else {
        error
    }
}

/// Bounds what an instance may grow to. A refused growth is no error: the guest's `memory.grow` answers -1.
#[derive(Debug, Clone)]
pub struct Limits {
    memory_limit: usize,
    table_limit: usize,
    /// Bytes of all memories of the instance together.
    memory: usize,
    /// Bytes that the growth was for that was allowed last.
    growth: usize,
}

impl Limits {
    pub fn new(memory_limit: usize, table_limit: usize) -> Self {
        Limits { memory_limit, table_limit, memory: 0, growth: 0 }
    }

    /// Bytes of linear memory that the instance has.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            return Ok(false);
        }
        self.growth = total - self.memory;
        self.memory = total;
        Ok(true)
    }

    /// It was allowed and yet came to nothing: beyond the memory's own maximum, or for want of room.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.growth);
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_one_instance_share_one_limit() {
        let mut limits = Limits::new(100, 10);
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 41, None).unwrap(), "a second memory adds to the first");
        assert!(limits.memory_growing(0, 40, None).unwrap());
        assert!(!limits.memory_growing(60, 61, None).unwrap());
        assert_eq!(limits.memory(), 100);
    }

    #[test]
    fn a_growth_that_came_to_nothing_takes_nothing() {
        let mut limits = Limits::new(100, 10);
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(limits.memory_growing(60, 100, Some(70)).unwrap());
        limits.memory_grow_failed(wasmtime::Error::msg("beyond the memory's maximum")).unwrap();
        assert_eq!(limits.memory(), 60);
        limits.memory_grow_failed(wasmtime::Error::msg("told once more")).unwrap();
        assert_eq!(limits.memory(), 60);
        assert!(limits.memory_growing(60, 100, None).unwrap());
    }

    #[test]
    fn a_table_stops_at_its_limit() {
        let mut limits = Limits::new(0, 10);
        assert!(limits.table_growing(0, 10, None).unwrap());
        assert!(!limits.table_growing(10, 11, None).unwrap());
    }
}
