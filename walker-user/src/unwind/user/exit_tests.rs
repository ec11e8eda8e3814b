use std::{fs, process::Command};

use object::{Object as _, ObjectSection as _};
use proptest::prelude::*;

use super::{Exit, ExitFinder, is_restorer};
use crate::unwind::user::{
    rule::{CallRule, LOST},
    walk::{CodeAt, CodeKind, ModuleId, UserCode},
};

/// Where the code is.
const BASE: u64 = 0x40_0000;

/// Code in one piece.
struct Code(Vec<u8>);

impl UserCode for Code {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        (BASE..BASE + self.0.len() as u64)
            .contains(&address)
            .then_some(CodeAt {
                module: ModuleId::NONE,
                address,
                cfi: None,
                kind: CodeKind::Jit,
            })
    }

    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        let from = address.checked_sub(BASE).unwrap_or(u64::MAX);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let bytes = self.0.get(from..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        len
    }
}

/// Assembles; the code of interest begins at the label `here`, which is to be first.
fn assemble(text: &str) -> Code {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("code.s");
    let object = folder.path().join("code.o");
    fs::write(&source, format!("{text}\n")).unwrap();
    let mut assembler = Command::new("as");
    let output = assembler.arg("-o").arg(&object).arg(&source).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let bytes = fs::read(&object).unwrap();
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
    let text = file.section_by_name(".text").unwrap();
    Code(text.data().unwrap().to_vec())
}

fn find(text: &str, returned: bool) -> Exit {
    let mut budget = 1 << 20;
    let mut code = assemble(text);
    ExitFinder::new().find(&mut code, BASE, returned, CodeKind::Object, &mut budget)
}

fn interrupted(text: &str) -> Exit {
    find(text, false)
}

fn returned(text: &str) -> Exit {
    find(text, true)
}

/// A return address at this offset from the stack pointer, with rbp, rbx, r12 to r15 in slots.
fn by_sp(offset: i32, slots: [i8; 6]) -> Exit {
    Exit::Returns(CallRule {
        cfa_offset: offset + 8,
        frame_pointer: false,
        popped: 0,
        slots,
    })
}

const KEPT: [i8; 6] = [0; 6];

#[test]
fn an_epilogue_is_followed() {
    let text = "add $0x18, %rsp; pop %rbx; pop %rbp; pop %r12; ret";
    let slots = [-3, -4, -2, 0, 0, 0];
    assert_eq!(interrupted(text), by_sp(0x30, slots));
    assert_eq!(interrupted("pop %r12; ret"), by_sp(8, [0, 0, -2, 0, 0, 0]));
    assert_eq!(interrupted("ret"), by_sp(0, KEPT));
}

#[test]
fn a_trampoline_of_cpython_is_left() {
    let text = "sub $8, %rsp; call *%rcx; add $8, %rsp; ret";
    assert_eq!(interrupted(text), by_sp(0, KEPT));
    assert_eq!(returned("add $8, %rsp; ret"), by_sp(8, KEPT));
}

#[test]
fn a_prologue_that_has_not_run_is_undone_by_the_epilogue() {
    let text = "push %rbp; mov %rsp, %rbp; push %rbx; and $-32, %rsp; sub $64, %rsp
        mov %rax, 8(%rsp); call *%rax; mov -8(%rbp), %rbx; leave; ret";
    assert_eq!(interrupted(text), by_sp(0, KEPT));
    let text = "mov %rbx, -16(%rsp); mov %rbp, -8(%rsp); sub $24, %rsp; call *%rax
        mov 8(%rsp), %rbx; mov 16(%rsp), %rbp; add $24, %rsp; ret";
    assert_eq!(interrupted(text), by_sp(0, KEPT));
}

#[test]
fn a_frame_pointer_leads_out_where_the_stack_pointer_is_lost() {
    let text = "sub %rax, %rsp; call *%rcx; lea -16(%rbp), %rsp; pop %rbx; pop %r12; pop %rbp; ret";
    let Exit::Returns(rule) = interrupted(text) else {
        panic!("no way out");
    };
    assert!(rule.frame_pointer);
    assert_eq!((rule.cfa_offset, rule.slots), (16, [-2, -4, -3, 0, 0, 0]));
}

#[test]
fn words_that_a_return_takes_are_taken() {
    let Exit::Returns(rule) = interrupted("ret $24") else {
        panic!("no way out");
    };
    assert_eq!((rule.cfa_offset, rule.popped), (8, 3));
}

#[test]
fn both_sides_of_a_branch_are_followed() {
    let agree = "test %eax, %eax; je 1f; pop %rbx; ret; 1: mov %eax, %edx; pop %rbx; ret";
    assert_eq!(interrupted(agree), by_sp(8, [0, -2, 0, 0, 0, 0]));
    let differ = "test %eax, %eax; je 1f; pop %rbx; ret; 1: pop %rbx; pop %rbx; pop %rbx; ret";
    assert_eq!(interrupted(differ), Exit::Unknown);
    let one_dies = "test %eax, %eax; je 1f; pop %rbx; ret; 1: ud2";
    assert_eq!(interrupted(one_dies), by_sp(8, [0, -2, 0, 0, 0, 0]));
}

/// Code is read in pieces, and a branch may be the last instruction of one.
#[test]
fn a_branch_at_any_distance_is_followed() {
    for bytes in 100..=130 {
        let code = format!(
            "push %rbx; .fill {bytes}, 1, 0x90; je 1f; pop %rbx; ret; 1: ud2; .fill 64, 1, 0x90"
        );
        let kept = by_sp(0, KEPT);
        assert_eq!(interrupted(&code), kept, "{bytes}");
    }
}

/// Ways that meet again are followed once, so that many branches do not make too many of them.
#[test]
fn ways_that_meet_again_are_one() {
    let branches = "je 1f; jb 1f; test %rax, %rax; 1: ".repeat(40);
    assert_eq!(
        interrupted(&format!("{branches} je 2f; nop; 2: ret")),
        by_sp(0, KEPT)
    );
    let to_one_place = "je 2f; nop; ".repeat(80);
    assert_eq!(
        interrupted(&format!("{to_one_place} 2: ret")),
        by_sp(0, KEPT)
    );
}

#[test]
fn a_register_is_lost_where_the_ways_out_do_not_agree_on_it() {
    let text = "test %eax, %eax; je 1f; pop %rbx; ret; 1: xor %ebx, %ebx; add $8, %rsp; ret";
    assert_eq!(interrupted(text), by_sp(8, [0, LOST, 0, 0, 0, 0]));
    assert_eq!(
        interrupted("cmovne %rax, %rbp; ret"),
        by_sp(0, [LOST, 0, 0, 0, 0, 0])
    );
}

#[test]
fn loops_end() {
    let text = "1: dec %eax; jne 1b; ret";
    assert_eq!(interrupted(text), by_sp(0, KEPT));
    assert_eq!(interrupted("1: jmp 1b"), Exit::Never);
    assert_eq!(interrupted("1: push %rax; jmp 1b"), Exit::Unknown);
}

#[test]
fn tail_calls_are_returns() {
    assert_eq!(interrupted("jmp *8(%rip)"), by_sp(0, KEPT), "a PLT entry");
    assert_eq!(interrupted("add $8, %rsp; jmp *%rax"), by_sp(8, KEPT));
    assert_eq!(
        interrupted("jmp 1f; .fill 300, 1, 0xcc; 1: ret"),
        by_sp(0, KEPT)
    );
}

#[test]
fn a_switch_is_no_tail_call() {
    assert_eq!(interrupted("jmp *(%rcx,%rax,8)"), Exit::Unknown);
    assert_eq!(
        interrupted("add $8, %rsp; cmp $5, %eax; jmp *%rax"),
        Exit::Unknown
    );
}

#[test]
fn what_follows_a_call_that_does_not_return_is_another_function() {
    // There the stack pointer is where no function can return.
    let text = "call *%rax; push %rbx; mov %edi, %ebx; pop %rbx; ret";
    assert_eq!(returned(text), Exit::Never);
    assert_eq!(
        returned("push %rbx; xor %ebx, %ebx; pop %rbx; ret"),
        Exit::Never
    );
    assert_eq!(returned("nopl (%rax); add $8, %rsp; ret"), Exit::Never);
    assert_eq!(returned("endbr64; add $8, %rsp; ret"), Exit::Never);
    let text = "test %eax, %eax; je 1f; call *%rax; ret; 1: add $24, %rsp; ret";
    assert_eq!(returned(text), by_sp(24, KEPT));
}

#[test]
fn the_end_of_a_thread_is_told_from_a_trap() {
    assert_eq!(
        returned("mov %eax, %edi; mov $60, %eax; syscall; hlt"),
        Exit::Exits
    );
    assert_eq!(returned("mov %eax, %edi; hlt"), Exit::Never);
}

#[test]
fn a_return_address_that_is_made_by_hand_is_not_believed() {
    assert_eq!(interrupted("push %rax; ret"), Exit::Unknown);
    assert_eq!(interrupted("mov %rax, (%rsp); ret"), Exit::Unknown);
    assert_eq!(interrupted("movups %xmm0, -8(%rsp); ret"), Exit::Unknown);
    assert_eq!(interrupted("call 1f; 1: pop %rax; ret"), by_sp(0, KEPT));
    assert_eq!(interrupted("mov %rdi, %rsp; ret"), Exit::Unknown);
    assert_eq!(interrupted("xchg %rax, %rsp; ret"), Exit::Unknown);
    assert_eq!(interrupted("pop %rsp; ret"), Exit::Unknown);
}

#[test]
fn a_slot_that_was_overwritten_does_not_hold_the_register() {
    let text = "mov %rax, 8(%rsp); add $8, %rsp; pop %rbx; pop %rbp; ret";
    assert_eq!(interrupted(text), by_sp(24, [-2, LOST, 0, 0, 0, 0]));
}

#[test]
fn the_way_back_from_a_signal_handler_is_known() {
    for text in ["mov $15, %rax; syscall", "mov $15, %eax; syscall; nop"] {
        assert!(is_restorer(&mut assemble(text), BASE), "{text}");
    }
    for text in [
        "mov $14, %rax; syscall",
        "mov $15, %edi; syscall",
        "syscall",
    ] {
        assert!(!is_restorer(&mut assemble(text), BASE), "{text}");
    }
}

#[test]
fn work_is_paid_for_and_bounded() {
    // Branches to everywhere: 0x70 to 0x7f with any distance.
    let code: Vec<u8> = (0..4000_u32)
        .flat_map(|n| [0x70 | (n % 16) as u8, (n * 37 % 251) as u8, 0x50])
        .collect();
    let mut code = Code(code);
    let mut finder = ExitFinder::new();
    let mut budget = 1 << 20;
    finder.find(&mut code, BASE, false, CodeKind::Object, &mut budget);
    let paid = (1 << 20) - budget;
    assert!(
        (1..=2000 * super::INSTRUCTION_COST).contains(&paid),
        "{paid}"
    );
    let mut none = 0;
    let exit = finder.find(&mut Code(vec![0xc3]), BASE, false, CodeKind::Jit, &mut none);
    assert_eq!((exit, none), (Exit::Unknown, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_are_followed_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), returned: bool) {
        let mut budget = 100_000;
        let mut code = Code(bytes);
        let _any_answer = ExitFinder::new().find(&mut code, BASE, returned, CodeKind::Object, &mut budget);
    }

    /// Bytes that are mostly instructions of the kind that matters.
    #[test]
    fn any_stack_work_is_followed_without_harm(pieces in prop::collection::vec((0_usize..12, any::<u32>()), 0..80)) {
        let mut bytes = Vec::new();
        for (kind, number) in pieces {
            let head: &[u8] = [
                &[0x48, 0x81, 0xc4][..], &[0x48, 0x81, 0xec], &[0x48, 0x8d, 0xa4, 0x24],
                &[0x48, 0x89, 0x84, 0x24], &[0x48, 0x8b, 0xac, 0x24], &[0x48, 0x8b, 0x9d],
                &[0x48, 0x89, 0x9d], &[0x0f, 0x84], &[0xe9], &[0x68], &[0xe8], &[0x0f, 0x29, 0x84, 0x24],
            ][kind];
            bytes.extend(head);
            bytes.extend(number.to_le_bytes());
            bytes.push([0x5b, 0x5d, 0x53, 0xc9][number as usize % 4]);
        }
        bytes.push(0xc3);
        let mut budget = 100_000;
        let _any_answer = ExitFinder::new().find(&mut Code(bytes), BASE, false, CodeKind::Jit, &mut budget);
    }
}
