//! The canaries: three guests that look at each kind of state that a guest can see, say what they find, and leave a mark.

use std::fmt;
use std::ops::RangeInclusive;

use crate::engine::EngineKind;
use crate::prepare::Kind;

/// Host pages have 4 KiB or more; a mark in each is enough where there are many.
const HOST_PAGE: usize = 4 << 10;

/// Pages of linear memory up to which every word of it is looked at.
const EVERY_WORD: u32 = 64;

/// Wasm pages that a canary adds to its memory for each request.
const GROWN: u32 = 2;

/// Pages that a canary's memory may have: its own first two, and as many as 32 bits can address, nearly.
const PAGES: RangeInclusive<u32> = 4..=32_000;

/// What of the common state can't be put back in place: a guest that does it is not rewound.
const NOT_PUT_BACK: [&str; 3] = [
    "(drop (table.grow $table (ref.func $leave_marks) (i32.const 3)))",
    "(data.drop $passive)",
    "(elem.drop $elements)",
];

/// Bytes of a page of linear memory.
const PAGE: usize = 64 << 10;

/// What a canary is: each has its own ways to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A WASI 0.1 core module with one memory.
    Module,
    /// A component of two core instances, each with a memory.
    Component,
    /// A wasi:http 0.2 component, which can be put back in place.
    Service,
}

/// A guest of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    pub shape: Shape,
    /// Pages of each of its memories before it grows them.
    pages: u32,
}

impl Shape {
    pub const ALL: [Shape; 3] = [Shape::Module, Shape::Component, Shape::Service];

    /// Those that an engine of this kind can have.
    pub fn of(engine: EngineKind) -> &'static [Shape] {
        match engine {
            EngineKind::Rewound => &[Shape::Service],
            EngineKind::Plain | EngineKind::Concurrent => &Shape::ALL,
        }
    }

    /// Memories that it has.
    fn memories(self) -> u32 {
        match self {
            Shape::Module | Shape::Service => 1,
            Shape::Component => 2,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Module => "core module",
            Shape::Component => "component",
            Shape::Service => "wasi:http component",
        })
    }
}

impl Canary {
    /// With so many pages of memory, or the nearest number that it can have.
    pub fn new(shape: Shape, pages: u32) -> Canary {
        Canary { shape, pages: pages.clamp(*PAGES.start(), *PAGES.end()) }
    }

    pub fn kind(&self) -> Kind {
        match self.shape {
            Shape::Module => Kind::CommandModule,
            Shape::Component => Kind::CommandComponent,
            Shape::Service => Kind::Http02,
        }
    }

    /// Bytes of linear memory that a request needs.
    pub fn memory(&self) -> usize {
        (self.pages + GROWN) as usize * PAGE * self.shape.memories() as usize
    }

    /// Its text.
    pub fn wat(&self) -> String {
        let glue = match self.shape {
            Shape::Module => include_str!("canary/module.wat"),
            Shape::Component => include_str!("canary/component.wat"),
            Shape::Service => include_str!("canary/service.wat"),
        };
        let stride = self.stride();
        let mut state = include_str!("canary/state.wat").to_owned();
        if self.shape == Shape::Service {
            for left_out in NOT_PUT_BACK {
                state = state.replace(left_out, "");
            }
        }
        glue.replace("STATE)", &format!("{state})"))
            .replace("PAGES", &self.pages.to_string())
            .replace("STRIDE", &stride.to_string())
            .replace("LESS", &(stride - 1).to_string())
            .replace("MASK", &format!("-{stride}"))
    }

    /// Its bytes.
    ///
    /// # Errors
    /// None with the texts that are built in.
    pub fn wasm(&self) -> Result<Vec<u8>, wat::Error> {
        wat::parse_str(self.wat())
    }

    /// What a clean instance says of itself, whatever the request and the machine.
    pub(super) fn clean(&self) -> Vec<String> {
        let words = [
            ("pages", u64::from(self.pages)),
            ("image", u64::from_le_bytes(*b"image123")),
            ("memory", 0),
            ("grown", 0),
            ("i32", 1),
            ("i64", 2),
            ("f32", u64::from(3_f32.to_bits())),
            ("f64", 4_f64.to_bits()),
            ("v128", 5 ^ 6),
            ("ref", 1),
            ("table", 1),
            ("tsize", 8),
            ("other", 0),
            ("start", 0x101),
            ("data", u64::from_le_bytes(*b"passive!")),
        ];
        words.iter().map(|(name, value)| format!("{name}={value:016x}")).collect()
    }

    fn stride(&self) -> usize {
        if self.pages <= EVERY_WORD { size_of::<u64>() } else { HOST_PAGE }
    }
}

/// What a canary said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What has to be the same in every instance.
    words: Vec<String>,
    /// Random numbers, which have to differ in all.
    pub random: Vec<String>,
    /// The wall clock, nanoseconds since 1970.
    pub clock: Vec<u64>,
}

impl Sighting {
    pub fn parse(answer: &str) -> Sighting {
        let mut sighting = Sighting { words: Vec::new(), random: Vec::new(), clock: Vec::new() };
        for word in answer.split_whitespace() {
            match word.split_once('=') {
                Some(("random", value)) => sighting.random.push(value.to_owned()),
                Some(("clock", value)) => {
                    sighting.clock.push(u64::from_str_radix(value, 16).unwrap_or(0));
                }
                _ => sighting.words.push(word.to_owned()),
            }
        }
        sighting
    }

    /// What is not as a new instance of this canary has it. `first`: what the first one said, of that which depends
    /// on the request.
    pub(super) fn difference(&self, canary: &Canary, first: &Sighting) -> Option<String> {
        let clean = canary.clean();
        let name = |word: &str| word.split('=').next().unwrap_or(word).to_owned();
        let expected: Vec<String> = first
            .words
            .iter()
            .map(|word| clean.iter().find(|clean| name(clean) == name(word)).unwrap_or(word).clone())
            .collect();
        if self.words.len() != expected.len() {
            return Some(format!("{:?} where {:?} was expected", self.words.join(" "), expected.join(" ")));
        }
        let differing = self.words.iter().zip(&expected).filter(|(seen, expected)| seen != expected);
        let texts: Vec<String> =
            differing.map(|(seen, expected)| format!("{seen} instead of {expected}")).collect();
        if texts.is_empty() { None } else { Some(texts.join(", ")) }
    }
}
