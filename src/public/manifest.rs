//! What a release knows of its static files: where each copy is, and all that its answers have to say of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use rustix::fs::{FileType, fstat};

use super::tree::{File, Look, Tree, trouble};
use super::{Beneath, Blob, Copies, CopyError, Trouble};
use crate::prepare::{Digest, Hasher};

/// The static files of one release.
#[derive(Debug)]
pub struct Manifest {
    /// By path, without the `/` that it begins with in a request.
    pages: HashMap<Box<str>, Page>,
    digest: Digest,
    size: u64,
}

/// What is served at one path.
#[derive(Debug)]
pub struct Page {
    pub content_type: HeaderValue,
    pub plain: Version,
    /// The same, compressed by whoever made the files.
    pub encoded: Vec<Version>,
}

/// One content of a page.
#[derive(Debug)]
pub struct Version {
    pub encoding: Option<Encoding>,
    pub blob: Arc<Blob>,
    /// Strong: equal for equal bytes of the same encoding, and for nothing else.
    pub etag: HeaderValue,
    /// Whole seconds.
    pub modified: SystemTime,
}

/// How a content is compressed, and how its file is named: `style.css.br` beside `style.css`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Brotli,
    Gzip,
    Zstd,
}

/// One file of a release, copied.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Relative to `public/`, parts joined by `/`.
    pub path: String,
    pub blob: Arc<Blob>,
    pub modified: SystemTime,
}

/// What there is for a request's path.
#[derive(Debug, Clone, Copy)]
pub enum Hit<'m> {
    Page(&'m Page),
    /// A folder that has an index, asked for without the `/` at its end, so that links in it would lead elsewhere.
    Folder,
}

/// Why no manifest could be made.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("public/ changed while it was being read")]
    Changed,
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error("public/{}: {source}", crate::logging::path_text(Path::new(path)))]
    Copy { path: String, source: CopyError },
}

impl Encoding {
    pub const ALL: [Encoding; 3] = [Encoding::Brotli, Encoding::Gzip, Encoding::Zstd];

    /// As HTTP names it.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Encoding::Brotli => ".br",
            Encoding::Gzip => ".gz",
            Encoding::Zstd => ".zst",
        }
    }
}

/// Copies the files of a tree to the place for copies. Blocks on the file system.
///
/// # Errors
///
/// [`ManifestError::Changed`] if a file is no longer what the tree says.
pub fn manifest(public: &Beneath, tree: &Tree, copies: &Copies) -> Result<Manifest, ManifestError> {
    let copied = |file: &File| {
        let blob = copy(public, file, copies)?;
        Ok(Copied { path: file.path.clone(), blob, modified: file.look.changed() })
    };
    Ok(Manifest::of(tree.files.iter().map(copied).collect::<Result<_, ManifestError>>()?))
}

fn copy(public: &Beneath, file: &File, copies: &Copies) -> Result<Arc<Blob>, ManifestError> {
    let path = Path::new(&file.path);
    let open = match public.file(path) {
        Ok(open) => open,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ManifestError::Changed),
        Err(error) => return Err(trouble(path, &error).into()),
    };
    // What was looked at is not what is opened unless it is the same file, in the same state, before and after.
    let unchanged = || {
        let stat = fstat(&open).map_err(|error| trouble(path, &error.into()))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && Look::of(&stat) == file.look { Ok(()) } else { Err(ManifestError::Changed) }
    };
    unchanged()?;
    let blob = copies.keep(&open, file.look.size).map_err(|error| match error {
        CopyError::Changed => ManifestError::Changed,
        source => ManifestError::Copy { path: file.path.clone(), source },
    })?;
    unchanged()?;
    Ok(blob)
}

impl Manifest {
    /// The manifest of these files, in whatever order they are.
    pub fn of(mut files: Vec<Copied>) -> Manifest {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hasher = Hasher::default();
        for file in &files {
            hasher.update(&file.path);
            hasher.update([0]);
            hasher.update(file.blob.digest().as_bytes());
        }
        let by_path: HashMap<&str, &Copied> = files.iter().map(|file| (file.path.as_str(), file)).collect();
        let page = |file: &Copied| {
            let path = file.path.as_str();
            let encoded = |encoding: Encoding| {
                let file = by_path.get(format!("{path}{}", encoding.suffix()).as_str())?;
                Some(Version::new(Some(encoding), file))
            };
            let page = Page {
                content_type: content_type(path),
                plain: Version::new(None, file),
                encoded: Encoding::ALL.into_iter().filter_map(encoded).collect(),
            };
            (Box::from(path), page)
        };
        let size = files.iter().map(|file| file.blob.len()).sum();
        Manifest { pages: files.iter().map(page).collect(), digest: hasher.finish(), size }
    }

    /// The files that it was made of, by path, in no order.
    pub fn copied(&self) -> impl Iterator<Item = (&str, &Version)> {
        self.pages.iter().map(|(path, page)| (&**path, &page.plain))
    }

    /// What is served for a path in normal form, as it is below the app's mount. `index` is what a folder is answered
    /// with.
    pub fn find(&self, path: &str, index: Option<&str>) -> Option<Hit<'_>> {
        let path = file_path(path)?;
        let page = |path: &str| self.pages.get(path).map(Hit::Page);
        if path.is_empty() || path.ends_with('/') {
            return page(&format!("{path}{}", index?));
        }
        let folder = || {
            let index = format!("{path}/{}", index?);
            self.pages.contains_key(index.as_str()).then_some(Hit::Folder)
        };
        page(&path).or_else(folder)
    }

    /// Identifies all paths and contents together.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn files(&self) -> usize {
        self.pages.len()
    }

    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Page {
    /// This page's contents, the plain one first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.plain).chain(&self.encoded)
    }
}

impl Version {
    fn new(encoding: Option<Encoding>, Copied { blob, modified, .. }: &Copied) -> Version {
        let (digest, encoding_name) = (blob.digest().to_string(), encoding.map_or("", Encoding::name));
        let digest = digest.get(..ETAG_DIGITS).unwrap_or_default();
        let dash = if encoding.is_some() { "-" } else { "" };
        let etag = HeaderValue::from_str(&format!("\"{digest}{dash}{encoding_name}\""));
        Version {
            encoding,
            blob: blob.clone(),
            // Hexadecimal digits and a name make a header.
            etag: etag.unwrap_or(HeaderValue::from_static("\"\"")),
            modified: *modified,
        }
    }
}

/// Half of the digest: more than any cache has contents to tell apart.
const ETAG_DIGITS: usize = 32;

/// The file that a path in normal form stands for. This is the path's last reader, so escapes are resolved now; an
/// escaped `/` is no separator, and no name has one in it.
fn file_path(path: &str) -> Option<Cow<'_, str>> {
    let path = path.strip_prefix('/')?;
    if path.contains("%2F") { None } else { percent_decode_str(path).decode_utf8().ok() }
}

fn content_type(path: &str) -> HeaderValue {
    let kind = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    if !kind.starts_with("text/") {
        return HeaderValue::from_static(kind);
    }
    let with_charset = HeaderValue::from_str(&format!("{kind}; charset=utf-8"));
    with_charset.unwrap_or(HeaderValue::from_static(kind))
}

#[cfg(test)]
mod tests;
