//! What machine this is, in one line.

/// Kernel and processor, as far as they can be told.
pub fn describe() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let parts = [Some(format!("Linux {}", kernel.trim())), model(&cpuinfo)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_name_is_found_if_it_has_one() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor: 3 GHz\nmodel name\t: B\n";
        assert_eq!(model(cpuinfo).as_deref(), Some("A Processor: 3 GHz"));
        assert_eq!(model("processor\t: 0\n"), None);
        assert!(describe().starts_with("Linux "));
    }
}
