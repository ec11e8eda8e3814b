//! What [`super::Btf`] answers on this machine's kernel, with bpftool as the oracle.
//!
//! On a machine whose kernel shows no BTF, or without bpftool, the tests say so and pass.

use std::collections::HashMap;
use std::process::Command;

use super::Btf;

/// The running kernel's BTF. `None`, with a message, on a machine whose kernel shows none.
fn running_kernel() -> Option<Btf> {
    if !std::path::Path::new(Btf::KERNEL_PATH).exists() {
        eprintln!("SKIPPED: no {} on this machine", Btf::KERNEL_PATH);
        return None;
    }
    Some(Btf::of_running_kernel().expect("the kernel's own BTF is valid"))
}

#[test]
fn the_running_kernel_answers() {
    let Some(btf) = running_kernel() else { return };
    let bytes = |path| {
        let member = btf.member(path).expect(path);
        (
            member.byte_offset().expect("whole bytes"),
            member.byte_size().expect("whole bytes"),
        )
    };
    let (comm, comm_len) = bytes("task_struct.comm");
    assert!(comm > 0 && comm_len == 16);
    assert_eq!(bytes("pt_regs.r15"), (0, 8));
    assert_eq!(bytes("pt_regs.ip"), (128, 8));
    assert_eq!(bytes("list_head.prev"), (8, 8));
    assert_eq!(btf.size_of("pt_regs").expect("pt_regs"), 168);
    assert_eq!(btf.enum_value(None, "BPF_MAP_TYPE_HASH").expect("a map"), 1);
    assert!(btf.size_of("task_struct").expect("task_struct") > 1000);
    let at = |path| btf.member(path).expect(path).bit_offset;
    assert_eq!(
        at("task_struct.se.avg.util_avg"),
        at("task_struct.se") + at("sched_entity.avg") + at("sched_avg.util_avg")
    );
    // A fact that holds on every kernel with per-CPU BTF.
    match btf.find_percpu("runqueues") {
        Ok(place) => {
            let place = place.expect("every SMP kernel has run queues");
            assert_eq!(place.size, btf.size_of("rq").expect("rq"));
        }
        Err(error) => eprintln!("SKIPPED the per-CPU part: {error}"),
    }
}

/// What bpftool says about a struct.
#[derive(Default)]
struct Dumped {
    size: u64,
    members: Vec<DumpedMember>,
}

struct DumpedMember {
    name: String,
    type_id: u32,
    bit_offset: u64,
    width: Option<u64>,
}

/// `bpftool btf dump file … format raw`.
#[derive(Default)]
struct Dump {
    /// Structs and unions by type id.
    structs: HashMap<u32, Dumped>,
    /// The type ids of those that have a name.
    names: HashMap<String, Vec<u32>>,
    /// Offset and size of the variables in the per-CPU section.
    variables: HashMap<String, Vec<(u64, u64)>>,
}

fn bpftool_dump() -> Option<Dump> {
    let output = ["bpftool", "/usr/sbin/bpftool"].iter().find_map(|program| {
        Command::new(program)
            .args(["btf", "dump", "file", Btf::KERNEL_PATH, "format", "raw"])
            .output()
            .ok()
    });
    let Some(output) = output.filter(|output| output.status.success()) else {
        eprintln!("SKIPPED: bpftool is not installed or failed");
        return None;
    };
    let text = String::from_utf8(output.stdout).expect("bpftool prints UTF-8");
    let field = |line: &str, key: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
    };
    let quoted = |line: &str| line.split('\'').nth(1).map(str::to_owned);
    let mut dump = Dump::default();
    let mut current = None;
    let mut in_percpu = false;
    for line in text.lines() {
        if let Some((id, rest)) = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("] "))
        {
            current = None;
            in_percpu = rest.starts_with("DATASEC '.data..percpu'");
            if rest.starts_with("STRUCT ") || rest.starts_with("UNION ") {
                let id = id.parse().expect("a type id");
                let dumped = dump.structs.entry(id).or_default();
                dumped.size = field(rest, "size=").expect("a size");
                let name = quoted(rest).expect("a name");
                if name != "(anon)" {
                    dump.names.entry(name).or_default().push(id);
                }
                current = Some(id);
            }
        } else if let Some(dumped) = current.and_then(|id| dump.structs.get_mut(&id)) {
            let name = quoted(line).expect("a member's name");
            dumped.members.push(DumpedMember {
                name: if name == "(anon)" {
                    String::new()
                } else {
                    name
                },
                type_id: u32::try_from(field(line, "type_id=").expect("a type")).expect("an id"),
                bit_offset: field(line, "bits_offset=").expect("an offset"),
                width: field(line, "bitfield_size="),
            });
        } else if in_percpu {
            let name = quoted(line).expect("a variable's name");
            let offset = field(line, "offset=").expect("an offset");
            let size = field(line, "size=").expect("a size");
            dump.variables.entry(name).or_default().push((offset, size));
        }
    }
    Some(dump)
}

#[test]
fn the_running_kernel_is_as_bpftool_prints_it() {
    let Some(btf) = running_kernel() else { return };
    let Some(Dump {
        structs,
        names,
        variables,
    }) = bpftool_dump()
    else {
        return;
    };
    assert!(
        names.len() > 5000,
        "bpftool printed {} structs",
        names.len()
    );
    let mut compared = 0;
    for (name, ids) in &names {
        let [id] = ids[..] else { continue };
        let dumped = &structs[&id];
        assert_eq!(btf.size_of(name).expect(name), dumped.size, "{name}");
        let members = btf.members_of(name).expect(name);
        assert_eq!(members.len(), dumped.members.len(), "{name}");
        for (ours, theirs) in members.iter().zip(&dumped.members) {
            assert_eq!(ours.name, theirs.name, "{name}");
            assert_eq!(ours.bit_offset, theirs.bit_offset, "{name}.{}", ours.name);
            if ours.name.is_empty() {
                continue;
            }
            let found = btf.member(&format!("{name}.{}", ours.name)).expect(name);
            assert_eq!(found.bit_offset, theirs.bit_offset, "{name}.{}", ours.name);
            let width = theirs.width.unwrap_or(ours.size_bytes * 8);
            assert_eq!(found.bit_size, width, "{name}.{}", ours.name);
            compared += 1;
        }
        // Members of unnamed structs belong to the struct around them.
        for line in dumped.members.iter().filter(|line| line.name.is_empty()) {
            let Some(inner) = structs.get(&line.type_id) else {
                continue;
            };
            for member in inner.members.iter().filter(|line| !line.name.is_empty()) {
                let path = format!("{name}.{}", member.name);
                let found = btf.member(&path).expect("an inner member");
                let expected = line.bit_offset + member.bit_offset;
                assert_eq!(found.bit_offset, expected, "{path}");
                compared += 1;
            }
        }
    }
    assert!(compared > 40_000, "compared only {compared} members");
    for (name, places) in &variables {
        let [(offset, size)] = places[..] else {
            continue;
        };
        assert_eq!(btf.percpu_offset(name).expect(name), offset, "{name}");
        assert_eq!(btf.percpu_size(name).expect(name), size, "{name}");
    }
}
