//! Opening what is beneath a folder, and nothing else, whatever the links in it say and whoever changes them meanwhile.
//!
//! The kernel does it in one step (`openat2` with `RESOLVE_BENEATH`). Older kernels and some sandboxes have no such call.
//! There a file is pinned first, without opening it for reading (`O_PATH`), then where it really is decides, and then
//! the very same one is opened.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

/// A folder that was opened once.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    way: Way,
}

/// How links are kept inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel resolves beneath the folder.
    Kernel,
    /// What a path has led to is checked.
    Checked,
}

/// How often a path is resolved again that others were renaming meanwhile.
const MAX_RACES: usize = 16;

impl Beneath {
    /// Opens a folder by its path.
    pub fn open(folder: &Path) -> io::Result<Beneath> {
        let root = openat(CWD, folder, FOLDER | OFlags::CLOEXEC, Mode::empty())?;
        let way = match openat2(&root, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), RESOLVE) {
            Ok(_) => Way::Kernel,
            // Not there, or forbidden by a sandbox that knows no better.
            Err(_) => Way::Checked,
        };
        Ok(Beneath { root, way })
    }

    /// The same, kept inside in this way.
    pub fn by(self, way: Way) -> Beneath {
        Beneath { way, ..self }
    }

    /// A folder beneath this one, as the root of what is beneath it.
    pub fn beneath(&self, path: &Path) -> io::Result<Beneath> {
        Ok(Beneath { root: self.resolve(path, FOLDER)?, way: self.way })
    }

    /// A folder beneath this one, to be listed.
    pub fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, FOLDER)
    }

    /// A file beneath this one, for reading. Never waits for a FIFO's other end; what it is, is the caller's to check.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
    }

    /// What is there, links followed, without opening it.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(fstat(self.resolve(path, OFlags::PATH)?)?)
    }

    /// True for an error of a path that leads out.
    pub fn leads_out(error: &io::Error) -> bool {
        error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        match self.way {
            Way::Kernel => {
                for _ in 0..MAX_RACES {
                    match openat2(&self.root, path, flags, Mode::empty(), RESOLVE) {
                        Err(Errno::AGAIN) => {}
                        other => return Ok(other?),
                    }
                }
                Err(Errno::AGAIN.into())
            }
            Way::Checked => {
                if path.is_absolute() {
                    return Err(Errno::XDEV.into());
                }
                let pinned = openat(&self.root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                if !place(pinned.as_fd())?.starts_with(place(self.root.as_fd())?) {
                    return Err(Errno::XDEV.into());
                }
                if flags.contains(OFlags::PATH) {
                    return Ok(pinned);
                }
                Ok(openat(CWD, in_proc(pinned.as_fd()), flags, Mode::empty())?)
            }
        }
    }
}

impl AsFd for Beneath {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Where an open file really is.
fn place(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(in_proc(file))
}

fn in_proc(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder, opened in both ways.
    fn both(folder: &Path) -> [Beneath; 2] {
        [Way::Kernel, Way::Checked].map(|way| Beneath::open(folder).expect("a folder").by(way))
    }

    fn read(beneath: &Beneath, path: &str) -> io::Result<String> {
        io::read_to_string(beneath.file(Path::new(path))?)
    }

    #[test]
    fn the_kernel_is_asked_where_it_can() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Beneath::open(folder.path()).expect("a folder").way, Way::Kernel);
    }

    #[test]
    fn links_are_followed_inside_and_nowhere_else() {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("secret"), "secret").expect("written");
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("css/deep")).expect("created");
        fs::write(at("css/a"), "a").expect("written");
        symlink("a", at("css/link")).expect("linked");
        symlink("../../css/a", at("css/deep/up")).expect("linked");
        symlink("css", at("styles")).expect("linked");
        symlink(outside.path().join("secret"), at("absolute")).expect("linked");
        symlink(outside.path(), at("folder")).expect("linked");
        let name = outside.path().file_name().expect("a name");
        symlink(Path::new("..").join(name).join("secret"), at("relative")).expect("linked");
        symlink("/proc/self/root/etc/passwd", at("magic")).expect("linked");
        fs::write(at("above"), "above").expect("written");
        symlink("../above", at("css/out")).expect("linked");
        for beneath in both(folder.path()) {
            for path in ["css/a", "css/link", "css/deep/up", "styles/a", "styles/deep/up"] {
                assert_eq!(read(&beneath, path).expect("inside"), "a", "{path} {:?}", beneath.way);
            }
            for path in ["absolute", "relative", "folder/secret", "magic", "../x", "/etc/passwd"] {
                assert!(read(&beneath, path).is_err(), "{path} {:?}", beneath.way);
                assert!(beneath.stat(Path::new(path)).is_err(), "{path} {:?}", beneath.way);
            }
            for path in ["absolute", "relative", "folder/secret", "/etc/passwd"] {
                let error = read(&beneath, path).expect_err("outside");
                assert!(Beneath::leads_out(&error), "{path} {:?}: {error}", beneath.way);
            }
            let css = beneath.beneath(Path::new("css")).expect("a folder");
            assert_eq!(read(&css, "link").expect("inside"), "a");
            assert_eq!(read(&beneath, "css/out").expect("inside"), "above");
            assert!(read(&css, "out").is_err(), "what is beneath begins at the new root");
        }
    }

    #[test]
    fn nothing_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        let _socket = UnixListener::bind(folder.path().join("socket")).expect("bound");
        for beneath in both(folder.path()) {
            let file = beneath.file(Path::new("fifo")).expect("opened at once");
            assert!(!file.metadata().expect("metadata").is_file());
            assert!(beneath.file(Path::new("socket")).is_err());
        }
    }
}
