//! Frames from what the symbolizer says of an address: in user space one for the function, and one
//! for each function inlined there.

use walker_common::StackKind;

use super::{Frame, FrameClass, FrameId, ObjectIndex, Profile};
use crate::symbolize::{CodeSymbol, KernelSymbol};

impl Profile {
    /// The frame of an address of the kernel, which has been looked up at `lookup`: itself, or of a
    /// return address the byte before.
    pub fn kernel_frame(
        &mut self,
        symbol: Option<&KernelSymbol>,
        (address, lookup): (u64, u64),
        stack: StackKind,
        reliable: bool,
    ) -> FrameId {
        let module = symbol.and_then(|symbol| symbol.module.as_deref());
        let frame = Frame {
            name: symbol.map(|symbol| self.intern(&symbol.name)),
            module: module.map(|module| self.intern(module)),
            class: FrameClass::Kernel(stack),
            inlined: false,
            source: None,
            reliable,
            address,
            offset: symbol.map_or(0, |symbol| {
                let after = address.wrapping_sub(lookup);
                symbol.offset.saturating_add(after)
            }),
            size: symbol.map_or(0, |symbol| symbol.size),
            object: None,
        };
        self.intern_frame(frame)
    }

    /// The frames of one address of user space, root first: the function, then those inlined into
    /// it.
    ///
    /// `address` is that of the instruction in its process. `after` is how many bytes it is after
    /// the one that was looked up: 1 for a return address. `reliable` is [`Frame::reliable`], `object`
    /// is [`Frame::object`].
    pub fn user_frames(
        &mut self,
        symbol: &CodeSymbol,
        address: u64,
        after: u64,
        reliable: bool,
        object: Option<ObjectIndex>,
    ) -> Vec<FrameId> {
        let module = Some(self.intern(&symbol.module));
        let mut frames = Vec::with_capacity(symbol.functions.len());
        for function in &symbol.functions {
            let name = symbol.named.then(|| self.intern(&function.name));
            let file = function.file.as_deref().map(|file| self.intern(file));
            frames.push(self.intern_frame(Frame {
                name,
                module,
                class: FrameClass::User,
                inlined: function.inlined,
                source: file.map(|file| (file, function.line.unwrap_or(0))),
                reliable,
                address,
                offset: symbol.offset.saturating_add(after),
                size: symbol.size,
                object,
            }));
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        profile::{Meta, Profile},
        symbolize::{CodeSymbol, Function, Reason},
    };

    fn function(name: &str, inlined: bool, line: u32) -> Function {
        Function {
            name: name.to_owned(),
            inlined,
            file: Some("/src/a.c".to_owned()),
            line: Some(line),
        }
    }

    #[test]
    fn inlined_functions_are_frames_of_their_own() {
        let mut profile = Profile::new(Meta::default());
        let symbol = CodeSymbol {
            functions: vec![function("outer", false, 7), function("inner", true, 3)],
            module: "a".to_owned(),
            named: true,
            offset: 0x10,
            size: 0x40,
            reason: None,
        };
        let ids = profile.user_frames(&symbol, 0x55_0011, 1, true, None);
        let shown: Vec<_> = ids
            .iter()
            .map(|&id| {
                let (frame, label) = (profile.frame(id), profile.label(id));
                let (file, line) = frame.source.unwrap();
                let texts = (profile.text(label.name), profile.text(file));
                (texts, line, label.inlined, frame.offset)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (("outer", "/src/a.c"), 7, false, 0x11),
                (("inner", "/src/a.c"), 3, true, 0x11),
            ]
        );
    }

    #[test]
    fn without_a_name_the_file_and_the_address_in_it_are_the_name() {
        let mut profile = Profile::new(Meta::default());
        for (module, name) in [("libc.so.6", "libc.so.6+0x1234"), ("[vdso]", "[vdso]")] {
            let symbol = CodeSymbol::unnamed(module, 0x1234, Reason::NotCovered);
            let ids = profile.user_frames(&symbol, 0x7f00_0000_1234, 0, false, None);
            assert_eq!(ids.len(), 1);
            assert!(!profile.frame(ids[0]).reliable);
            assert_eq!(profile.text(profile.label(ids[0]).name), name);
        }
    }
}
