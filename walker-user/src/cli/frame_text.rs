//! Frames of single samples as text: `function+0xoffset/0xsize [module] file:line`, as in an oops.

use crate::{
    output::printable,
    resolve::{Names, holder},
    stack_tree::RawFrame,
};

/// A raw frame of a process; several lines if functions are inlined there, innermost first.
pub(super) fn lines(names: &Names, pid: u32, frame: &RawFrame) -> Vec<String> {
    match *frame {
        RawFrame::Note(note) => vec![format!("note {note}")],
        RawFrame::Kernel {
            ip,
            lookup,
            reliable,
            ..
        } => {
            let text = match names.kernel.get(&lookup) {
                Some(symbol) => {
                    let offset = symbol.offset + ip.wrapping_sub(lookup);
                    let module = symbol.module.as_deref();
                    let module = module.map_or_else(String::new, |module| format!(" [{module}]"));
                    format!("{}{}{module}", symbol.name, place(offset, symbol.size))
                }
                None => format!("{ip:#018x}"),
            };
            vec![doubted(&text, reliable)]
        }
        RawFrame::User {
            code,
            address,
            lookup,
            reliable,
        } => {
            let symbol = names
                .user
                .get(&holder(code, pid))
                .and_then(|names| names.get(&lookup));
            let Some(symbol) = symbol else {
                return vec![doubted(&format!("{address:#018x}"), reliable)];
            };
            let offset = symbol.offset.saturating_add(address.wrapping_sub(lookup));
            let functions = symbol.functions.iter().rev();
            let line = |function: &crate::symbolize::Function| {
                let at = match symbol.named {
                    true => place(offset, symbol.size),
                    false => String::new(),
                };
                let source = match (&function.file, function.line) {
                    (Some(file), Some(line)) => format!(" {file}:{line}"),
                    (Some(file), None) => format!(" {file}"),
                    (None, _) => String::new(),
                };
                let inlined = if function.inlined { " (inlined)" } else { "" };
                let text = format!("{}{at} [{}]{source}{inlined}", function.name, symbol.module);
                doubted(&text, reliable)
            };
            functions.map(line).collect()
        }
    }
}

fn place(offset: u64, size: u64) -> String {
    match size {
        0 => format!("+{offset:#x}"),
        size => format!("+{offset:#x}/{size:#x}"),
    }
}

/// Names are whatever a program says they are.
fn doubted(text: &str, reliable: bool) -> String {
    let text = printable(text);
    match reliable {
        true => text,
        false => format!("? {text}"),
    }
}
