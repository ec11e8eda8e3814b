//! A 64-bit kernel with type information, from its core to the text, and cores that are not what
//! they should be.

use proptest::prelude::*;

use super::{
    CoreDump, CoreError, Report, Selection,
    paging::PagingMode,
    test_kernel_32,
    test_kernel_64::{BUILD_ID, MODULES, SLIDE, core, kdump, machine, qemu, system_map, user_mode},
};

fn open(core: Vec<u8>) -> Result<CoreDump, CoreError> {
    CoreDump::from_source(Box::new(core), system_map().as_bytes())
}

fn error_of(core: Vec<u8>) -> String {
    open(core).unwrap_err().to_string()
}

fn text(core: &CoreDump) -> String {
    let selection = Selection {
        cpus: true,
        tasks: true,
        ..Selection::default()
    };
    let mut out = Vec::new();
    Report::new(core).write(&selection, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const SHOWN: &str = "
CPU 0  PID 1  reader  (complete: user-mode)
Call Trace:
 <IRQ>
  handle_irq+0x50/0x100
  call_on_irqstack+0x50/0x100
 </IRQ>
 <TASK>
  asm_common_interrupt+0x50/0x100
  vfs_read+0x50/0x100
  entry_SYSCALL_64_after_hwframe+0x50/0x100
 </TASK>

PID 0  swapper/0  R  (incomplete: no unwind information for 0xffffffff9b000050)
Call Trace:
 <TASK>
  __schedule+0x50/0x100
  kthread+0x50/0x100
  _stext+0x50/0x100
 </TASK>

PID 1  reader  running on CPU 0, above

PID 2  kthread  S  (complete: end-of-stack)
Call Trace:
 <TASK>
  __schedule+0x50/0x100
  drv_read+0x50/0x100 [drv]
  kthread+0x50/0x100
  ret_from_fork_asm+0x50/0x800
 </TASK>

1 CPU, 3 tasks
walks    2 of 3 complete: end-of-stack 1, no-unwind-info 1, user-mode 1
";

#[test]
fn all_cpus_and_tasks_are_shown() {
    for mode in [PagingMode::FourLevel, PagingMode::FiveLevel] {
        let core = open(core(mode)).unwrap();
        assert_eq!(core.kernel.slide, SLIDE);
        let text = text(&core);
        let (banner, rest) = text.split_once('\n').unwrap();
        assert_eq!(banner, "Linux version 6.12.0-test (gcc) #1 SMP");
        assert_eq!(rest, SHOWN, "{mode:?}");
    }
}

#[test]
fn a_broken_list_of_modules_is_told_and_their_code_is_not_named() {
    for next in [MODULES + SLIDE + 0x100, 0x1234] {
        let mut machine = machine(PagingMode::FourLevel);
        machine.put(MODULES + SLIDE, next);
        let text = text(&open(qemu(machine)).unwrap());
        assert!(text.contains("\nmissing  "), "{text}");
        assert!(text.contains("\n  0xffffffffc0000150\n"), "{text}");
    }
}

#[test]
fn the_page_tables_of_user_mode_lead_to_those_of_the_kernel() {
    // The only CPU was stopped in user mode of a kernel with page-table isolation.
    let core = open(user_mode()).unwrap();
    let text = text(&core);
    assert!(
        text.contains("\nCPU 0  PID 1  reader  user mode at 0x401000"),
        "{text}"
    );
}

#[test]
fn kdump_leads_to_the_page_tables_by_vmcoreinfo() {
    let core = open(kdump("6.12.0-test")).unwrap();
    assert_eq!(core.kernel.slide, SLIDE);
    assert!(text(&core).contains(SHOWN.split_once("PID 0").unwrap().0));
}

#[test]
fn symbols_of_another_kernel_are_told() {
    // The banner is somewhere else in that one.
    let map = system_map().replace(
        "ffffffff81200040 D linux_banner",
        "ffffffff81200080 D linux_banner",
    );
    let core = core(PagingMode::FourLevel);
    let error = CoreDump::from_source(Box::new(core), map.as_bytes()).unwrap_err();
    assert!(matches!(error, CoreError::OtherKernel { .. }));
    assert!(error.to_string().contains("give the System.map"), "{error}");
    // VMCOREINFO says which kernel it is.
    let error = error_of(kdump("5.10.0-other"));
    assert!(error.contains("it is 5.10.0-other"), "{error}");
}

#[test]
fn a_vmlinux_with_another_build_id_or_banner_is_told() {
    let with = |build_id: Option<&[u8]>, banner: Option<&[u8]>| {
        let mut symbols = super::symbols::Symbols::from_text(system_map().as_bytes()).unwrap();
        symbols.build_id = build_id.map(<[u8]>::to_vec);
        symbols.banner = banner.map(<[u8]>::to_vec);
        let core = Box::new(core(PagingMode::FourLevel));
        CoreDump::inspect(super::file::CoreFile::open(core).unwrap(), symbols)
    };
    let banner = b"Linux version 6.12.0-test (gcc) #1 SMP\n";
    assert!(with(Some(&BUILD_ID), Some(banner)).is_ok());
    let error = with(Some(&[0xa5; 20]), None).unwrap_err().to_string();
    assert!(
        error.contains("a5a5a5") && error.contains("b1b1b1"),
        "{error}"
    );
    let error = with(None, Some(b"Linux version 6.12.0-test (gcc) #2 SMP\n")).unwrap_err();
    assert!(matches!(error, CoreError::OtherKernel { .. }));
}

#[test]
fn symbols_of_another_word_size_are_told() {
    let map = test_kernel_32::system_map();
    let core = core(PagingMode::FourLevel);
    let error = CoreDump::from_source(Box::new(core), map.as_bytes()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("32-bit") && text.contains("64 bits"),
        "{text}"
    );
}

#[test]
fn a_missing_symbol_is_named() {
    for symbol in [
        "linux_banner",
        "__start_BTF",
        "init_task",
        "nr_cpu_ids",
        "_etext",
    ] {
        let map: String = system_map()
            .lines()
            .filter(|line| !line.ends_with(&format!(" {symbol}")))
            .map(|line| format!("{line}\n"))
            .collect();
        let core = core(PagingMode::FourLevel);
        let error = CoreDump::from_source(Box::new(core), map.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("`{symbol}`")),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_no_such_cores_are_told() {
    let whole = core(PagingMode::FourLevel);
    let changed = |at: usize, bytes: &[u8]| {
        let mut core = whole.clone();
        core[at..at + bytes.len()].copy_from_slice(bytes);
        error_of(core)
    };
    assert!(changed(0, b"KDUMP   ").contains("makedumpfile -E"));
    assert!(changed(0, b"DISKDUMP").contains("without -z"));
    assert!(changed(0, b"makedumpfile").contains("makedumpfile -R"));
    assert!(changed(0, b"MZ").contains("not an ELF core"));
    assert!(error_of(Vec::new()).contains("not an ELF core"));
    assert!(error_of(b"\x7fELF".to_vec()).contains("not an ELF core"));
    assert!(changed(16, &[2]).contains("type 2, not a core"));
    assert!(changed(18, &183u16.to_le_bytes()).contains("arm64"));
    assert!(changed(18, &8u16.to_le_bytes()).contains("machine number 8"));
    // A big-endian s390 machine.
    assert!(changed(5, &[2]).contains("another architecture"));
    assert!(changed(4, &[3]).contains("neither of 32 nor of 64 bits"));
    // No program headers: nothing at all.
    assert!(changed(56, &[0, 0]).contains("NT_PRSTATUS"));
    assert!(changed(56, &0xfff0u16.to_le_bytes()).contains("truncated"));
    let cut = whole[..whole.len() - 1].to_vec();
    let error = error_of(cut);
    assert!(
        error.contains("truncated") && error.contains(&whole.len().to_string()),
        "{error}"
    );
}

#[test]
fn memory_that_was_left_out_is_told() {
    // The last segment is memory: it says to be shorter than it is.
    let mut core = core(PagingMode::FourLevel);
    let size = 64 + 56 + 32;
    core[size..size + 8].copy_from_slice(&0x5000u64.to_le_bytes());
    let error = error_of(core);
    assert!(error.contains("linux_banner"), "{error}");
}

/// Whatever a core holds, opening and showing it ends, and does not panic.
fn end(core: Vec<u8>, map: &str) {
    if let Ok(core) = CoreDump::from_source(Box::new(core), map.as_bytes()) {
        let _shown = text(&core);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn cores_cut_anywhere_end(at in any::<prop::sample::Index>()) {
        let mut whole = core(PagingMode::FourLevel);
        whole.truncate(at.index(whole.len()));
        prop_assert!(open(whole).is_err());
    }

    #[test]
    fn cores_with_wrong_headers_end(
        changes in prop::collection::vec((0usize..1400, any::<u8>()), 1..6),
    ) {
        let mut whole = core(PagingMode::FourLevel);
        for (at, value) in changes {
            whole[at] = value;
        }
        end(whole, &system_map());
    }

    #[test]
    fn cores_with_wrong_memory_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..200),
        four in any::<bool>(),
    ) {
        let (mut whole, map) = match four {
            true => (
                test_kernel_32::machine(PagingMode::Pae).core(),
                test_kernel_32::system_map(),
            ),
            false => (core(PagingMode::FourLevel), system_map()),
        };
        let words = whole.len() / 8 - 300;
        for (at, value) in changes {
            let at = 8 * (300 + at.index(words));
            whole[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        end(whole, &map);
    }

    #[test]
    fn any_bytes_are_no_core(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0".to_vec();
        core.extend(&bytes);
        prop_assert!(open(core).is_err());
        prop_assert!(open(bytes).is_err());
    }
}
