//! What is written about the project is held against it: the README's examples, and that no guest goes untested.

use std::path::Path;

use hostler::config::{self, Overrides, Policy};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The blocks of that language in a Markdown text.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("\n```{language}\n");
    text.split(begin.as_str()).skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest)).collect()
}

/// A block that begins with `# app: NAME` is the own file of that app, within what the block before grants.
#[test]
fn the_readmes_configuration_is_valid() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("README.md");
    let overrides = Overrides { cache_home: Some("/var/cache".into()), ..Overrides::default() };
    let mut policy = Policy::default();
    let (mut hosts, mut apps) = (0, 0);
    for block in blocks(&readme, "toml") {
        let file = Path::new("README.md");
        let app = block.lines().next().and_then(|line| line.strip_prefix("# app: "));
        let problems = match app {
            Some(app) => {
                apps += 1;
                policy.app_config(app, Some((file, block))).err()
            }
            None => {
                hosts += 1;
                config::parse_host(Some((file, block)), &overrides).map(|(_, read)| policy = read).err()
            }
        };
        assert_eq!(problems, None, "in the block\n{block}");
    }
    assert!(hosts > 0, "the README shows no configuration of a host");
    assert!(apps > 0, "the README shows no configuration of an app");
}

#[test]
fn every_guest_app_has_a_test() {
    let mut tests = String::new();
    gather(&Path::new(ROOT).join("tests/it"), &mut tests);
    let mut apps = Vec::new();
    for entry in std::fs::read_dir(Path::new(ROOT).join("guest-apps")).expect("the guest apps") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a text name");
        let is_app = entry.file_type().expect("a type").is_dir() && !name.starts_with('.');
        // What the guests share, and what building leaves.
        if is_app && !["kit", "target", "node_modules"].contains(&name.as_str()) {
            apps.push(name);
        }
    }
    apps.sort();
    assert!(apps.len() >= 10, "where are the guest apps? found {apps:?}");
    apps.retain(|app| !tests.contains(&format!("\"{app}\"")));
    assert!(apps.is_empty(), "no test uses the guest apps {apps:?}");
}

/// All Rust sources below a folder.
fn gather(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}
