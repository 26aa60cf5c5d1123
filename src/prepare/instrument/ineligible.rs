//! Why an app cannot be put back in place, in words for the person who deploys it.

/// Why [`instrument`](super::instrument) left an app alone. None of these is an error of the app: it is served all the
/// same, by instances that are made anew. Modules are counted from 0, in file order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ineligible {
    #[error("it is a core module; only components can be rewound")]
    CoreModule,
    #[error("not valid for the engine that rewinds: {0}")]
    Invalid(String),
    #[error("core module {module} has the instruction {name}: {why}")]
    Instruction { module: u32, name: String, why: &'static str },
    #[error("core module {module} {what}")]
    Module { module: u32, what: String },
    #[error("it uses the canonical built-in {0}, which has a state of its own")]
    BuiltIn(String),
    #[error("it has {0}")]
    Wiring(String),
    #[error("a component nested in it has {0}; such a component may only pass on what it is given")]
    Nested(String),
    #[error("it exports \"{0}\", a name that rewinding needs for itself")]
    ReservedName(String),
    #[error("it has more than {most} {what} to be put back")]
    TooMuch { what: &'static str, most: usize },
    #[error("rewound it would not be valid any more: {0}")]
    Outgrown(String),
}

impl Ineligible {
    pub(super) fn wiring(what: impl Into<String>) -> Ineligible {
        Ineligible::Wiring(what.into())
    }

    pub(super) fn module(module: u32, what: impl Into<String>) -> Ineligible {
        Ineligible::Module { module, what: what.into() }
    }
}

impl From<wasmparser::Error> for Ineligible {
    fn from(error: wasmparser::Error) -> Ineligible {
        Ineligible::Invalid(super::shown(&error.to_string()))
    }
}
