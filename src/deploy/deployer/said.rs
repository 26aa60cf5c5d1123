//! What is said of the folder and its apps: once in the log, and in the status until it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Deployer;
use crate::deploy::name::AppName;
use crate::deploy::scan::Problem;
use crate::logging::path_text;
use crate::prepare::preload::Verdict;
use crate::registry::{FolderView, PathProblem};
use crate::release::Release;

/// Paths that are not taken as apps of which each is said and shown.
const MOST_SHOWN: usize = 100;

/// What is kept of having said that there are more; no app and no path is called so.
const FURTHER: &str = "further ";

impl Deployer {
    /// Says which paths are not taken as apps, each once, and shows them in the status until that is over.
    pub(super) fn report_problems(&mut self) {
        let problems = &self.state.problems;
        let mut view = FolderView::default();
        for Problem { path: real, trouble, .. } in problems.iter().take(MOST_SHOWN) {
            let (path, problem) = (path_text(real), trouble.to_string());
            if self.said.insert(format!("/{path}"), problem.clone()).as_ref() != Some(&problem) {
                // As it is: who writes the line quotes and escapes the field.
                let path = &*real.to_string_lossy();
                tracing::warn!(path, "not taken as an app: {problem}");
            }
            view.paths.push(PathProblem { path, problem });
        }
        view.further_paths = problems.len() - view.paths.len();
        let shown: BTreeSet<&str> = view.paths.iter().map(|problem| problem.path.as_str()).collect();
        self.said.retain(|what, _| what.strip_prefix('/').is_none_or(|path| shown.contains(path)));
        if view.further_paths == 0 {
            self.unsay(FURTHER);
        } else if self.said.insert(FURTHER.to_owned(), String::new()).is_none() {
            let count = view.further_paths;
            tracing::warn!(count, "further paths are not taken as apps; `hostler check` names them all");
        }
        if self.is_blind {
            view.problem = Some(self.say_folder(
                &"it has become another, empty one, as when a mount is lost; put a \
                                                  file in it if that is meant",
            ));
        }
        self.registry.set_folder(view);
    }

    /// Says why the folder as a whole is not followed.
    pub(super) fn say_folder(&mut self, problem: &dyn std::fmt::Display) -> String {
        let text = problem.to_string();
        if self.said.insert(String::new(), text.clone()).as_ref() != Some(&text) {
            let folder = path_text(&self.folder);
            tracing::error!(folder, "the apps folder is not followed: {text}; what is live stays so");
        }
        text
    }

    pub(super) fn failed(&mut self, app: &AppName, error: &dyn std::fmt::Display) {
        let problem = error.to_string();
        let live = self.registry.problem(&app.as_str().into(), problem.clone());
        let still = if live { "; the release before serves on" } else { "" };
        if self.said.insert(app.as_str().to_owned(), problem.clone()).as_ref() != Some(&problem) {
            tracing::error!(app = app.as_str(), "not deployed: {problem}{still}");
        }
    }

    /// The same for what is tried again after a while, if it is.
    pub(super) fn failed_for_now(
        &mut self,
        app: &AppName,
        error: &dyn std::fmt::Display,
        again: Option<Duration>,
    ) {
        match again {
            // Not how soon: it would be said anew each time.
            Some(_) => self.failed(app, &format_args!("{error}; it is tried again after a while")),
            None => self.failed(app, error),
        }
    }

    /// Where a release is served.
    pub(super) fn url(&self, release: &Release) -> String {
        let host = release.config.hosts.first().map(|host| format!("{host}:{}", self.address.port()));
        format!("http://{}{}", host.unwrap_or(self.address.to_string()), release.mount)
    }

    pub(super) fn say_live(&self, release: &Release) {
        tracing::info!(
            url = self.url(release),
            file = release.file,
            kind = %release.kind,
            mode = %release.config.mode,
            reset = %release.reset,
            preload = release.preload.as_ref().map(|verdict| verdict.state()),
            code = %release.code,
            static_files = release.files.as_ref().map(|files| files.files()),
            "live"
        );
        if let Some(reason) = release.preload.as_ref().and_then(Verdict::reason) {
            tracing::warn!(app = %release.app, release = release.number, "not preloaded, served as it is: {reason}");
        }
    }

    pub(super) fn unsay(&mut self, what: &str) {
        self.said.remove(what);
    }
}
