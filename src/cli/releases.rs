//! `hostler releases APP`: shows what a running host keeps of an app.

use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;
use http::Method;

use super::Exit;
use super::admin::{self, AdminArgs};
use crate::deploy::store::record::{Kept, Record, Standing};

#[derive(Debug, Args)]
pub struct Releases {
    /// The app's name in the folder of apps, such as shop or api/v1.
    app: String,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Releases {
    pub fn run(self) -> anyhow::Result<Exit> {
        admin::with_app(&self.admin, &self.app, |listener, app| {
            let record: Record = match admin::ask(listener, Method::GET, &admin::path_of(&app, "releases"))? {
                Ok(record) => record,
                Err(reason) => bail!("{app}: {reason}"),
            };
            if self.json {
                println!("{}", serde_json::to_string_pretty(&record)?);
            } else {
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                print!("{}", table(&record, now));
            }
            Ok(Exit::Success)
        })
    }
}

/// The newest first. `now`: since 1970.
fn table(record: &Record, now: Duration) -> String {
    let mut text =
        format!("{:>9}  {:<12}  {:<12}  {:>10}  {}\n", "release", "code", "config", "deployed", "standing");
    for kept in record.releases.iter().rev() {
        let config = kept.digests.config.map_or("-".to_owned(), |config| config.short());
        let age = ago(now.saturating_sub(Duration::from_secs(kept.deployed)));
        let live = if record.live == Some(kept.number) { "live, " } else { "" };
        let standing = standing(kept);
        let (number, code) = (kept.number, kept.digests.wasm.short());
        text += &format!("{number:>9}  {code:<12}  {config:<12}  {age:>10}  {live}{standing}\n");
    }
    if let Some(held) = &record.held {
        text += &format!("rolled back ({}); it stays so until the app's file changes\n", held.why);
    }
    text
}

fn standing(kept: &Kept) -> String {
    match &kept.standing {
        Standing::RolledBack(why) => format!("rolled back: {why}"),
        standing => standing.as_str().to_owned(),
    }
}

fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::read::Digests;
    use crate::deploy::store::record::Held;
    use crate::prepare::Digest;

    #[test]
    fn the_table_shows_the_newest_release_first_and_which_one_is_live() {
        let kept = |number, text: &[u8], deployed, standing| Kept {
            number,
            digests: Digests { wasm: Digest::of(text), config: None, public: None },
            size: 1,
            file: "shop.wasm".to_owned(),
            config_file: None,
            static_files: Default::default(),
            deployed,
            standing,
        };
        let bad = Standing::RolledBack("by order".to_owned());
        let record = Record {
            app: "shop".to_owned(),
            releases: vec![kept(3, b"a", 1_000, Standing::Proven), kept(12, b"b", 9_990, bad)],
            live: Some(3),
            held: Some(Held { digests: Vec::new(), from: Some(12), why: "by order".to_owned() }),
        };
        assert_eq!(
            table(&record, Duration::from_secs(10_000)),
            "  release  code          config          deployed  standing\n\
             \x20      12  3e23e8160039  -               10 s ago  rolled back: by order\n\
             \x20       3  ca978112ca1b  -                2 h ago  live, proven\n\
             rolled back (by order); it stays so until the app's file changes\n"
        );
    }
}
