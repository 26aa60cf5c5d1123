//! The component with the restorer in it.

use wasm_encoder as enc;

use super::module::slice;
use super::restorer::{State, Step, instance_name, keeper, keeper_name, restorer};
use super::{Ineligible, REWIND, SAVE, Wiring};

/// The component's own sections, its modules with their state exported, and the restorer behind them.
pub fn attach(bytes: &[u8], wiring: &Wiring, state: &State, steps: &[Step]) -> Result<Vec<u8>, Ineligible> {
    let mut component = enc::Component::new();
    let mut modules = wiring.modules.iter();
    for (id, range) in &wiring.sections {
        let data = slice(bytes, range)?;
        if *id != enc::ComponentSectionId::CoreModule as u8 {
            component.section(&enc::RawSection { id: *id, data });
        } else if let Some(module) = modules.next() {
            component.section(&enc::RawSection { id: *id, data: &module.with_state_exported(bytes)? });
        }
    }
    let mut next = Attachment { component, wiring, state };
    next.modules(steps);
    next.types();
    let restorer = next.instances();
    next.exports(restorer);
    Ok(next.component.finish())
}

struct Attachment<'a> {
    component: enc::Component,
    wiring: &'a Wiring,
    state: &'a State,
}

impl Attachment<'_> {
    /// The restorer is the next module, the keeper the one after it.
    fn modules(&mut self, steps: &[Step]) {
        for module in [restorer(self.state, steps), keeper()] {
            self.component
                .section(&enc::RawSection { id: enc::ComponentSectionId::CoreModule as u8, data: &module });
        }
    }

    /// The type of save and rewind is the next one, the restorer's own resource type the one after it.
    fn types(&mut self) {
        let mut types = enc::ComponentTypeSection::new();
        let status = enc::ComponentValType::Primitive(enc::PrimitiveValType::U32);
        types.function().params(Vec::<(&str, enc::ComponentValType)>::new()).result(Some(status));
        types.resource(enc::ValType::I32, None);
        self.component.section(&types);
    }

    /// Makes a keeper for each memory, and the restorer, whose index is returned.
    fn instances(&mut self) -> u32 {
        let counts = &self.wiring.counts;
        let mut own = counts.core_instances;
        let mut instances = enc::InstanceSection::new();
        let mut arguments: Vec<(String, enc::ModuleArg)> = Vec::new();
        for (memory, instance) in self.state.memories.iter().enumerate() {
            instances.instantiate(counts.modules + 1, [("app", enc::ModuleArg::Instance(*instance))]);
            arguments.push((keeper_name(memory), enc::ModuleArg::Instance(own)));
            own += 1;
        }
        for instance in self.state.instances() {
            arguments.push((instance_name(instance), enc::ModuleArg::Instance(instance)));
        }
        if self.state.handles > 0 {
            let mut functions = enc::CanonicalFunctionSection::new();
            functions.resource_new(counts.types + 1).resource_drop(counts.types + 1);
            self.component.section(&functions);
            let (new, drop) = (counts.core_functions, counts.core_functions + 1);
            instances
                .export_items([("new", enc::ExportKind::Func, new), ("drop", enc::ExportKind::Func, drop)]);
            arguments.push(("handles".to_owned(), enc::ModuleArg::Instance(own)));
            own += 1;
        }
        instances
            .instantiate(counts.modules, arguments.iter().map(|(name, argument)| (name.as_str(), *argument)));
        self.component.section(&instances);
        own
    }

    fn exports(&mut self, restorer: u32) {
        let counts = &self.wiring.counts;
        let first = counts.core_functions + if self.state.handles > 0 { 2 } else { 0 };
        let mut aliases = enc::ComponentAliasSection::new();
        let mut lifts = enc::CanonicalFunctionSection::new();
        let mut exports = enc::ComponentExportSection::new();
        for (at, core, name) in [(0, "save", SAVE), (1, "rewind", REWIND)] {
            aliases.alias(enc::Alias::CoreInstanceExport {
                instance: restorer,
                kind: enc::ExportKind::Func,
                name: core,
            });
            lifts.lift(first + at, counts.types, []);
            exports.export(name, enc::ComponentExportKind::Func, counts.functions + at, None);
        }
        self.component.section(&aliases).section(&lifts).section(&exports);
    }
}
