//! Walks that only a guest's kernel and host make happen: from NMIs, which the host injects, and
//! from probes, trampolines and modules, which the kernel of the development machine lacks.
//!
//! Each is compared with the kernel's own, frame by frame; how many there were is printed.

use std::{
    net::UdpSocket,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::Value;

use crate::{
    Test,
    events::{assert_walks, verified},
    guest::{Module, inject_nmis},
    load::{Kind, Load},
    support::{Place, Running},
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(nmis_are_walked_to_what_they_interrupted),
    test!(nmis_in_the_handlers_of_watchpoints),
    test!(probes_and_returns),
    test!(beginnings_and_ends_of_functions),
    test!(a_probe_in_a_softirq),
    test!(a_trampoline_in_the_chain),
    test!(a_module_in_the_chain),
];

/// What `verify` finds of NMIs, while the host injects them.
fn verified_nmis() -> Value {
    let verified_now = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            while !verified_now.load(Ordering::Relaxed) {
                inject_nmis(50, 10);
            }
        });
        let report = verified("nmi:nmi_handler", &["-a"]);
        verified_now.store(true, Ordering::Relaxed);
        report
    });
    assert_eq!(report["disagree"], 0, "{report:#}");
    report
}

/// The walks whose stacks begin like this, all of which agree.
fn walks_from(report: &Value, begin: &str) -> u64 {
    let walks = report["walks"].as_object().unwrap();
    let mut all = 0;
    for (stacks, counts) in walks.iter().filter(|(stacks, _)| stacks.starts_with(begin)) {
        assert_eq!(counts[0], counts[1], "{stacks}: {report:#}");
        println!("{stacks}: {} walks, all as the kernel's", counts[0]);
        all += counts[0].as_u64().unwrap();
    }
    all
}

fn nmis_are_walked_to_what_they_interrupted() {
    let _load = Load::start(&[Kind::Tcp, Kind::SystemCalls]);
    let (mut task, mut irq, mut user) = (0, 0, 0);
    // NMIs come when they come.
    for _ in 0..4 {
        let report = verified_nmis();
        task += walks_from(&report, "NMI > TASK");
        irq += walks_from(&report, "NMI > IRQ");
        // One that hits user mode runs on the task's stack.
        user += walks_from(&report, "TASK > USER");
        if task > 0 && irq > 0 && user > 0 {
            return;
        }
    }
    panic!("NMI > TASK {task}, NMI > IRQ {irq}, NMI in user mode {user}");
}

/// Whether one hits a handler is chance; that whatever it hits is walked as the kernel does is not.
fn nmis_in_the_handlers_of_watchpoints() {
    let _load = Load::start(&[Kind::Tcp, Kind::Udp]);
    let place = Place::new();
    let watching = [
        "record",
        "-a",
        "-e",
        "mem:softnet_data.processed",
        "-o",
        "run.folded",
    ];
    let mut watching = Running::start(&mut place.stackwalk(&watching));
    let report = verified_nmis();
    println!("NMI > #DB: {} walks", walks_from(&report, "NMI > #DB"));
    watching.child.kill().unwrap();
}

fn probes_and_returns() {
    let _load = Load::start(&[Kind::SystemCalls]);
    assert_walks(&verified("kprobe:vfs_read", &["-a"]), "TASK > USER", 50);
    assert_walks(&verified("kretprobe:vfs_read", &["-a"]), "TASK > USER", 50);
}

fn beginnings_and_ends_of_functions() {
    let _load = Load::start(&[Kind::SystemCalls]);
    assert_walks(&verified("fentry:vfs_read", &["-a"]), "TASK > USER", 50);
    assert_walks(&verified("fexit:vfs_read", &["-a"]), "TASK > USER", 50);
}

fn a_probe_in_a_softirq() {
    let _load = Load::start(&[Kind::Tcp]);
    let report = verified("kprobe:tcp_v4_rcv", &["-a"]);
    assert_walks(&report, "IRQ > TASK > USER", 50);
}

/// A function whose end is reported is called by its trampoline, so that a walk from a function
/// that it calls goes through it.
fn a_trampoline_in_the_chain() {
    let _load = Load::start(&[Kind::SystemCalls]);
    let place = Place::new();
    let holding = [
        "record",
        "-a",
        "-e",
        "fexit:vfs_read",
        "-c",
        "1000",
        "-o",
        "run.folded",
    ];
    let mut holding = Running::start(&mut place.stackwalk(&holding));
    let report = verified("kprobe:rw_verify_area", &["-a"]);
    assert_walks(&report, "TASK > USER", 50);
    holding.child.kill().unwrap();
}

fn a_module_in_the_chain() {
    let module = Module::load();
    let up = ["dummy0", "10.9.9.1", "netmask", "255.255.255.0", "up"];
    assert!(
        Command::new("ifconfig")
            .args(up)
            .status()
            .unwrap()
            .success()
    );
    let socket = UdpSocket::bind("10.9.9.1:0").unwrap();
    let sender = Load::of("swload-dummy", move || {
        // The device throws it away.
        let _sent = socket.send_to(&[0; 64], "10.9.9.2:9");
    });
    let place = Place::new();
    let run = place.run(&[
        "record",
        "-a",
        "-d",
        "2",
        "-e",
        "kprobe:consume_skb",
        "-o",
        "run.txt",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let text = std::fs::read_to_string(place.path("run.txt")).unwrap();
    assert!(text.contains("dummy_xmit+0x"), "{run:?}");
    let report = verified("kprobe:consume_skb", &["-a"]);
    assert_walks(&report, "TASK > USER", 50);
    drop(sender);
    assert!(
        Command::new("ifconfig")
            .args(["dummy0", "down"])
            .status()
            .unwrap()
            .success()
    );
    drop(module);
}
