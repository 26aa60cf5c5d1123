//! A large app, made here: a command of many functions that answers 204.

/// Bytes that a function has, more or less: as those of compiled languages.
const FUNCTION: usize = 2 << 10;
const LOCALS: u8 = 12;

const I32: u8 = 0x7f;
const MESSAGE: &[u8] = b"Status: 204\n\n";
/// Where in memory: the vector for `fd_write` at 0, the message behind it.
const MESSAGE_AT: u8 = 8;

/// About so many bytes of WebAssembly; another `seed` gives other bytes, so that no code cache knows them.
pub fn large_app(size: usize, seed: usize) -> Vec<u8> {
    let count = size / FUNCTION;
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    // () -> () and (i32, i32, i32, i32) -> i32
    section(&mut bytes, 1, &[&[2, 0x60, 0, 0], &[0x60, 4, I32, I32, I32, I32, 1, I32][..]].concat());
    let import = [&[1][..], &name("wasi_snapshot_preview1"), &name("fd_write"), &[0, 1]].concat();
    section(&mut bytes, 2, &import);
    section(&mut bytes, 3, &[leb(count + 1), vec![0; count + 1]].concat());
    section(&mut bytes, 5, &[1, 0, 1]);
    section(&mut bytes, 7, &[&[2][..], &name("memory"), &[2, 0], &name("_start"), &[0, 1]].concat());
    let mut code = leb(count + 1);
    entry(&mut code, &start());
    for number in 0..count {
        entry(&mut code, &function(seed.wrapping_add(number)));
    }
    section(&mut bytes, 10, &code);
    let vector = [MESSAGE_AT, 0, 0, 0, MESSAGE.len() as u8, 0, 0, 0];
    let data = [&vector[..], MESSAGE].concat();
    section(&mut bytes, 11, &[&[1, 0, 0x41, 0, 0x0b][..], &leb(data.len()), &data].concat());
    bytes
}

/// Writes the message to standard output.
fn start() -> Vec<u8> {
    vec![0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 0x20, 0x10, 0, 0x1a, 0x0b]
}

/// A body that the compiler can't make shorter: blocks that may be left early.
fn function(seed: usize) -> Vec<u8> {
    let mut body = vec![1, LOCALS, I32];
    for step in 0.. {
        if body.len() > FUNCTION {
            break;
        }
        let (x, y) = (step as u8 % LOCALS, (step as u8).wrapping_mul(7) % LOCALS);
        body.extend([0x02, 0x40, 0x20, x, 0x41]);
        // Below 0x40 in its last byte, so that its sign is plus.
        body.extend(leb((seed.wrapping_mul(31) + step) & 0xf_ffff));
        body.extend([0x6a, 0x22, y, 0x20, x, 0x6c, 0x45, 0x0d, 0, 0x20, y, 0x21, x, 0x0b]);
    }
    body.push(0x0b);
    body
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    entry(bytes, content);
}

/// With its length before it.
fn entry(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend(leb(content.len()));
    bytes.extend(content);
}

fn name(name: &str) -> Vec<u8> {
    [leb(name.len()), name.as_bytes().to_vec()].concat()
}

/// Unsigned LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
