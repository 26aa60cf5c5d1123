//! Apps that say which version they are: small commands, so that a test can have as many as it likes.

use std::net::SocketAddr;

use crate::program::{Place, Run};
use crate::support::TestHost;

/// Answers 200 with this text.
pub fn version(text: &str) -> Vec<u8> {
    answering("200 OK", text)
}

/// Answers with this status.
pub fn answering(status: &str, text: &str) -> Vec<u8> {
    printing(&format!("Status: {status}\nContent-Type: text/plain\n\n{text}"))
}

/// A command that prints this.
pub fn printing(output: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) {output:?})
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const {}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        output.len()
    );
    wat::parse_str(text).expect("a module")
}

/// Runs `body` and answers nothing.
pub fn running(body: &str) -> Vec<u8> {
    let text = format!(r#"(module (memory (export "memory") 1) (func (export "_start") {body}))"#);
    wat::parse_str(text).expect("a module")
}

pub fn admin(host: &TestHost) -> SocketAddr {
    host.host().admin_address().expect("an admin listener")
}

/// Runs the program with this host's admin listener.
pub async fn order(host: &TestHost, args: &[&str]) -> Run {
    let admin = admin(host).to_string();
    Place::new().run(&[args, &["--admin", &admin]].concat(), &[]).await
}

impl TestHost {
    /// Puts a version of an app into the folder and waits until it is live.
    pub async fn deploy(&self, app: &str, text: &str) {
        self.put(&format!("{app}.wasm"), version(text));
        self.serves(app, text).await;
    }

    /// Waits until an app answers this.
    pub async fn serves(&self, app: &str, text: &str) {
        self.get_until(&format!("/{app}"), text, |answer| answer.status == 200 && answer.text() == text)
            .await;
    }
}
