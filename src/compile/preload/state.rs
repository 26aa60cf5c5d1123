//! Reads an instance's state for Wizer, whose own way of doing so ends the process when a call fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wasmtime::Store;
use wasmtime::component::{Instance, Lift, WasmList};
use wasmtime_wizer::ComponentInstanceState;

use super::guest::Host;

/// What was read, by the names that Wizer has for it: `memory3` or `global0`, counted over the whole app.
#[derive(Default)]
pub struct State {
    memories: BTreeMap<String, Vec<u8>>,
    globals: BTreeMap<String, u64>,
}

impl State {
    /// Where another one is different.
    pub fn difference(&self, other: &State) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.memories {
            let Some(others) = other.memories.get(name) else { continue };
            if bytes.len() != others.len() {
                let _ = write!(text, "{name} has {} bytes or {}, ", bytes.len(), others.len());
            }
            let pairs = bytes.iter().zip(others).enumerate();
            let mut differing = pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at);
            if let Some(first) = differing.next() {
                let (count, last) = differing.fold((1_usize, first), |(count, _), at| (count + 1, at));
                let _ = write!(text, "{count} bytes of {name} between {first:#x} and {last:#x}, ");
            }
        }
        for (name, value) in &self.globals {
            if other.globals.get(name).is_some_and(|other| other != value) {
                let _ = write!(text, "{name}, ");
            }
        }
        match text.trim_end_matches(", ") {
            "" => "nothing of it can be seen in memories and globals".to_owned(),
            text => format!("different are {text}"),
        }
    }
}

pub struct Reader {
    store: Store<Host>,
    instance: Instance,
    state: State,
    failed: Option<String>,
}

impl Reader {
    pub fn new(store: Store<Host>, instance: Instance) -> Reader {
        Reader { store, instance, state: State::default(), failed: None }
    }

    /// # Errors
    /// Something could not be read.
    pub fn finish(self) -> Result<State, String> {
        self.failed.map_or(Ok(self.state), Err)
    }

    async fn call<R: Lift + Send + Sync + 'static>(
        &mut self,
        interface: &str,
        name: &str,
    ) -> wasmtime::Result<R> {
        let missing = || wasmtime::format_err!("{name} is not there");
        let Reader { store, instance, .. } = self;
        let (_, interface) = instance.get_export(&mut *store, None, interface).ok_or_else(missing)?;
        let (_, function) = instance.get_export(&mut *store, Some(&interface), name).ok_or_else(missing)?;
        let function = instance.get_typed_func::<(), (R,)>(&mut *store, function)?;
        Ok(function.call_async(store, ()).await?.0)
    }

    async fn global<R: Lift + Send + Sync + Default + 'static>(
        &mut self,
        interface: &str,
        name: &str,
        bits: impl FnOnce(&R) -> u64,
    ) -> R {
        match self.call::<R>(interface, name).await {
            Ok(value) => {
                self.state.globals.insert(name.to_owned(), bits(&value));
                value
            }
            Err(error) => {
                self.fail(name, &error);
                R::default()
            }
        }
    }

    fn fail(&mut self, name: &str, error: &wasmtime::Error) {
        self.failed.get_or_insert_with(|| format!("its {name} can't be read: {}", error.root_cause()));
    }
}

impl ComponentInstanceState for Reader {
    async fn call_func_ret_list_u8(
        &mut self,
        interface: &str,
        name: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        match self.call::<WasmList<u8>>(interface, name).await {
            Ok(list) => {
                let bytes = list.as_le_slice(&self.store);
                // It is read twice, and larger the second time.
                self.state.memories.entry(name.to_owned()).or_insert_with(|| bytes.to_vec());
                contents(bytes);
            }
            Err(error) => {
                self.fail(name, &error);
                // Nothing comes of it; it is only that something is expected.
                contents(self.state.memories.get(name).map_or(&[], Vec::as_slice));
            }
        }
    }

    async fn call_func_ret_s32(&mut self, interface: &str, name: &str) -> i32 {
        self.global(interface, name, |value: &i32| u64::from(value.cast_unsigned())).await
    }

    async fn call_func_ret_s64(&mut self, interface: &str, name: &str) -> i64 {
        self.global(interface, name, |value: &i64| value.cast_unsigned()).await
    }

    async fn call_func_ret_f32(&mut self, interface: &str, name: &str) -> u32 {
        self.global(interface, name, |value: &f32| u64::from(value.to_bits())).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, name: &str) -> u64 {
        self.global(interface, name, |value: &f64| value.to_bits()).await.to_bits()
    }
}
