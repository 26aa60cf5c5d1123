//! Deploys while all else goes on.

use super::Seen;
use super::good::get;
use crate::support::{TestHost, guest};

/// Apps that are deployed again and again; the good among them are served on.
const REDEPLOYED: [&str; 4] = ["counter", "hello", "sleeper", "stream"];

/// So many in a row are one of each kind.
pub const KINDS: usize = REDEPLOYED.len() + 2;

/// One deploy of some kind, and waits for what comes of it.
pub async fn deploy(host: &TestHost, version: usize, seen: &Seen) {
    match version % KINDS {
        4 => {
            come_and_go(host).await;
            seen.note("deploy of an app that comes and goes");
        }
        5 => {
            fail(host).await;
            seen.note("deploy that fails");
        }
        kind => {
            redeploy(host, REDEPLOYED[kind], version).await;
            seen.note("deploy of another version");
        }
    }
}

/// Puts another version of an app in place by a rename, and waits until it is live.
async fn redeploy(host: &TestHost, app: &str, version: usize) {
    let before = host.release(app);
    let mut bytes = std::fs::read(guest(app)).expect("the guest");
    // A custom section without content makes other bytes of the same program. Few versions, to be found in the cache.
    bytes.extend([0, 2, 1, b'a' + u8::try_from(version % 8).expect("a small number")]);
    host.put(&format!("{app}.wasm"), bytes);
    host.until(&format!("the new version of {app} is live"), || host.release(app) > before).await;
}

async fn come_and_go(host: &TestHost) {
    host.put_app("guest", "hello");
    host.until("the app is live", || host.release("guest") > 0).await;
    assert_eq!(get(host, "/guest").await.text(), "Hello from Hostler!\n");
    host.remove("guest.wasm");
    host.until("the app is gone", || host.find("guest").is_none()).await;
    assert_eq!(get(host, "/guest").await.status, 404);
}

/// What can't be served takes nothing down.
async fn fail(host: &TestHost) {
    host.put("bad.wasm", b"no program");
    host.until("the file is refused", || !host.problem("bad").is_empty()).await;
    host.remove("bad.wasm");
    host.until("its problem is gone with it", || host.find("bad").is_none()).await;
}
