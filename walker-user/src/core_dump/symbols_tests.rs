use super::*;

fn read(text: &str) -> Result<Symbols, CoreError> {
    Symbols::from_text(text.as_bytes())
}

const MAP: &str = "\
0000000000000000 D __per_cpu_start
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000000 W weak_one
ffffffff81000040 t first
ffffffff81000100 T second
ffffffff82000000 T _etext
ffffffff82100000 D linux_banner
ffffffffc0001000 t ext4_read\t[ext4]
ffffffffc0002000 t ext4_write\t[ext4]
";

#[test]
fn an_address_is_named_by_the_function_before_it() {
    let symbols = read(MAP).unwrap();
    let name = |address| symbols.name(address).unwrap();
    let first = name(0xffff_ffff_8100_00ff);
    assert_eq!(
        (first.name, first.offset, first.size),
        ("first", 0xbf, 0xc0)
    );
    assert_eq!(first.module, None);
    let module = name(0xffff_ffff_c000_1010);
    assert_eq!((module.name, module.module), ("ext4_read", Some("ext4")));
    assert_eq!(name(u64::MAX).size, 0, "nothing follows the last");
    assert_eq!(symbols.name(0xffff_ffff_80ff_ffff), None);
}

#[test]
fn of_several_names_the_kernels_choice_is_shown() {
    let symbols = read(MAP).unwrap();
    let named = symbols.name(0xffff_ffff_8100_0000).unwrap();
    assert!(named.name == "_text" || named.name == "_stext", "{named:?}");
    assert_eq!(named.size, 0x40);
    let text = "c1000000 T __do_it\nc1000000 T do_it\nc1000010 T next\n";
    assert_eq!(read(text).unwrap().name(0xc100_0001).unwrap().name, "do_it");
}

#[test]
fn the_word_size_is_that_of_the_addresses() {
    assert_eq!(read(MAP).unwrap().word(), WordSize::Eight);
    assert_eq!(read("c1000000 T _stext\n").unwrap().word(), WordSize::Four);
}

#[test]
fn known_symbols_are_kept_and_missing_ones_are_told() {
    let symbols = read(MAP).unwrap();
    assert_eq!(symbols.address("linux_banner"), Some(0xffff_ffff_8210_0000));
    assert_eq!(symbols.address("__per_cpu_start"), Some(0));
    let error = symbols.required("init_task").unwrap_err().to_string();
    assert!(
        error.contains("`init_task`") && error.contains("System.map"),
        "{error}"
    );
}

#[test]
fn files_without_symbols_are_errors_that_say_what_to_do() {
    for (text, words) in [
        ("", "no lines"),
        ("just some text\n", "no lines"),
        ("0000000000000000 T _stext\n", "as root"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn lines_that_are_no_symbols_are_passed_over() {
    let long = "f".repeat(100_000);
    let mut text = format!("\n{long}\nx y z\nc1000000\n").into_bytes();
    text.extend(b"\xff\xfe T a\nc1000000 T _stext\n");
    let symbols = Symbols::from_text(&text[..]).unwrap();
    assert_eq!(symbols.address("_stext"), Some(0xc100_0000));
}
