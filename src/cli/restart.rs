//! `hostler restart APP`: has a running host build an app's present files anew, or what it was rolled back to.

use anyhow::bail;
use clap::Args;
use http::Method;

use super::Exit;
use super::admin::{self, AdminArgs};
use crate::deploy::orders::Obeyed;

#[derive(Debug, Args)]
pub struct Restart {
    /// The app's name in the folder of apps, such as shop or api/v1.
    app: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Restart {
    pub fn run(self) -> anyhow::Result<Exit> {
        admin::with_app(&self.admin, &self.app, |listener, app| {
            match admin::ask::<Obeyed>(listener, Method::POST, &admin::path_of(&app, "restart"))? {
                Err(reason) => bail!("{app} is not restarted: {reason}"),
                Ok(Obeyed { release, replaced: Some(before), .. }) => {
                    println!("{app} is restarted: release {release} is live, release {before} drains");
                }
                Ok(Obeyed { release, .. }) => println!("{app} is live: release {release}"),
            }
            Ok(Exit::Success)
        })
    }
}
