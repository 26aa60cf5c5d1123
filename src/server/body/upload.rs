//! A request's body on its way to a guest, and what became of it: who has to answer for a guest that fails is told the
//! client's doing from the app's by that.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::RequestError;

/// What became of a body that a guest reads while it comes.
#[derive(Debug, Default)]
pub struct Upload {
    is_awaited: AtomicBool,
    broke: AtomicBool,
    fault: Mutex<Option<RequestError>>,
}

impl Upload {
    /// The guest has asked for more than the client has sent.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Relaxed)
    }

    /// It ended before its end.
    pub fn is_broken(&self) -> bool {
        self.broke.load(Relaxed)
    }

    /// Why it ended before its end. It is told once.
    pub fn take_fault(&self) -> Option<RequestError> {
        self.fault.lock().take()
    }
}

/// The body that is given to the guest.
#[derive(Debug)]
pub struct Uploading<B, E> {
    body: B,
    upload: Arc<Upload>,
    tell: fn(&RequestError) -> E,
}

impl<B, E> Uploading<B, E> {
    /// `tell`: what a guest is told of an error.
    pub fn new(body: B, upload: Arc<Upload>, tell: fn(&RequestError) -> E) -> Self {
        Self { body, upload, tell }
    }
}

impl<B, E> Body for Uploading<B, E>
where
    B: Body<Data = Bytes, Error = RequestError> + Unpin,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let me = self.get_mut();
        let polled = Pin::new(&mut me.body).poll_frame(cx);
        me.upload.is_awaited.store(polled.is_pending(), Relaxed);
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map_err(|error| {
                    // Before the guest knows of it: it may fail at once.
                    let told = (me.tell)(&error);
                    *me.upload.fault.lock() = Some(error);
                    me.upload.broke.store(true, Relaxed);
                    told
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, E> Drop for Uploading<B, E> {
    fn drop(&mut self) {
        self.upload.is_awaited.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::super::{RequestBody, ResponseBody, Sender, channel};
    use super::*;

    type Streamed = Uploading<RequestBody<ResponseBody>, String>;

    fn uploading() -> (Sender, Streamed, Arc<Upload>) {
        let (sender, receiver) = channel(1 << 10);
        let body = RequestBody::new(ResponseBody::stream(receiver, None), 100, Duration::from_secs(1));
        let upload = Arc::new(Upload::default());
        (sender, Uploading::new(body.unwrap(), upload.clone(), RequestError::to_string), upload)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_whether_the_client_owes_bytes() {
        let (mut sender, mut body, upload) = uploading();
        assert!(!upload.is_awaited(), "nobody has asked");
        assert!(tokio::time::timeout(Duration::from_millis(1), body.frame()).await.is_err());
        assert!(upload.is_awaited());
        sender.queue("abc".into()).unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(!upload.is_awaited());
        assert!(tokio::time::timeout(Duration::from_millis(1), body.frame()).await.is_err());
        drop(body);
        assert!(!upload.is_awaited(), "nobody wants them any more");
        assert!(!upload.is_broken());
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_left_behind_and_an_end_is_none() {
        let (sender, mut body, upload) = uploading();
        sender.finish(None);
        assert!(body.frame().await.is_none());
        assert!(!upload.is_broken() && upload.take_fault().is_none());

        let (sender, mut body, upload) = uploading();
        sender.abort("cut off");
        let told = body.frame().await.unwrap().unwrap_err();
        assert!(told.contains("malformed"), "{told}");
        assert!(matches!(upload.take_fault(), Some(RequestError::Broken(_))));
        assert!(upload.is_broken() && upload.take_fault().is_none());

        let (_sender, mut body, upload) = uploading();
        body.frame().await.unwrap().unwrap_err();
        assert!(matches!(upload.take_fault(), Some(RequestError::TooSlow)));
        assert!(!upload.is_awaited());
    }
}
