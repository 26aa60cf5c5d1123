//! The component with the restorer in it.

use wasm_encoder as enc;

use super::module::slice;
use super::restorer::{State, Step, drop_name, instance_name, keeper, keeper_name, restorer};
use super::{DROP, Ineligible, LEFT, REWIND, SAVE, Wiring};

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

    /// The type of save and rewind is the next one, the restorer's own resource type the one after it; then come those of
    /// left and drop.
    fn types(&mut self) {
        let mut types = enc::ComponentTypeSection::new();
        let [number, bits] = [enc::PrimitiveValType::U32, enc::PrimitiveValType::U64];
        let [number, bits] = [number, bits].map(enc::ComponentValType::Primitive);
        types.function().params([("had", number), ("beyond", number)]).result(Some(number));
        types.resource(enc::ValType::I32, None);
        if self.drops() > 0 {
            types.function().params([("had", number)]).result(Some(bits));
            types.function().params([("type", number), ("handle", number)]).result(None);
        }
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
        if self.state.handles {
            let mut functions = enc::CanonicalFunctionSection::new();
            functions.resource_new(counts.types + 1).resource_drop(counts.types + 1);
            let mut names = vec!["new".to_owned(), "drop".to_owned()];
            for (number, ty) in self.state.droppable.iter().enumerate() {
                functions.resource_drop(*ty);
                names.push(drop_name(number));
            }
            self.component.section(&functions);
            let indices = counts.core_functions..;
            let items = names.iter().zip(indices);
            instances.export_items(
                items.map(|(name, index)| (name.as_str(), enc::ExportKind::Func, index)).collect::<Vec<_>>(),
            );
            arguments.push(("handles".to_owned(), enc::ModuleArg::Instance(own)));
            own += 1;
        }
        instances
            .instantiate(counts.modules, arguments.iter().map(|(name, argument)| (name.as_str(), *argument)));
        self.component.section(&instances);
        own
    }

    /// Types whose handles can be dropped.
    fn drops(&self) -> u32 {
        u32::try_from(self.state.droppable.len()).unwrap_or(u32::MAX)
    }

    fn exports(&mut self, restorer: u32) {
        let counts = &self.wiring.counts;
        let first = counts.core_functions + if self.state.handles { 2 + self.drops() } else { 0 };
        let mut aliases = enc::ComponentAliasSection::new();
        let mut lifts = enc::CanonicalFunctionSection::new();
        let mut exports = enc::ComponentExportSection::new();
        let all = [
            (0, "save", SAVE, counts.types),
            (1, "rewind", REWIND, counts.types),
            (2, "left", LEFT, counts.types + 2),
            (3, "drop", DROP, counts.types + 3),
        ];
        let exported = if self.drops() > 0 { 4 } else { 2 };
        for (at, core, name, ty) in all.into_iter().take(exported) {
            aliases.alias(enc::Alias::CoreInstanceExport {
                instance: restorer,
                kind: enc::ExportKind::Func,
                name: core,
            });
            lifts.lift(first + at, ty, []);
            exports.export(name, enc::ComponentExportKind::Func, counts.functions + at, None);
        }
        self.component.section(&aliases).section(&lifts).section(&exports);
    }
}
