use walker_common::StackKind;

use super::{Frame, FrameClass, Meta, Profile, WeightedStack};

const USER: FrameClass = FrameClass::User;
const TASK: FrameClass = FrameClass::Kernel(StackKind::Task);
const IRQ: FrameClass = FrameClass::Kernel(StackKind::Irq);
const NMI: FrameClass = FrameClass::Kernel(StackKind::Nmi);

/// What is shown, root first, of a stack of frames of these classes, all called `f`.
fn shown(classes: &[FrameClass]) -> String {
    let mut profile = Profile::new(Meta::default());
    let name = Some(profile.intern("f"));
    let mut intern = |&class| {
        profile.intern_frame(Frame {
            name,
            module: None,
            class,
            reliable: true,
            inlined: false,
            source: None,
            address: 0,
            offset: 0,
            size: 0,
            object: None,
        })
    };
    let frames = classes.iter().map(&mut intern).collect();
    let stack = WeightedStack {
        process: profile.intern("sh"),
        comm: profile.intern("sh"),
        pid: None,
        frames,
        event: 0,
        samples: 1,
        weight: 1,
        stop: "end of stack",
        complete: true,
    };
    let names = profile
        .path(&stack, true)
        .map(|label| profile.text(label.name));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_marker_stands_where_the_stack_changes() {
    assert_eq!(shown(&[]), "sh");
    assert_eq!(shown(&[USER, TASK, TASK]), "sh f f f");
    assert_eq!(shown(&[TASK, IRQ, IRQ, NMI]), "sh f [IRQ] f f [NMI] f");
    assert_eq!(shown(&[USER, NMI]), "sh f [NMI] f");
    assert_eq!(shown(&[IRQ, TASK]), "sh [IRQ] f [TASK] f");
}

#[test]
fn equal_frames_are_stored_once() {
    let mut profile = Profile::new(Meta::default());
    let frame = Frame {
        name: Some(profile.intern("f")),
        module: None,
        class: USER,
        reliable: true,
        inlined: false,
        source: None,
        address: 0x1000,
        offset: 0,
        size: 8,
        object: None,
    };
    let id = profile.intern_frame(frame);
    assert_eq!(profile.intern_frame(frame), id);
    let other = Frame {
        address: 0x1004,
        offset: 4,
        ..frame
    };
    let other_id = profile.intern_frame(other);
    assert_ne!(other_id, id);
    assert_eq!(profile.frame(other_id), &other);
    assert_eq!(profile.label(other_id), profile.label(id));
}

#[test]
fn a_frame_without_a_symbol_is_called_by_its_module() {
    let mut profile = Profile::new(Meta::default());
    let module = profile.intern("ext4");
    for (module, name) in [(Some(module), "[ext4]"), (None, "[unknown]")] {
        let id = profile.intern_frame(Frame {
            name: None,
            module,
            class: TASK,
            reliable: true,
            inlined: false,
            source: None,
            address: 0x1000,
            offset: 0,
            size: 0,
            object: None,
        });
        assert_eq!(profile.text(profile.label(id).name), name);
    }
}
