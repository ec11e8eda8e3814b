//! From a file to what is written of it.

use walker_user::{
    output::{folded, text},
    profile::{Meta, Profile, WeightedStack},
    symbolize::UserSymbols,
};

use crate::{
    build::{Folder, addresses},
    config, object,
};

#[test]
fn inlined_functions_of_a_real_program_are_written() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let addresses = addresses(&program, "outer");
    let mut symbols = UserSymbols::new(config()).unwrap();
    let named = symbols.object(&object(&program), &addresses);
    let is_inlined = |address: &&u64| named[*address].functions.len() == 2;
    let address = *addresses.iter().find(is_inlined).unwrap();

    let mut profile = Profile::new(Meta::default());
    let comm = profile.intern("program");
    // As after a call, so that the address is one more than what was looked up.
    let frames = profile.user_frames(&named[&address], 0x5500_0000 + address + 1, 1, true, None);
    profile.push(WeightedStack {
        process: comm,
        comm,
        pid: Some(1),
        frames,
        event: 0,
        samples: 3,
        weight: 3,
        stop: "end-of-stack",
        complete: true,
    });

    let mut lines = Vec::new();
    folded::write(&profile, &folded::Options::default(), &mut lines).unwrap();
    assert_eq!(
        String::from_utf8(lines).unwrap(),
        "program;outer;square 3\n"
    );
    let mut listing = Vec::new();
    text::write(&profile, &text::Options::default(), &mut listing).unwrap();
    let listing = String::from_utf8(listing).unwrap();
    let at = format!(
        "+{:#x}/{:#x} [program]",
        address - addresses[0] + 1,
        addresses.len()
    );
    let source = folder.path("program.c");
    let source = source.display();
    let expected =
        format!(" <USER>\n  square{at} {source}:3 (inlined)\n  outer{at} {source}:5\n </USER>\n");
    assert!(listing.ends_with(&expected), "{listing}");
    assert!(symbols.unnamed().is_empty() && symbols.unused_debug_info().next().is_none());
}
