//! Where an app hangs in the tree of paths.

use std::fmt;

use super::path::{BadPath, normalize, push_name};

/// A mount path in normal form: `/`, or `/shop/v1` without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mount(String);

/// Why a name is no app's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("an app's name has no empty, . or .. part and no / at its ends")]
    Part,
    #[error("an app's name has no control character")]
    Control,
}

impl Mount {
    /// The mount that an app's name gives it: `shop` at `/shop`, `api/v1` at `/api/v1`, and `index` at the root of
    /// its folder (`index` at `/`, `api/index` at `/api`). The name is the file's path in the apps folder without
    /// its ending, parts separated by `/`; what has no place in a path is percent-encoded.
    pub fn of_app(name: &str) -> Result<Self, BadName> {
        let folder = match name.rsplit_once('/') {
            Some((folder, "index")) => folder,
            None if name == "index" => return Ok(Self::root()),
            _ => name,
        };
        let mut path = String::with_capacity(folder.len() + 1);
        for part in folder.split('/') {
            if matches!(part, "" | "." | "..") {
                return Err(BadName::Part);
            }
            path.push('/');
            push_name(&mut path, part).map_err(|_| BadName::Control)?;
        }
        Ok(Self(path))
    }

    /// A mount as written in a configuration: a path, brought into normal form.
    pub fn parse(path: &str) -> Result<Self, BadPath> {
        if !path.starts_with('/') {
            return Err(BadPath::NotAbsolute);
        }
        let mut normal = normalize(path)?.into_owned();
        if normal.len() > 1 && normal.ends_with('/') {
            normal.pop();
        }
        Ok(Self(normal))
    }

    /// `/`, which every path is beneath.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of a normal path that this mount takes: nothing for `/`. Also what `x-forwarded-prefix` says.
    pub fn prefix(&self) -> &str {
        if self.0 == "/" { "" } else { &self.0 }
    }

    /// Whether `other` is this mount or beneath it, on whole segments.
    pub fn covers(&self, other: &Mount) -> bool {
        match other.0.strip_prefix(self.prefix()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
