//! The component around the core modules: one pass that takes down what there is, and refuses all that is not known.

use std::ops::Range;

use wasmparser::component_types::{ComponentAnyTypeId, ResourceId};
use wasmparser::types::TypesRef;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentDefinedType, ComponentExternalKind,
    ComponentOuterAliasKind, ComponentType, ComponentTypeDeclaration, ComponentTypeRef,
    ComponentTypeSectionReader, Encoding, Instance, InstanceTypeDeclaration, Parser, Payload, ValType,
    ValidPayload, Validator,
};

use super::module::Module;
use super::{Ineligible, RESERVED};
use crate::prepare::{Kind, features, nesting};

/// What the pass has taken down.
#[derive(Debug, Default)]
pub struct Wiring {
    /// The outermost sections in file order.
    pub sections: Vec<(u8, Range<usize>)>,
    /// Imported and aliased modules are refused, so these are all that the index space has.
    pub modules: Vec<Module>,
    /// Each core instance's module; `None` for one that only gathers exports of others.
    pub instances: Vec<Option<u32>>,
    /// Indices of resource types, each another one, whose handles some module can drop; none of the component's own.
    pub droppable: Vec<u32>,
    /// It has handles beside those that the host gives it: some module can make them.
    pub makes_handles: bool,
    pub counts: Counts,
    /// Indices of the resource types that the component defines.
    own_resources: Vec<u32>,
}

/// How many of each the component has, which is the index of the next one.
#[derive(Debug, Default)]
pub struct Counts {
    pub modules: u32,
    pub core_instances: u32,
    pub core_functions: u32,
    pub types: u32,
    pub functions: u32,
}

/// Takes the wiring of a component. Its functions' bodies are read but not validated: `check` has done so before, and the
/// compiler does again.
pub fn take(bytes: &[u8]) -> Result<Wiring, Ineligible> {
    let mut wiring = Wiring::default();
    let mut validator = Validator::new_with_features(features(Kind::Http02));
    let mut place = Place::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        place.enter(&payload)?;
        if let Payload::ComponentTypeSection(section) = &payload {
            nesting::look(bytes, &section.range())
                .map_err(|reason| Ineligible::Invalid(reason.to_string()))?;
            if !place.in_module && place.depth == 1 {
                let first = validator.types(0).map_or(0, |types| types.component_type_count());
                wiring.note_own_resources(section, first)?;
            }
        }
        match (place.in_module, place.depth) {
            (true, _) => wiring.modules.last_mut().map_or(Ok(()), |module| module.take(&payload))?,
            (false, 0 | 1) => wiring.outermost(&payload)?,
            (false, _) => nested(&payload)?,
        }
        let validated = validator.payload(&payload)?;
        if let ValidPayload::End(types) = validated
            && place.depth == 1
            && !place.in_module
        {
            let types = types.as_ref();
            wiring.settle_droppable(types);
            wiring.counts = Counts {
                modules: types.module_count(),
                core_instances: types.core_instance_count(),
                core_functions: types.function_count(),
                types: types.component_type_count(),
                functions: types.component_function_count(),
            };
        }
        place.leave(&payload);
    }
    Ok(wiring)
}

/// Validates an instrumented component but for its functions' bodies, none of which is new to the compiler's validator.
pub fn validate(bytes: &[u8]) -> Result<(), Ineligible> {
    let mut validator = Validator::new_with_features(features(Kind::Http02));
    for payload in Parser::new(0).parse_all(bytes) {
        let valid = payload.and_then(|payload| validator.payload(&payload).map(|_| ()));
        valid.map_err(|error| Ineligible::Outgrown(super::shown(&error.to_string())))?;
    }
    Ok(())
}

/// Where in the nesting the pass is.
#[derive(Debug, Default)]
struct Place {
    /// Components around, the outermost included.
    depth: usize,
    /// Within a core module, which holds no other.
    in_module: bool,
}

impl Place {
    fn enter(&mut self, payload: &Payload<'_>) -> Result<(), Ineligible> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if self.depth == 0 => {
                Err(Ineligible::CoreModule)
            }
            Payload::Version { encoding: Encoding::Module, .. } => {
                self.in_module = true;
                Ok(())
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                self.depth += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn leave(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::End(_) if self.in_module => self.in_module = false,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl Wiring {
    /// Takes down the resource types of a section whose first type has this index.
    fn note_own_resources(
        &mut self,
        section: &ComponentTypeSectionReader<'_>,
        first: u32,
    ) -> Result<(), Ineligible> {
        for (index, ty) in (first..).zip(section.clone()) {
            if let ComponentType::Resource { .. } = ty? {
                self.own_resources.push(index);
            }
        }
        Ok(())
    }

    /// Of what can be dropped keeps the host's types, each once: one of the component's own may run the guest's code when it goes.
    fn settle_droppable(&mut self, types: TypesRef<'_>) {
        let mut known: Vec<ResourceId> =
            self.own_resources.iter().filter_map(|own| resource(types, *own)).collect();
        self.droppable.retain(|index| match resource(types, *index) {
            Some(id) if !known.contains(&id) => {
                known.push(id);
                true
            }
            _ => false,
        });
    }

    fn outermost(&mut self, payload: &Payload<'_>) -> Result<(), Ineligible> {
        if let Some(section) = payload.as_section() {
            self.sections.push(section);
        }
        match payload {
            Payload::ModuleSection { .. } => {
                let number = u32::try_from(self.modules.len()).unwrap_or(u32::MAX);
                self.modules.push(Module::new(number));
                Ok(())
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.instances.push(match instance? {
                        Instance::Instantiate { module_index, .. } => Some(module_index),
                        Instance::FromExports(_) => None,
                    });
                }
                Ok(())
            }
            Payload::ComponentImportSection(section) => {
                section.clone().into_iter().try_for_each(|import| match import?.ty {
                    // Core state comes and goes with modules, and those of the component itself are all that is looked into.
                    ComponentTypeRef::Module(_) => Err(Ineligible::wiring("an imported core module")),
                    ComponentTypeRef::Component(_) => Err(Ineligible::wiring("an imported component")),
                    ComponentTypeRef::Value(_) => Err(Ineligible::wiring("an imported value")),
                    ComponentTypeRef::Func(_) | ComponentTypeRef::Type(_) | ComponentTypeRef::Instance(_) => Ok(()),
                })
            }
            Payload::ComponentExportSection(section) => section.clone().into_iter().try_for_each(|export| {
                let export = export?;
                // An export has an index of its own, also in the space of modules.
                definable(export.kind, "exports")?;
                let name = export.name.name;
                // Names that differ in case alone count as the same.
                match RESERVED.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                    true => Err(Ineligible::ReservedName(super::shown(name))),
                    false => Ok(()),
                }
            }),
            Payload::ComponentAliasSection(section) => section.clone().into_iter().try_for_each(|item| alias(&item?)),
            Payload::ComponentCanonicalSection(section) => {
                section.clone().into_iter().try_for_each(|function| {
                    let function = function?;
                    match &function {
                        CanonicalFunction::ResourceDrop { resource } => self.droppable.push(*resource),
                        CanonicalFunction::ResourceNew { .. } => self.makes_handles = true,
                        _ => {}
                    }
                    canonical(&function)
                })
            }
            Payload::ComponentTypeSection(section) => section.clone().into_iter().try_for_each(|ty| match ty? {
                ComponentType::Resource { rep: ValType::I32, .. } => Ok(()),
                ComponentType::Resource { .. } => {
                    Err(Ineligible::wiring("a resource that is not represented by 32 bits"))
                }
                ty if asynchronous(&ty) => Err(Ineligible::wiring(ASYNCHRONOUS)),
                _ => Ok(()),
            }),
            Payload::ComponentStartSection { .. } => Err(Ineligible::wiring("a start function of the whole component")),
            Payload::Version { .. }
            | Payload::CoreTypeSection(_)
            // What is in a nested component comes as pieces of its own.
            | Payload::ComponentSection { .. }
            | Payload::ComponentInstanceSection(_)
            | Payload::CustomSection(_)
            | Payload::End(_) => Ok(()),
            other => Err(Ineligible::wiring(format!("a section that is not known ({})", super::first_word(other)))),
        }
    }
}

/// Which resource a type is; `None` if it is none.
fn resource(types: TypesRef<'_>, index: u32) -> Option<ResourceId> {
    match types.component_any_type_at(index) {
        ComponentAnyTypeId::Resource(resource) => Some(resource.resource()),
        _ => None,
    }
}

const ASYNCHRONOUS: &str = "asynchronous functions, streams or futures (WASI 0.3)";

/// The parser has been as deep when it read the type.
fn asynchronous(ty: &ComponentType<'_>) -> bool {
    match ty {
        ComponentType::Func(ty) => ty.async_,
        ComponentType::Defined(ComponentDefinedType::Future(_) | ComponentDefinedType::Stream(_)) => true,
        ComponentType::Defined(_) | ComponentType::Resource { .. } => false,
        ComponentType::Component(declared) => declared
            .iter()
            .any(|declared| matches!(declared, ComponentTypeDeclaration::Type(ty) if asynchronous(ty))),
        ComponentType::Instance(declared) => declared
            .iter()
            .any(|declared| matches!(declared, InstanceTypeDeclaration::Type(ty) if asynchronous(ty))),
    }
}

/// Canonical functions whose only state is the handle table, or flags that a finished call has put back itself. All the
/// asynchronous ones have tasks, waitables and streams behind them.
fn canonical(function: &CanonicalFunction) -> Result<(), Ineligible> {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().try_for_each(|option| match option {
                CanonicalOption::UTF8
                | CanonicalOption::UTF16
                | CanonicalOption::CompactUTF16
                | CanonicalOption::Memory(_)
                | CanonicalOption::Realloc(_)
                | CanonicalOption::PostReturn(_) => Ok(()),
                CanonicalOption::Async | CanonicalOption::Callback(_) => {
                    Err(Ineligible::wiring(ASYNCHRONOUS))
                }
                CanonicalOption::CoreType(_) | CanonicalOption::Gc => {
                    Err(Ineligible::wiring("functions that take or give garbage-collected objects"))
                }
            })
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => Ok(()),
        other => Err(Ineligible::BuiltIn(super::first_word(other))),
    }
}

fn alias(alias: &ComponentAlias<'_>) -> Result<(), Ineligible> {
    match alias {
        ComponentAlias::CoreInstanceExport { .. } => Ok(()),
        ComponentAlias::InstanceExport { kind, .. } => definable(*kind, "uses"),
        ComponentAlias::Outer {
            kind: ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type,
            ..
        } => Ok(()),
        ComponentAlias::Outer { .. } => Err(Ineligible::wiring("a module or component from around it")),
    }
}

/// A module from elsewhere is one that was not looked into.
fn definable(kind: ComponentExternalKind, verb: &str) -> Result<(), Ineligible> {
    match kind {
        ComponentExternalKind::Func | ComponentExternalKind::Type | ComponentExternalKind::Instance => Ok(()),
        ComponentExternalKind::Module => {
            Err(Ineligible::wiring(format!("an instance that {verb} a core module")))
        }
        ComponentExternalKind::Component => {
            Err(Ineligible::wiring(format!("an instance that {verb} a component")))
        }
        ComponentExternalKind::Value => Err(Ineligible::wiring(format!("an instance that {verb} a value"))),
    }
}

/// A piece of a nested component. Toolchains wrap an interface's functions into one to name their types: it has neither
/// core instances nor a handle of its own, so no state.
fn nested(payload: &Payload<'_>) -> Result<(), Ineligible> {
    let refused = |what: &str| Err(Ineligible::Nested(what.to_owned()));
    match payload {
        Payload::ComponentTypeSection(section) => section.clone().into_iter().try_for_each(|ty| match ty? {
            ComponentType::Resource { .. } => refused("a resource"),
            ty if asynchronous(&ty) => refused(ASYNCHRONOUS),
            _ => Ok(()),
        }),
        Payload::ComponentImportSection(section) => {
            section.clone().into_iter().try_for_each(|import| match import?.ty {
                ComponentTypeRef::Func(_) | ComponentTypeRef::Type(_) | ComponentTypeRef::Instance(_) => {
                    Ok(())
                }
                ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_) | ComponentTypeRef::Value(_) => {
                    refused("an import of a module, component or value")
                }
            })
        }
        Payload::ComponentAliasSection(section) => {
            section.clone().into_iter().try_for_each(|item| match item? {
                ComponentAlias::CoreInstanceExport { .. } => refused("a core instance"),
                item => alias(&item),
            })
        }
        Payload::ComponentExportSection(section) => {
            section.clone().into_iter().try_for_each(|export| definable(export?.kind, "exports"))
        }
        Payload::Version { .. }
        | Payload::CoreTypeSection(_)
        | Payload::ComponentSection { .. }
        | Payload::ComponentInstanceSection(_)
        | Payload::CustomSection(_)
        | Payload::End(_) => Ok(()),
        Payload::ModuleSection { .. } => refused("a core module"),
        Payload::InstanceSection(_) => refused("a core instance"),
        Payload::ComponentCanonicalSection(_) => refused("canonical functions"),
        Payload::ComponentStartSection { .. } => refused("a start function"),
        other => refused(&super::first_word(other)),
    }
}
