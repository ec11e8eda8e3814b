use std::{collections::BTreeMap, fs::File, sync::Arc};

use super::UserSymbols;
use crate::symbolize::{Object, Reason, jit_names::JitNames, perf_map, service::Config};

/// A program that is no worker: what comes from it is always [`Reason::Crashed`].
fn symbols() -> UserSymbols {
    let config = Config {
        program: "/bin/true".into(),
        ..Config::default()
    };
    UserSymbols::new(config).unwrap()
}

#[test]
fn jit_code_is_called_as_its_map_says() {
    let mut symbols = symbols();
    let map = perf_map::parse(b"1000 40 JS:*fib /app.js:3\n");
    let named = symbols.jit(&JitNames::of_map(map), &[0x1010, 0x2000]);
    let (inside, outside) = (&named[&0x1010], &named[&0x2000]);
    assert_eq!(inside.functions[0].name, "JS:*fib /app.js:3");
    assert_eq!(
        (inside.offset, inside.size, inside.named),
        (0x10, 0x40, true)
    );
    assert_eq!(outside.functions[0].name, "[jit]");
    let without = symbols.jit_file(None, &[0x3000, 0x4000]);
    assert_eq!(without[&0x3000].functions[0].name, "[jit]");
    let counted = BTreeMap::from([
        (Reason::NoPerfMap.name(), 2),
        (Reason::NotInPerfMap.name(), 1),
    ]);
    assert_eq!(symbols.unnamed(), &counted);
}

#[test]
fn what_is_known_is_not_asked_again() {
    let mut symbols = symbols();
    let object = Arc::new(Object {
        file: File::open("/proc/self/exe").unwrap(),
        path: "/usr/bin/tool".into(),
        root: None,
    });
    let first = symbols.object(&object, &[0x10, 0x20]);
    let second = symbols.object(&object, &[0x20, 0x30]);
    assert!(Arc::ptr_eq(&first[&0x20], &second[&0x20]));
    assert_eq!(second[&0x30].functions[0].name, "tool+0x30");
    let counted = BTreeMap::from([(Reason::Crashed.name(), 3)]);
    assert_eq!(symbols.unnamed(), &counted);
}
