//! A file that a long run writes at its end.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

/// Opened at the start, so that what can't be written is known before the run; a file that is there already stays as it
/// is until then.
#[derive(Debug)]
pub enum Output {
    /// Takes the name when it is whole.
    Whole { file: NamedTempFile, path: PathBuf },
    /// A terminal, a pipe: there is nothing to replace.
    Stream { file: File, path: PathBuf },
}

impl Output {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        if std::fs::metadata(path).is_ok_and(|known| !known.is_file()) {
            let file = File::options().write(true).open(path).with_context(cannot)?;
            return Ok(Self::Stream { file, path: path.to_owned() });
        }
        // A link stays one.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".hostler-").permissions(Permissions::from_mode(0o644));
        let file = builder.tempfile_in(folder).with_context(cannot)?;
        Ok(Self::Whole { file, path })
    }

    pub fn write(self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Whole { mut file, path } => {
                let written = file.write_all(text.as_bytes()).map(|()| file.persist(&path));
                written
                    .map_err(anyhow::Error::from)
                    .and_then(|kept| Ok(kept.map(drop)?))
                    .with_context(cannot(&path))
            }
            Self::Stream { mut file, path } => file.write_all(text.as_bytes()).with_context(cannot(&path)),
        }
    }
}

fn cannot(path: &Path) -> impl Fn() -> String {
    move || format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_as_it_is_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, "old").unwrap();
        let output = Output::open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        output.write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        drop(Output::open(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_written_to_and_not_replaced() {
        Output::open(Path::new("/dev/null")).unwrap().write("text").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_folder_that_is_not_there_is_known_at_once() {
        let error = format!("{:#}", Output::open(Path::new("/nowhere/page.html")).unwrap_err());
        assert!(error.starts_with("cannot write /nowhere/page.html: "), "{error}");
    }
}
