//! One core module: what state its instances have, and the same module with that state exported.

use std::ops::Range;

use wasm_encoder as enc;
use wasmparser::{
    BinaryReader, CompositeInnerType, Export, ExportSectionReader, ExternalKind, GlobalType, MemoryType,
    Operator, Payload, RefType, SubType, TableType, TypeRef, ValType,
};

use super::operators::{Effect, effect};
use super::{Ineligible, MOST};

/// Exports under such names are ours.
const RESERVED: &str = "hostler:";
pub const MEMORY: &str = "hostler:memory";

pub fn global_name(index: u32) -> String {
    format!("hostler:global-{index}")
}

pub fn table_name(index: u32) -> String {
    format!("hostler:table-{index}")
}

/// What one pass over a module has found.
#[derive(Debug, Default)]
pub struct Module {
    number: u32,
    sections: Vec<(u8, Range<usize>)>,
    /// Of each kind, imported ones first: as many as the module's own index spaces have.
    globals_seen: u32,
    tables_seen: u32,
    tables_imported: u32,
    memories_seen: u32,
    /// Index of the memory that the module defines.
    pub memory: Option<u32>,
    /// The mutable globals that the module defines. Imported ones are some other instance's.
    pub globals: Vec<(u32, enc::ValType)>,
    /// The tables that the module defines.
    pub tables: Vec<u32>,
    /// Indices of tables that its code writes, imported ones among them; sorted, each once.
    written: Vec<u32>,
}

impl Module {
    pub fn new(number: u32) -> Module {
        Module { number, ..Module::default() }
    }

    /// Writes a table that some other module may have defined.
    pub fn writes_imported_table(&self) -> bool {
        self.written.first().is_some_and(|table| *table < self.tables_imported)
    }

    pub fn writes_table(&self, table: u32) -> bool {
        self.written.binary_search(&table).is_ok()
    }

    /// Takes in one piece of the module, or refuses it.
    pub fn take(&mut self, payload: &Payload<'_>) -> Result<(), Ineligible> {
        if let Some(section) = payload.as_section() {
            self.sections.push(section);
        }
        match payload {
            Payload::TypeSection(section) => section
                .clone()
                .into_iter()
                .try_for_each(|group| group?.types().try_for_each(|ty| self.ty(ty))),
            Payload::ImportSection(section) => {
                section.clone().into_imports().try_for_each(|import| self.import(import?.ty))
            }
            Payload::TableSection(section) => {
                section.clone().into_iter().try_for_each(|table| self.table(&table?.ty))
            }
            Payload::MemorySection(section) => {
                section.clone().into_iter().try_for_each(|memory| self.memory(&memory?))
            }
            Payload::GlobalSection(section) => {
                section.clone().into_iter().try_for_each(|global| self.global(&global?.ty))
            }
            Payload::ExportSection(section) => {
                section.clone().into_iter().try_for_each(|export| self.export(&export?))
            }
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    self.operator(&operators.read()?)?;
                }
                Ok(())
            }
            // A start function has run before the instance is first ready. Passive segments stay as they are when
            // nothing drops them, active ones have been dropped by then, and for good.
            Payload::Version { .. }
            | Payload::FunctionSection(_)
            | Payload::StartSection { .. }
            | Payload::ElementSection(_)
            | Payload::DataCountSection { .. }
            | Payload::DataSection(_)
            | Payload::CodeSectionStart { .. }
            | Payload::CustomSection(_)
            | Payload::End(_) => Ok(()),
            Payload::TagSection(_) => {
                self.refuse("has exceptions, which live in a heap that is not put back")
            }
            other => self.refuse(format!("has a section that is not known ({})", super::first_word(other))),
        }
    }

    /// Types have no state, but objects of the others would live in a heap that is not put back.
    fn ty(&self, ty: &SubType) -> Result<(), Ineligible> {
        let function = matches!(ty.composite_type.inner, CompositeInnerType::Func(_));
        if function && !ty.composite_type.shared {
            Ok(())
        } else {
            self.refuse("has a type that is no function")
        }
    }

    fn export(&self, export: &Export<'_>) -> Result<(), Ineligible> {
        match export.kind {
            _ if export.name.starts_with(RESERVED) => {
                Err(Ineligible::ReservedName(super::shown(export.name)))
            }
            ExternalKind::Func | ExternalKind::Table | ExternalKind::Memory | ExternalKind::Global => Ok(()),
            ExternalKind::Tag | ExternalKind::FuncExact => {
                self.refuse("exports what is no function, table, memory or global")
            }
        }
    }

    fn import(&mut self, ty: TypeRef) -> Result<(), Ineligible> {
        match ty {
            TypeRef::Func(_) => Ok(()),
            // What is imported is what some instance of this component defines: components get nothing but functions
            // from the host.
            TypeRef::Global(ty) => {
                self.globals_seen += 1;
                self.value(&ty).map(|_| ())
            }
            TypeRef::Table(ty) => {
                self.tables_seen += 1;
                self.tables_imported += 1;
                self.elements(&ty)
            }
            TypeRef::Memory(ty) => self.one_memory(&ty),
            TypeRef::Tag(_) => self.refuse("has exceptions, which live in a heap that is not put back"),
            TypeRef::FuncExact(_) => self.refuse("imports a function of an exact type"),
        }
    }

    fn global(&mut self, ty: &GlobalType) -> Result<(), Ineligible> {
        let (index, value) = (self.globals_seen, self.value(ty)?);
        self.globals_seen += 1;
        if ty.mutable {
            self.globals.push((index, value));
        }
        if self.globals.len() > MOST {
            Err(Ineligible::TooMuch { what: "globals", most: MOST })
        } else {
            Ok(())
        }
    }

    fn table(&mut self, ty: &TableType) -> Result<(), Ineligible> {
        self.elements(ty)?;
        self.tables.push(self.tables_seen);
        self.tables_seen += 1;
        if self.tables.len() > MOST {
            Err(Ineligible::TooMuch { what: "tables", most: MOST })
        } else {
            Ok(())
        }
    }

    fn memory(&mut self, ty: &MemoryType) -> Result<(), Ineligible> {
        self.memory = Some(self.memories_seen);
        self.one_memory(ty)
    }

    /// One memory for each module, since the engines have no more; 32-bit ones, since the sizes are compared as such.
    fn one_memory(&mut self, ty: &MemoryType) -> Result<(), Ineligible> {
        self.memories_seen += 1;
        match () {
            () if self.memories_seen > 1 => self.refuse("has several memories"),
            () if ty.shared => self.refuse("has a memory that is shared between threads"),
            () if ty.memory64 => self.refuse("has a 64-bit memory"),
            () if ty.page_size_log2.is_some() => self.refuse("has a memory with a page size of its own"),
            () => Ok(()),
        }
    }

    /// A global's value, if it is one that another global can hold a copy of.
    ///
    /// A function reference in a global or table is a pointer to what Wasmtime makes once for each function of an
    /// instance and keeps as long as the store, so a copy of it stays good.
    fn value(&self, ty: &GlobalType) -> Result<enc::ValType, Ineligible> {
        if ty.shared {
            return self.refuse("has a global that is shared between threads");
        }
        match ty.content_type {
            ValType::I32 => Ok(enc::ValType::I32),
            ValType::I64 => Ok(enc::ValType::I64),
            ValType::F32 => Ok(enc::ValType::F32),
            ValType::F64 => Ok(enc::ValType::F64),
            ValType::V128 => Ok(enc::ValType::V128),
            ValType::Ref(ty) if ty == RefType::FUNCREF => Ok(enc::ValType::FUNCREF),
            ValType::Ref(ty) => self.refuse(format!("has a global of type {ty}")),
        }
    }

    fn elements(&self, ty: &TableType) -> Result<(), Ineligible> {
        match () {
            () if ty.shared => self.refuse("has a table that is shared between threads"),
            () if ty.table64 => self.refuse("has a 64-bit table"),
            () if ty.element_type != RefType::FUNCREF => {
                self.refuse(format!("has a table of type {}", ty.element_type))
            }
            () => Ok(()),
        }
    }

    fn operator(&mut self, operator: &Operator<'_>) -> Result<(), Ineligible> {
        if let Effect::WritesTable(table) = effect(self.number, operator)?
            && let Err(at) = self.written.binary_search(&table)
        {
            // The validator, which sees the code later, knows which tables there are; code that names others must not
            // make this list long.
            if table >= self.tables_seen {
                return Err(Ineligible::Invalid(format!("unknown table {table}")));
            }
            self.written.insert(at, table);
        }
        Ok(())
    }

    fn refuse<T>(&self, what: impl Into<String>) -> Result<T, Ineligible> {
        Err(Ineligible::module(self.number, what))
    }

    /// The module with its state exported. All other sections are copied byte for byte, so nothing of its code changes.
    pub fn with_state_exported(&self, bytes: &[u8]) -> Result<Vec<u8>, Ineligible> {
        let exports = self.exports(bytes)?;
        let mut module = enc::Module::new();
        let mut missing = true;
        for (id, range) in &self.sections {
            let own = *id == enc::SectionId::Export as u8;
            if missing && (own || comes_after_exports(*id)) {
                module.section(&exports);
                missing = false;
            }
            if !own {
                module.section(&enc::RawSection { id: *id, data: slice(bytes, range)? });
            }
        }
        if missing {
            module.section(&exports);
        }
        Ok(module.finish())
    }

    fn exports(&self, bytes: &[u8]) -> Result<enc::ExportSection, Ineligible> {
        let mut exports = enc::ExportSection::new();
        let own = self.sections.iter().find(|(id, _)| *id == enc::SectionId::Export as u8);
        if let Some((_, range)) = own {
            for export in ExportSectionReader::new(BinaryReader::new(slice(bytes, range)?, range.start))? {
                let export = export?;
                let kind = match export.kind {
                    ExternalKind::Func => enc::ExportKind::Func,
                    ExternalKind::Table => enc::ExportKind::Table,
                    ExternalKind::Memory => enc::ExportKind::Memory,
                    ExternalKind::Global => enc::ExportKind::Global,
                    ExternalKind::Tag | ExternalKind::FuncExact => {
                        return self.refuse("exports what is not known");
                    }
                };
                exports.export(export.name, kind, export.index);
            }
        }
        for (index, _) in &self.globals {
            exports.export(&global_name(*index), enc::ExportKind::Global, *index);
        }
        for index in &self.tables {
            exports.export(&table_name(*index), enc::ExportKind::Table, *index);
        }
        if let Some(index) = self.memory {
            exports.export(MEMORY, enc::ExportKind::Memory, index);
        }
        Ok(exports)
    }
}

/// A piece of the file. The parser has been there, so it is within.
pub fn slice<'b>(bytes: &'b [u8], range: &Range<usize>) -> Result<&'b [u8], Ineligible> {
    bytes
        .get(range.clone())
        .ok_or_else(|| Ineligible::Invalid("a section beyond the end of the file".to_owned()))
}

fn comes_after_exports(section: u8) -> bool {
    use enc::SectionId as Id;
    [Id::Start, Id::Element, Id::DataCount, Id::Code, Id::Data].iter().any(|id| *id as u8 == section)
}
