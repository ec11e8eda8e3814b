//! Time that is not running: waits, with who ends them, and interrupts.

use std::path::Path;

use crate::{
    Test,
    events::{assert_all_counted, figure},
    helper::{Helper, Role},
    load::{Kind, Load},
    support::{Place, Run},
    test,
    wait::until,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_sleep_is_a_wait_and_ends_by_an_interrupt),
    test!(a_wait_is_ended_by_who_wakes_the_task),
    test!(short_waits_are_left_out_and_counted),
    test!(all_time_is_running_and_waiting),
    test!(interrupts_are_named_and_timed),
    test!(who_waited_before_and_never_woke_is_counted),
];

fn who_waited_before_and_never_woke_is_counted() {
    let blocked = Helper::start("swblocked", Role::Forks(0));
    let pid = blocked.pid().to_string();
    until("it reads its input", || {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall"));
        call.unwrap_or_default().starts_with("0 0x0 ")
    });
    for option in ["--off-cpu", "--wall"] {
        let place = Place::new();
        let run = place.run(&["record", option, "-p", &pid, "-d", "1", "-o", "run.txt"]);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        let said = "1 thread waited before the sampling began and until its end";
        assert!(run.stderr.contains(said), "{run:?}");
    }
}

/// Of a recording of waits in text form: the head of each stack, and its lines.
fn waits(path: &Path) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("\n\n").skip(1);
    let blocks = blocks.map(|block| {
        let mut lines = block.lines().map(str::to_owned);
        (lines.next().unwrap_or_default(), lines.collect())
    });
    blocks.collect()
}

/// The time in the head of a stack, in milliseconds.
fn milliseconds(head: &str) -> f64 {
    let mut words = head.split_whitespace().collect::<Vec<_>>().into_iter();
    let unit = |word: &str| match word {
        "ns" => Some(1e-6),
        "µs" => Some(1e-3),
        "ms" => Some(1.0),
        "s" => Some(1e3),
        _ => None,
    };
    let mut before = words.next().unwrap();
    for word in words {
        if let (Ok(number), Some(unit)) = (before.parse::<f64>(), unit(word)) {
            return number * unit;
        }
        before = word;
    }
    panic!("no time in {head}");
}

fn off_cpu(place: &Place, options: &[&str], command: &[&str]) -> Run {
    let arguments = [&["record", "-o", "run.txt"], options, &["--"], command].concat();
    let run = place.run(&arguments);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_all_counted(&run);
    run
}

/// The waits of one name with this line in the stack, in milliseconds.
fn waited(place: &Place, comm: &str, line: &str) -> f64 {
    let matches = |(head, lines): &(String, Vec<String>)| {
        head.starts_with(&format!("{comm} ")) && lines.iter().any(|shown| shown.contains(line))
    };
    let waits = waits(&place.path("run.txt"));
    let found = waits.iter().filter(|wait| matches(wait));
    found.map(|(head, _)| milliseconds(head)).sum()
}

fn a_sleep_is_a_wait_and_ends_by_an_interrupt() {
    let place = Place::new();
    off_cpu(&place, &["--off-cpu"], &["sleep", "0.5"]);
    let slept = waited(&place, "sleep", "[woken by an interrupt]");
    assert!((500.0..700.0).contains(&slept), "{slept} ms");
    let in_kernel = waited(&place, "sleep", "hrtimer_nanosleep");
    assert!(in_kernel >= 500.0, "{in_kernel} ms");
}

fn a_wait_is_ended_by_who_wakes_the_task() {
    let place = Place::new();
    off_cpu(&place, &["--off-cpu"], &["sh", "-c", "sleep 0.3 | cat"]);
    // The pipe is closed by the end of the other.
    let waited = waited(&place, "cat", "[woken by sleep]");
    assert!((200.0..600.0).contains(&waited), "{waited} ms");
}

fn short_waits_are_left_out_and_counted() {
    let place = Place::new();
    let command = ["sh", "-c", "sleep 0.01; sleep 0.3"];
    let run = off_cpu(&place, &["--off-cpu", "--min-wait", "200ms"], &command);
    let filtered = figure(&run, "waits shorter or longer than asked for");
    assert!(filtered >= 2, "{run:?}");
    for (head, _) in waits(&place.path("run.txt")) {
        assert!(milliseconds(&head) >= 200.0, "{head}");
    }
}

fn all_time_is_running_and_waiting() {
    let place = Place::new();
    let work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 0.3";
    let run = off_cpu(&place, &["--wall"], &["sh", "-c", work]);
    let (_, rest) = run.stderr.split_once(" CPUs for ").unwrap();
    let seconds: f64 = rest.split(' ').next().unwrap().parse().unwrap();
    let of_shell = |head: &str| head.contains("  sh  ");
    let waits = waits(&place.path("run.txt"));
    let all: f64 = waits
        .iter()
        .filter(|(head, _)| of_shell(head))
        .map(|(head, _)| milliseconds(head))
        .sum();
    // The shell is there all the time, but for the start and the end.
    let share = all / (seconds * 1e3);
    assert!(
        (0.7..1.2).contains(&share),
        "{all} ms of {seconds} s: {run:?}"
    );
}

fn interrupts_are_named_and_timed() {
    let _load = Load::start(&[Kind::Udp]);
    let place = Place::new();
    let run = place.run(&["record", "-a", "-d", "1", "--irq", "-o", "run.txt"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_all_counted(&run);
    let stacks = waits(&place.path("run.txt"));
    for (name, by) in [
        ("[softirq NET_RX]", "handle_softirqs"),
        ("[local timer interrupt]", "sysvec_apic_timer_interrupt"),
    ] {
        let of_name = |lines: &[String]| lines.iter().any(|line| line.contains(name));
        let (head, lines) = stacks
            .iter()
            .find(|(_, lines)| of_name(lines))
            .unwrap_or_else(|| panic!("no {name}: {run:?}"));
        assert!(head.starts_with("irq  "), "{head}");
        assert!(milliseconds(head) < 1000.0, "{head}");
        // The softirq's function was called differently before 6.9.
        let served = |line: &&String| line.contains(by) || line.contains("__do_softirq");
        assert!(lines.iter().any(|line| served(&line)), "{head}: {lines:#?}");
    }
}
