//! An app that is made to take long to compile.

/// A valid command whose one function is about as large as a function may be.
pub fn slow_app() -> Vec<u8> {
    slow_app_of(0)
}

/// The same with other bytes.
pub fn slow_app_of(number: usize) -> Vec<u8> {
    let mut body = vec![0x01, LOCALS, I32];
    for step in 0..STEPS {
        let (x, y) = (step as u8 % LOCALS, (step as u8).wrapping_mul(7) % LOCALS);
        // A block that may be left early, so that what a local holds is never known: if y = x + n, y * x is zero, x = y.
        body.extend([0x02, 0x40, 0x20, x, 0x41]);
        body.extend(leb(number + step));
        body.extend([0x6a, 0x22, y, 0x20, x, 0x6c, 0x45, 0x0d, 0x00]);
        body.extend([0x20, y, 0x21, x, 0x0b]);
    }
    body.push(0x0b);
    module(&body)
}

const LOCALS: u8 = 60;
const I32: u8 = 0x7f;
const STEPS: usize = 300_000;

/// A core module with this body of `_start`.
fn module(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0".to_vec();
    let entry = [leb_unsigned(body.len()), body.to_vec()].concat();
    let section = [leb_unsigned(1), entry].concat();
    bytes.push(0x0a);
    bytes.extend(leb_unsigned(section.len()));
    bytes.extend(section);
    bytes
}

/// A positive number as signed LEB128.
fn leb(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = number;
    while left >= 0x40 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn leb_unsigned(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = number;
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}
