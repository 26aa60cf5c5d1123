//! `hostler rollback APP [RELEASE]`: has a running host return to a release that it keeps.

use anyhow::bail;
use clap::Args;
use http::Method;

use super::Exit;
use super::admin::{self, AdminArgs};
use crate::deploy::orders::Obeyed;

#[derive(Debug, Args)]
pub struct Rollback {
    /// The app's name in the folder of apps, such as shop or api/v1.
    app: String,
    /// The number of a release that is kept, see `hostler releases` [default: the one before the live one].
    release: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Rollback {
    pub fn run(self) -> anyhow::Result<Exit> {
        admin::with_app(&self.admin, &self.app, |listener, app| {
            let query = self.release.map_or_else(String::new, |number| format!("?release={number}"));
            let path = admin::path_of(&app, "rollback") + &query;
            match admin::ask::<Obeyed>(listener, Method::POST, &path)? {
                Err(reason) => bail!("{app} is not rolled back: {reason}"),
                Ok(Obeyed { release, replaced, .. }) => {
                    let drains =
                        replaced.map_or_else(String::new, |before| format!(", release {before} drains"));
                    println!("{app} is rolled back: release {release} is live{drains}");
                    println!("it stays so until the app's file changes");
                }
            }
            Ok(Exit::Success)
        })
    }
}
