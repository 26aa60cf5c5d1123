//! The body of a static file's answer. A small file is in memory and goes out in one piece. Of a large one a block is
//! read when the connection wants more, off the threads that serve: a slow reader holds an open file and at most one
//! block.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::public::Blob;
use crate::public::copies::OpenBlob;
use crate::release::Release;
use crate::server::body::ResponseBody;

/// Bytes of one read.
const BLOCK: u64 = 128 << 10;

/// These bytes of a release's file.
pub async fn body(release: &Release, blob: &Arc<Blob>, part: Range<u64>) -> io::Result<ResponseBody> {
    if part.is_empty() {
        return Ok(ResponseBody::empty());
    }
    if let Some(bytes) = blob.bytes() {
        let [start, end] = [part.start, part.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        // A part is always within its blob; a body of another length would be seen as broken.
        return Ok(ResponseBody::fixed(bytes.slice(start.min(bytes.len())..end.min(bytes.len()))));
    }
    let blob = blob.clone();
    let file = spawn_blocking(move || blob.open()).await??;
    let len = part.end.saturating_sub(part.start);
    let download = Download {
        file: Arc::new(file),
        left: part,
        reading: None,
        expired: release.expired.clone(),
        _counted: release.downloads.token(),
    };
    Ok(ResponseBody::boxed(download, Some(len)))
}

/// A file that is being sent. Its release waits for it when it is replaced, for a while.
struct Download {
    file: Arc<OpenBlob>,
    left: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    expired: CancellationToken,
    _counted: TaskTrackerToken,
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let me = self.get_mut();
        if me.left.is_empty() {
            return Poll::Ready(None);
        }
        // Seen at the next read: a client that doesn't read at all is the connection's to end.
        if me.expired.is_cancelled() {
            let outlived = "the release was replaced, and drain_timeout is over";
            return Poll::Ready(Some(Err(io::Error::other(outlived))));
        }
        let (file, start) = (&me.file, me.left.start);
        let len = me.left.end.saturating_sub(start).min(BLOCK);
        let reading = me.reading.get_or_insert_with(|| {
            let file = file.clone();
            spawn_blocking(move || file.read_at(start, usize::try_from(len).unwrap_or(0)))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        me.reading = None;
        let bytes = match read.map_err(io::Error::other).flatten() {
            Ok(bytes) => bytes,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        me.left.start = start.saturating_add(bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end.saturating_sub(self.left.start))
    }
}
