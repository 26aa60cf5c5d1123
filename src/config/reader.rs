//! Reads tables of a TOML file key by key and collects every problem on the way.
//!
//! A key is known because somebody asks for it: there is no second list of keys that could fall out of step.
//! [`Table::finish`] then names what nobody asked for, and the nearest key that would have been asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::problem::{Position, Problem, quoted};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given<T> {
    pub value: T,
    pub at: Position,
}

/// One file that is being read.
pub(super) struct Document<'d> {
    file: &'d Path,
    lines: Lines,
    problems: RefCell<Vec<Problem>>,
    unknown: RefCell<Vec<Unknown>>,
    /// Every key that was asked for, by the kind of its table, and whether it was there.
    asked: RefCell<BTreeMap<(&'static str, &'static str), bool>>,
}

struct Unknown {
    key: String,
    at: Position,
    name: String,
    table: &'static str,
}

/// A table of the file, or one that is not there: then every key is missing.
pub(super) struct Table<'d> {
    doc: &'d Document<'d>,
    /// `server`, `grants.*`: what tables with the same keys have in common.
    kind: &'static str,
    /// What comes before a key in messages.
    prefix: String,
    entries: Option<&'d DeTable<'d>>,
    names: Vec<&'static str>,
}

/// Parses the text; `largest` is in bytes. Text that is no TOML is reported for that alone, since what follows
/// from a guess at its meaning would mislead.
pub(super) fn parse<'d>(file: &Path, text: &'d str, largest: usize) -> Result<DeTable<'d>, Vec<Problem>> {
    if text.len() > largest {
        let message = format!("larger than the {} bytes that are read", largest);
        return Err(vec![Problem::of_file(file, message)]);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    let lines = Lines::of(text);
    let problems = errors.iter().map(|error| Problem {
        file: Some(file.to_owned()),
        position: error.span().map(|span| lines.position(span.start)),
        key: String::new(),
        message: error.message().to_owned(),
    });
    let mut problems: Vec<_> = problems.collect();
    problems.sort_by_key(|problem| problem.position);
    // What else is wrong in the same line is most often a consequence.
    problems.dedup_by_key(|problem| problem.position.map(|position| position.line));
    Err(limited(problems))
}

impl<'d> Document<'d> {
    pub fn new(file: &'d Path, text: &'d str) -> Self {
        let lines = Lines::of(text);
        Self {
            file,
            lines,
            problems: RefCell::default(),
            unknown: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    /// The file's own table; `kind` is what its keys belong to.
    pub fn root(&'d self, kind: &'static str, table: Option<&'d DeTable<'d>>) -> Table<'d> {
        Table { doc: self, kind, prefix: String::new(), entries: table, names: Vec::new() }
    }

    pub fn problem(&self, key: impl Into<String>, at: Option<Position>, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            file: Some(self.file.to_owned()),
            position: at,
            key: key.into(),
            message: message.into(),
        });
    }

    /// Everything that was wrong, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut unknown = self.unknown.take();
        unknown.sort_by_key(|unknown| unknown.at);
        for (index, Unknown { key, at, name, table }) in unknown.into_iter().enumerate() {
            // Advice is not sought for what won't be shown.
            let message = if index < MOST_SHOWN { self.advice(&name, table) } else { String::new() };
            self.problem(key, Some(at), message);
        }
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.position);
        limited(problems)
    }

    /// Keys that were asked for and were not there, as `table.key`.
    #[cfg(test)]
    pub fn absent(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        asked.iter().filter(|(_, found)| !**found).map(|((table, key), _)| format!("{table}.{key}")).collect()
    }

    fn advice(&self, name: &str, table: &'static str) -> String {
        let asked = self.asked.borrow();
        let here = || asked.keys().filter(|(kind, _)| *kind == table).map(|(_, key)| *key);
        if let Some(near) = nearest(name, here()) {
            return format!("unknown key, did you mean {near}?");
        }
        let elsewhere = asked.keys().filter(|(_, key)| *key == name).map(|(kind, _)| match *kind {
            "" => "the file's own table".to_owned(),
            kind => format!("[{kind}]"),
        });
        let elsewhere = elsewhere.collect::<Vec<_>>().join(" or ");
        if !elsewhere.is_empty() {
            return format!("unknown key here, it belongs in {elsewhere}");
        }
        format!("unknown key, the known ones here are {}", here().collect::<Vec<_>>().join(", "))
    }

    fn position(&self, offset: usize) -> Position {
        self.lines.position(offset)
    }
}

impl<'d> Table<'d> {
    /// The value of a key, if it is there and right.
    pub fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Given<T>> {
        let (at, value) = self.find(key)?;
        match read(value) {
            Ok(value) => Some(Given { value, at }),
            Err(message) => {
                self.problem(key, at, message);
                None
            }
        }
    }

    /// The items of a list, if the key is there; each item that is wrong is a problem of its own.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Vec<Given<T>>> {
        let (at, value) = self.find(key)?;
        let DeValue::Array(items) = value else {
            self.problem(key, at, format!("expected a list, found {}", kind_of(value)));
            return None;
        };
        let mut list = Vec::new();
        for item in items.iter() {
            let at = self.doc.position(item.span().start);
            match read(item.get_ref()) {
                Ok(value) => list.push(Given { value, at }),
                Err(message) => self.problem(key, at, message),
            }
        }
        Some(list)
    }

    /// A table with keys of its own, which may be missing; `kind` names them all in advice.
    pub fn table(&mut self, key: &'static str, kind: &'static str) -> Table<'d> {
        let entries = self.entries_of(key);
        let prefix = self.named(key) + ".";
        Table { doc: self.doc, kind, prefix, entries, names: Vec::new() }
    }

    /// A table that is known not to be there, so that its keys are known all the same.
    pub fn missing(&self, kind: &'static str) -> Table<'d> {
        Table { doc: self.doc, kind, prefix: self.prefix.clone(), entries: None, names: Vec::new() }
    }

    /// The entries of a table whose keys are the user's: names, where they stand, and the values.
    pub fn names_and_values(&mut self, key: &'static str) -> Vec<(&'d str, Position, &'d DeValue<'d>)> {
        let Some(entries) = self.entries_of(key) else { return Vec::new() };
        let entries = entries.iter();
        let entry = |name: &'d toml::Spanned<_>| self.doc.position(name.span().start);
        entries.map(|(name, value)| (name.get_ref().as_ref(), entry(name), value.get_ref())).collect()
    }

    /// One table of a table whose keys are the user's, as [`Self::names_and_values`] gave it.
    pub fn table_named(
        &self,
        key: &str,
        name: &str,
        at: Position,
        value: Option<&'d DeValue<'d>>,
        kind: &'static str,
    ) -> Table<'d> {
        let named = format!("{}{key}.\"{}\"", self.prefix, quoted(name));
        let entries = match value {
            Some(DeValue::Table(entries)) => Some(entries),
            Some(other) => {
                let message = format!("expected a table, found {}", kind_of(other));
                self.doc.problem(named.clone(), Some(at), message);
                None
            }
            None => None,
        };
        Table { doc: self.doc, kind, prefix: named + ".", entries, names: Vec::new() }
    }

    /// A key that would be known elsewhere and has no meaning here, with the reason.
    pub fn refuse(&mut self, key: &'static str, reason: &str) {
        self.names.push(key);
        if let Some((key_span, _)) = self.entries.and_then(|entries| entries.get_key_value(key)) {
            self.problem(key, self.doc.position(key_span.span().start), reason);
        }
    }

    /// The value of a key whose kind decides what it is.
    pub fn peek(&self, key: &str) -> Option<&'d DeValue<'d>> {
        self.entries.and_then(|entries| entries.get(key)).map(|value| value.get_ref())
    }

    pub fn problem(&self, key: &str, at: Position, message: impl Into<String>) {
        self.doc.problem(self.named(key), Some(at), message);
    }

    /// A problem of the table's own name.
    pub fn problem_of_itself(&self, at: Position, message: impl Into<String>) {
        self.doc.problem(self.prefix.trim_end_matches('.'), Some(at), message);
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for (name, _) in self.entries.into_iter().flat_map(|entries| entries.iter()) {
            let text = name.get_ref().as_ref();
            if !self.names.contains(&text) {
                self.doc.unknown.borrow_mut().push(Unknown {
                    key: self.named(&quoted(text)),
                    at: self.doc.position(name.span().start),
                    name: text.to_owned(),
                    table: self.kind,
                });
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(Position, &'d DeValue<'d>)> {
        let found = self.entries.and_then(|entries| entries.get_key_value(key));
        self.names.push(key);
        *self.doc.asked.borrow_mut().entry((self.kind, key)).or_default() |= found.is_some();
        found.map(|(name, value)| (self.doc.position(name.span().start), value.get_ref()))
    }

    fn entries_of(&mut self, key: &'static str) -> Option<&'d DeTable<'d>> {
        match self.find(key)? {
            (_, DeValue::Table(entries)) => Some(entries),
            (at, other) => {
                self.problem(key, at, format!("expected a table, found {}", kind_of(other)));
                None
            }
        }
    }

    fn named(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// What a value is, for messages.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The name that was probably meant, if one is near enough.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Every known name is shorter: no need to measure what a file can make long at will.
    if name.len() > 64 {
        return None;
    }
    let distance = |known: &str| strsim::osa_distance(name, known);
    let (distance, near) = known.map(|known| (distance(known), known)).min()?;
    (distance <= (near.len() / 3).max(1)).then_some(near)
}

/// Where each line begins, so that finding a place doesn't mean reading the file again.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.0.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or_default();
        Position { line, column: offset - start + 1 }
    }
}

/// A file can be wrong in more places than anybody reads.
const MOST_SHOWN: usize = 100;

fn limited(mut problems: Vec<Problem>) -> Vec<Problem> {
    let further = problems.len().saturating_sub(MOST_SHOWN);
    if further > 0 {
        problems.truncate(MOST_SHOWN);
        if let Some(file) = problems.first().and_then(|problem| problem.file.clone()) {
            problems.push(Problem::of_file(&file, format!("{further} further problems are not shown")));
        }
    }
    problems
}
