//! The tables that all threads of a Firefox Profiler file share: stacks as a tree, their frames,
//! functions, files.
//!
//! Each is written as columns of equal length. What the columns mean is said in
//! `src/types/profile.ts` of github.com/firefox-devtools/profiler.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::super::{
    entries::{Entry, entries},
    palette::Group,
    printable,
    streamed::Each,
};
use super::category;
use crate::numbered::Numbered;
use crate::profile::{Frame, FrameClass, FrameId, NOT_UNWOUND, Profile, WeightedStack};

/// Says that a function is from an object file.
const RESOURCE_IS_LIBRARY: u32 = 1;

/// The shared tables, and the object files that they refer to.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) strings: Numbered<String>,
    pub(super) libraries: Numbered<Library>,
    stacks: Numbered<StackRow>,
    frames: Numbered<FrameRow>,
    functions: Numbered<FunctionRow>,
    symbols: Numbered<SymbolRow>,
    /// One for each library that is in use.
    resources: Numbered<ResourceRow>,
    /// Source files, by their names.
    sources: Numbered<u32>,
}

/// An object file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Library {
    name: String,
    path: String,
    debug_name: String,
    debug_path: String,
    /// The build ID as Breakpad writes it.
    breakpad_id: String,
    /// The build ID in hexadecimal digits.
    code_id: Option<String>,
    arch: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StackRow {
    prefix: Option<u32>,
    frame: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FrameRow {
    function: u32,
    category: usize,
    /// In its library, if it has one and is not further in than the format's readers go.
    address: Option<u32>,
    /// How many functions around it are at the same address.
    inline_depth: u32,
    symbol: Option<u32>,
    line: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FunctionRow {
    name: u32,
    resource: Option<u32>,
    source: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SymbolRow {
    library: u32,
    address: u32,
    name: u32,
    size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ResourceRow {
    library: u32,
    name: u32,
}

impl Tables {
    /// The number of a string, without control characters.
    pub(super) fn string(&mut self, text: &str) -> u32 {
        self.strings.number(printable(text))
    }

    /// The number of the leaf of `stack`; `None` if it has no frames.
    pub(super) fn stack(
        &mut self,
        profile: &Profile,
        stack: &WeightedStack,
        markers: bool,
    ) -> Option<u32> {
        let mut leaf = None;
        let mut push = |tables: &mut Self, frame| {
            leaf = Some(tables.stacks.number(StackRow {
                prefix: leaf,
                frame,
            }));
        };
        if profile.meta.events.len() > 1 {
            let event = profile.meta.events.get(stack.event);
            let frame = self.label(event.map_or("", String::as_str), FrameClass::Event);
            push(self, frame);
        }
        for entry in entries(profile, stack, markers) {
            match entry {
                Entry::Marker(kind) => {
                    let class = FrameClass::Kernel(kind);
                    let frame = self.label(&format!("[{}]", kind.name()), class);
                    push(self, frame);
                }
                Entry::NotUnwound(frames) => {
                    let frame = self.label(NOT_UNWOUND, profile.frame(frames[0]).class);
                    push(self, frame);
                }
                Entry::Note(id) => {
                    let name = profile.text(profile.label(id).name);
                    let frame = self.label(name, FrameClass::Note);
                    push(self, frame);
                }
                Entry::Code(frames) => {
                    let outermost = profile.frame(frames[0]);
                    let library = self.library(profile, outermost);
                    let (address, symbol) = self.symbol(profile, frames[0], library);
                    for (inline_depth, &id) in (0..).zip(frames) {
                        let (function, line) = self.function(profile, id, library);
                        let frame = self.frames.number(FrameRow {
                            function,
                            category: category(Group::of(outermost.class)),
                            address,
                            inline_depth,
                            symbol,
                            line,
                        });
                        push(self, frame);
                    }
                }
            }
        }
        leaf
    }

    /// A frame that is no code.
    fn label(&mut self, name: &str, class: FrameClass) -> u32 {
        let name = self.string(name);
        let function = self.functions.number(FunctionRow {
            name,
            resource: None,
            source: None,
        });
        self.frames.number(FrameRow {
            function,
            category: category(Group::of(class)),
            address: None,
            inline_depth: 0,
            symbol: None,
            line: None,
        })
    }

    fn function(
        &mut self,
        profile: &Profile,
        id: FrameId,
        library: Option<u32>,
    ) -> (u32, Option<u32>) {
        let resource = library.map(|library| {
            let name = self.libraries.rows()[library as usize].name.clone();
            let name = self.strings.number(name);
            self.resources.number(ResourceRow { library, name })
        });
        let source = profile.frame(id).source;
        let file = source.map(|(file, _)| {
            let name = self.string(profile.text(file));
            self.sources.number(name)
        });
        let name = self.string(profile.text(profile.label(id).name));
        let function = self.functions.number(FunctionRow {
            name,
            resource,
            source: file,
        });
        let line = source.map(|(_, line)| line).filter(|line| *line > 0);
        (function, line)
    }

    /// Where a frame is in its library, and the symbol there. Kernel addresses are not from the
    /// start of a file, so they have neither.
    fn symbol(
        &mut self,
        profile: &Profile,
        id: FrameId,
        library: Option<u32>,
    ) -> (Option<u32>, Option<u32>) {
        let frame = profile.frame(id);
        let (Some(library), Some(_), Ok(address)) =
            (library, frame.object, u32::try_from(frame.address))
        else {
            return (None, None);
        };
        let start = frame.address.checked_sub(frame.offset);
        let start = start.and_then(|start| u32::try_from(start).ok());
        let symbol = frame.name.zip(start).map(|(name, address)| {
            let name = self.string(profile.text(name));
            self.symbols.number(SymbolRow {
                library,
                address,
                name,
                size: Some(frame.size).filter(|size| *size > 0),
            })
        });
        (Some(address), symbol)
    }

    fn library(&mut self, profile: &Profile, frame: &Frame) -> Option<u32> {
        let module = frame.module.map(|module| printable(profile.text(module)));
        let (name, object) = match (frame.class, module) {
            (FrameClass::Kernel(_), None) => ("[kernel.kallsyms]".to_owned(), None),
            (FrameClass::Kernel(_), Some(module)) if !module.starts_with('[') => {
                (format!("[{module}]"), None)
            }
            (_, Some(module)) => (module, frame.object.map(|object| profile.object(object))),
            (_, None) => return None,
        };
        let path = object.map_or_else(
            || name.clone(),
            |object| printable(&object.path.to_string_lossy()),
        );
        let build_id = object.and_then(|object| object.build_id);
        Some(self.libraries.number(Library {
            debug_name: name.clone(),
            debug_path: path.clone(),
            name,
            path,
            breakpad_id: breakpad_id(build_id.as_ref().map_or(&[], |id| id.as_bytes())),
            code_id: build_id.map(|id| id.to_string()),
            arch: None,
        }))
    }
}

/// The first 16 bytes of a build ID as Breakpad writes them: a GUID, whose first three parts are
/// little-endian, and an age of 0.
fn breakpad_id(build_id: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let bytes = ORDER.iter().map(|&at| build_id.get(at).unwrap_or(&0));
    let mut text: String = bytes.map(|byte| format!("{byte:02X}")).collect();
    text.push('0');
    text
}

/// Writes rows as one object of columns.
macro_rules! columns {
    ($serializer:expr, $name:literal, $rows:expr, $($column:literal: $value:expr),+ $(,)?) => {{
        let rows = $rows;
        let mut columns = $serializer.serialize_struct($name, 1 + [$($column),+].len())?;
        columns.serialize_field("length", &rows.len())?;
        $(columns.serialize_field($column, &Each(|| rows.iter().map($value)))?;)+
        columns.end()
    }};
}

impl Serialize for Tables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tables = serializer.serialize_struct("Shared", 7)?;
        tables.serialize_field("stackTable", &Stacks(self.stacks.rows()))?;
        tables.serialize_field("frameTable", &Frames(self.frames.rows()))?;
        tables.serialize_field("funcTable", &Functions(self.functions.rows()))?;
        tables.serialize_field("resourceTable", &Resources(self.resources.rows()))?;
        tables.serialize_field("nativeSymbols", &Symbols(self.symbols.rows()))?;
        tables.serialize_field("sources", &Sources(self.sources.rows()))?;
        tables.serialize_field("stringArray", self.strings.rows())?;
        tables.end()
    }
}

struct Stacks<'a>(&'a [StackRow]);

impl Serialize for Stacks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        columns!(serializer, "StackTable", self.0,
            "prefix": |row| row.prefix,
            "frame": |row| row.frame,
        )
    }
}

struct Frames<'a>(&'a [FrameRow]);

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        columns!(serializer, "FrameTable", self.0,
            "address": |row| row.address.map_or(-1, i64::from),
            "inlineDepth": |row| row.inline_depth,
            "category": |row| row.category,
            "subcategory": |_| 0,
            "func": |row| row.function,
            "nativeSymbol": |row| row.symbol,
            "innerWindowID": |_| 0,
            "line": |row| row.line,
            "column": |_| None::<u32>,
        )
    }
}

struct Functions<'a>(&'a [FunctionRow]);

impl Serialize for Functions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        columns!(serializer, "FuncTable", self.0,
            "name": |row| row.name,
            "isJS": |_| false,
            "relevantForJS": |_| false,
            "resource": |row| row.resource.map_or(-1, i64::from),
            "source": |row| row.source,
            "lineNumber": |_| None::<u32>,
            "columnNumber": |_| None::<u32>,
        )
    }
}

struct Resources<'a>(&'a [ResourceRow]);

impl Serialize for Resources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        columns!(serializer, "ResourceTable", self.0,
            "lib": |row| row.library,
            "name": |row| row.name,
            "host": |_| None::<u32>,
            "type": |_| RESOURCE_IS_LIBRARY,
        )
    }
}

struct Symbols<'a>(&'a [SymbolRow]);

impl Serialize for Symbols<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        columns!(serializer, "NativeSymbolTable", self.0,
            "libIndex": |row| row.library,
            "address": |row| row.address,
            "name": |row| row.name,
            "functionSize": |row| row.size,
        )
    }
}

struct Sources<'a>(&'a [u32]);

impl Serialize for Sources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        columns!(serializer, "SourceTable", self.0,
            "uuid": |_| None::<u32>,
            "filename": |name| *name,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::breakpad_id;

    #[test]
    fn a_build_id_becomes_a_guid_with_an_age() {
        let id: Vec<u8> = (1..=20).collect();
        assert_eq!(breakpad_id(&id), "0403020106050807090A0B0C0D0E0F100");
        assert_eq!(breakpad_id(&[]), "0".repeat(33));
    }
}
