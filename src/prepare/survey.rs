//! One pass over an app's structure: the facts that are shown, and the names that its kind is decided from.

use std::fmt;

use serde::Serialize;
use wasmparser::{ComponentExternalKind, Encoding, Instance, MemoryType, Parser, Payload, TableType};

use super::nesting;
use super::refusal::{Reason, shown};

/// Names of imports and exports that are kept for showing.
const LISTED: usize = 200;
/// Imports, exports, memories and tables that one app may have, each counted over the whole file.
const COUNTED: usize = 100_000;

/// What an app is made of. Counts are of what the file defines, nested components included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub format: Format,
    /// Bytes of the file.
    pub size: u64,
    /// Core modules defined.
    pub core_modules: u32,
    /// Core module instantiations written down; 1 for a core module. A nested component that is instantiated several
    /// times makes more of them.
    pub core_instances: u32,
    /// Memories defined, in file order.
    pub memories: Vec<Memory>,
    /// Tables defined, in file order.
    pub tables: Vec<Table>,
    pub imports: Listed,
    pub exports: Listed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Format {
    #[serde(rename = "core module")]
    Module,
    #[serde(rename = "component")]
    Component,
}

/// One linear memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// In pages.
    pub min_pages: u64,
    /// In pages; `None` when the app sets no bound.
    pub max_pages: Option<u64>,
    /// In bytes.
    pub page_size: u32,
    pub memory64: bool,
}

/// One table; sizes in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Table {
    pub min: u64,
    pub max: Option<u64>,
}

/// Names for showing: escaped, and not more of them than a page takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// How many there are in all.
    pub total: usize,
    /// The first of them, in file order.
    pub names: Vec<String>,
}

/// The facts, and the outermost imports and exports with the names borrowed from the file.
pub struct Survey<'a> {
    pub format: Format,
    /// A core module's imports; empty for a component.
    pub core_imports: Vec<(&'a str, &'a str)>,
    /// A core module's exports, of any sort.
    pub core_exports: Vec<&'a str>,
    /// A component's imports.
    pub imports: Vec<&'a str>,
    /// A component's exports; the flag is true for an instance.
    pub exports: Vec<(&'a str, bool)>,
    core_modules: u32,
    core_instances: u32,
    memories: Vec<Memory>,
    tables: Vec<Table>,
}

/// Takes the survey of a whole, well-tiled file.
pub fn take(bytes: &[u8]) -> Result<Survey<'_>, Reason> {
    let mut survey = Survey {
        format: Format::Module,
        core_imports: Vec::new(),
        core_exports: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        core_modules: 0,
        core_instances: 0,
        memories: Vec::new(),
        tables: Vec::new(),
    };
    let mut depth: usize = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::ComponentTypeSection(section) => nesting::look(bytes, &section.range())?,
            Payload::Version { encoding, .. } => {
                survey.enter(*encoding, depth);
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        survey.count(&payload)?;
        if depth == 1 {
            survey.name(payload)?;
        }
    }
    Ok(survey)
}

impl<'a> Survey<'a> {
    pub fn into_facts(self, size: u64) -> Facts {
        let imports = match self.format {
            Format::Module => {
                Listed::of(self.core_imports.iter().map(|(module, name)| format!("{module} {name}")))
            }
            Format::Component => Listed::of(self.imports.iter().map(|name| (*name).to_owned())),
        };
        let exports = match self.format {
            Format::Module => Listed::of(self.core_exports.iter().map(|name| (*name).to_owned())),
            Format::Component => Listed::of(self.exports.iter().map(|(name, _)| (*name).to_owned())),
        };
        // A core module on its own is instantiated once.
        let core_instances = if self.format == Format::Module { 1 } else { self.core_instances };
        Facts {
            format: self.format,
            size,
            core_modules: self.core_modules,
            core_instances,
            memories: self.memories,
            tables: self.tables,
            imports,
            exports,
        }
    }

    fn enter(&mut self, encoding: Encoding, depth: usize) {
        match encoding {
            Encoding::Module => self.core_modules = self.core_modules.saturating_add(1),
            Encoding::Component if depth == 0 => self.format = Format::Component,
            Encoding::Component => {}
        }
    }

    /// What counts at every depth.
    fn count(&mut self, payload: &Payload<'a>) -> Result<(), Reason> {
        match payload {
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    push(&mut self.memories, memory?.into(), "memories")?;
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    push(&mut self.tables, table?.ty.into(), "tables")?;
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    if let Instance::Instantiate { .. } = instance? {
                        self.core_instances = self.core_instances.saturating_add(1);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What names the outermost module or component to the outside.
    fn name(&mut self, payload: Payload<'a>) -> Result<(), Reason> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    push(&mut self.core_imports, (import.module, import.name), "imports")?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    push(&mut self.core_exports, export?.name, "exports")?;
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    push(&mut self.imports, import?.name.name, "imports")?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    let instance = export.kind == ComponentExternalKind::Instance;
                    push(&mut self.exports, (export.name.name, instance), "exports")?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Appends within the bound: a short section may claim very many items.
fn push<T>(list: &mut Vec<T>, item: T, what: &str) -> Result<(), Reason> {
    if list.len() >= COUNTED {
        return Err(Reason::Invalid(format!("more than {COUNTED} {what}")));
    }
    list.push(item);
    Ok(())
}

impl Listed {
    fn of(names: impl ExactSizeIterator<Item = String>) -> Listed {
        Listed { total: names.len(), names: names.take(LISTED).map(|name| shown(&name)).collect() }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Module => "core module",
            Format::Component => "component",
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages", self.min_pages)?;
        match self.max_pages {
            Some(max) => write!(f, ", at most {max}")?,
            None => write!(f, ", no maximum")?,
        }
        write!(f, ", of {} bytes{}", self.page_size, if self.memory64 { ", 64-bit" } else { "" })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) => write!(f, "{} elements, at most {max}", self.min),
            None => write!(f, "{} elements, no maximum", self.min),
        }
    }
}

/// One indented line for each name.
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.names {
            writeln!(f, "  {name}")?;
        }
        match self.total.saturating_sub(self.names.len()) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

impl From<MemoryType> for Memory {
    fn from(ty: MemoryType) -> Memory {
        // The validator has not spoken yet: the page size's exponent may be anything.
        let page_size = 1u32.checked_shl(ty.page_size_log2()).unwrap_or(0);
        Memory { min_pages: ty.initial, max_pages: ty.maximum, page_size, memory64: ty.memory64 }
    }
}

impl From<TableType> for Table {
    fn from(ty: TableType) -> Table {
        Table { min: ty.initial, max: ty.maximum }
    }
}
