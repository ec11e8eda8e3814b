//! Names of the addresses in a core: from the file of symbols, or, of modules, from the core.

use super::CoreDump;
use crate::unwind::Frame;

/// `symbol+0xoffset/0xsize [module]`, or what is known instead.
pub(super) fn frame_name(core: &CoreDump, frame: &Frame) -> String {
    // The offset shown is that of the address itself; which function it is in is asked of the
    // call.
    let address = frame.lookup_address();
    let before = frame.ip.wrapping_sub(address);
    let module = core
        .code
        .modules
        .iter()
        .find(|module| module.text.holds(address));
    let named = core
        .kernel
        .symbols
        .name(core.kernel.link_address(address))
        // Only a copy of /proc/kallsyms has symbols outside of the kernel's image.
        .filter(|named| {
            core.kernel.is_image_text(address) || (named.module.is_some() && named.size != 0)
        });
    if let Some(named) = named {
        let in_module = named.module.or(module.map(|module| module.name.as_str()));
        return with_offset(named.name, named.offset + before, named.size, in_module);
    }
    let Some(module) = module else {
        return format!("{:#x}", frame.ip);
    };
    match module.function(&core.kernel, address, &core.code.functions_left) {
        Some(function) => {
            let offset = function.offset + before;
            with_offset(&function.name, offset, function.size, Some(&module.name))
        }
        None => format!("{:#x} [{}]", frame.ip, printable(&module.name)),
    }
}

fn with_offset(name: &str, offset: u64, size: u64, module: Option<&str>) -> String {
    let mut text = format!("{}+{offset:#x}", printable(name));
    if size != 0 {
        text.push_str(&format!("/{size:#x}"));
    }
    if let Some(module) = module {
        text.push_str(&format!(" [{}]", printable(module)));
    }
    text
}

/// A name or text of the core without control characters, which would break lines or steer a
/// terminal.
pub(super) fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "_")
}
