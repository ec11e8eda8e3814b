use super::{Options, write};
use crate::profile::{FrameClass, Meta, Profile, WeightedStack, fixture};

fn lines(profile: &Profile, options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    write(profile, options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let (_, tree) = text.split_once("\n\n").unwrap();
    tree.lines().map(str::to_owned).collect()
}

#[test]
fn functions_that_call_one_other_are_on_its_line() {
    assert_eq!(
        lines(&fixture::profile(), &Options::default()),
        [
            "Total %   Self %  Calls",
            " 100.00           all",
            "  92.00    50.00  ├─ cc1 > _start > parse<int; char>(a)",
            "  42.00    10.00  │  └─ entry_SYSCALL_64_after_hwframe > do_syscall_64",
            "  27.00     7.00  │     ├─ asm_sysvec_apic_timer_interrupt > [IRQ] > \
             __sysvec_apic_timer_interrupt",
            "  20.00    20.00  │     │  └─ [NMI] > asm_exc_nmi > perf_event_nmi_handler",
            "   5.00     5.00  │     └─ ? [not unwound]",
            "   8.00           └─ make",
            "   6.00     6.00     ├─ libc.so.6+0x1d",
            "   2.00     2.00     └─ [unknown]",
        ]
    );
}

#[test]
fn small_and_deep_parts_are_left_out_and_counted() {
    let options = Options {
        min_share: 6.0,
        fold: false,
        ascii: true,
        depth: Some(5),
        markers: false,
        ..Options::default()
    };
    assert_eq!(
        lines(&fixture::profile(), &options),
        [
            "Total %   Self %  Calls",
            " 100.00           all",
            "  92.00           |- cc1",
            "  92.00           |  _start",
            "  92.00    50.00  |  parse<int; char>(a)",
            "  42.00           |  `- entry_SYSCALL_64_after_hwframe",
            "  42.00    10.00  |     do_syscall_64",
            "  27.00           |     |- asm_sysvec_apic_timer_interrupt",
            "  27.00           |     |  `- ... 1 more",
            "   5.00           |     `- ... 1 more",
            "   8.00           `- make",
            "   6.00     6.00     |- libc.so.6+0x1d",
            "   2.00              `- ... 1 more",
        ]
    );
}

#[test]
fn long_lines_lose_their_middle() {
    let options = Options {
        width: Some(60),
        ..Options::default()
    };
    let lines = lines(&fixture::profile(), &options);
    assert_eq!(
        lines[3..6],
        [
            "  42.00    10.00  │  └─ entry_SY…hwframe > do_syscall_64",
            "  27.00     7.00  │     ├─ asm_sy…rrupt > … 1 > __sysv…rrupt",
            "  20.00    20.00  │     │  └─ [NMI] > … 1 > perf_…ndler",
        ]
    );
    assert!(lines.iter().all(|line| line.chars().count() <= 60));
}

#[test]
fn a_deep_recursion_with_branches_stays_small() {
    let mut profile = Profile::new(Meta::default());
    let [a, b, c] =
        ["a", "b", "c"].map(|name| fixture::frame(&mut profile, FrameClass::User, name, None));
    let comm = profile.intern("a");
    let mut frames = Vec::new();
    for depth in 0..2000 {
        frames.push(if depth % 2 == 0 { a } else { b });
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: None,
            frames: [frames.clone(), vec![c]].concat(),
            event: 0,
            samples: 1,
            weight: 1,
            stop: "end of stack",
            complete: true,
        });
    }
    let options = Options {
        min_share: 0.0,
        ..Options::default()
    };
    let lines = lines(&profile, &options);
    // The outermost is on the line of its process, the innermost two are on one line.
    assert_eq!(lines.len(), 1 + 1 + 1999 + 1999);
    assert!(lines.iter().all(|line| line.chars().count() < 220));
}
