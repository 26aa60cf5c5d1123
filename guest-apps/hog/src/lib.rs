//! Grows its memory to `?mib=16` MiB, as far as it is let, touches every page of it, and says how
//! far it came: `asked=16MiB has=16MiB refused=false`.

use std::arch::wasm32::{memory_grow, memory_size};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const PAGE: usize = 64 * 1024;
const PAGES_PER_MIB: usize = 16;

struct Hog;

wasip2::http::proxy::export!(Hog);

impl Guest for Hog {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let asked = kit::Query::of(&request).number("mib").unwrap_or(16);
        let wanted = usize::try_from(asked).unwrap_or(usize::MAX).saturating_mul(PAGES_PER_MIB);
        let mut refused = false;
        while memory_size::<0>() < wanted && !refused {
            refused = !add_a_page();
        }
        let has = memory_size::<0>() / PAGES_PER_MIB;
        kit::send_text(out, 200, &format!("asked={asked}MiB has={has}MiB refused={refused}\n"));
    }
}

/// Whether the host gave one more page.
fn add_a_page() -> bool {
    let page = memory_grow::<0>(1);
    if page == usize::MAX {
        return false;
    }
    // SAFETY: the page was just added at the end, and nobody else knows of it.
    unsafe { ((page * PAGE) as *mut u8).write_volatile(1) };
    true
}
