use super::*;

fn machine<'a>(folder: &'a Path) -> Machine<'a> {
    Machine {
        arch: Arch::Amd64,
        image: folder,
        initramfs: folder,
        parameters: String::new(),
        token: "1f2e",
        cpus: 2,
        memory: 512,
        timeout: Duration::from_secs(5),
        nmi_every: None,
        dump: None,
        kernel_log: false,
    }
}

/// What comes of these events, the orders that were given, and the output.
fn attend(machine: &Machine<'_>, events: Vec<Event>) -> (anyhow::Result<u8>, Vec<Order>, String) {
    let (sender, received) = sync_channel(QUEUE);
    let (orders, ordered) = sync_channel(QUEUE);
    for event in events {
        sender.send(event).unwrap();
    }
    let mut out = Vec::new();
    let deadline = Instant::now() + machine.timeout;
    let mut log = VecDeque::new();
    let result = machine.attend(
        &received,
        &orders,
        deadline,
        &mut log,
        &mut out,
        &mut |_| {},
    );
    drop(orders);
    let out = String::from_utf8(out).unwrap();
    (result, ordered.into_iter().collect(), out)
}

fn said(line: &str) -> Event {
    Event::Line(Port::Command, format!("{line}\n").into_bytes())
}

#[test]
fn the_status_and_the_output_are_those_of_the_command() {
    let (result, orders, out) = attend(
        &machine(Path::new("/x")),
        vec![
            said("stackwalk-guest: begin 1f2e"),
            said("hello"),
            said("last stackwalk-guest: end 1f2e 7"),
        ],
    );
    assert_eq!(result.unwrap(), 7);
    assert_eq!(out, "hello\nlast ");
    assert!(orders.is_empty(), "{orders:?}");
}

#[test]
fn an_end_without_the_line_is_a_failure() {
    let (result, _, _) = attend(
        &machine(Path::new("/x")),
        vec![said("hello"), Event::Closed],
    );
    let error = result.unwrap_err().to_string();
    assert!(error.contains("ended without saying"), "{error}");
}

#[test]
fn a_panic_is_a_failure_at_once() {
    let message = b"[ 1.0] ---[ end Kernel panic - not syncing: x ]---\n".to_vec();
    let (result, _, _) = attend(
        &machine(Path::new("/x")),
        vec![
            Event::Line(Port::Kernel, message),
            said("stackwalk-guest: end 1f2e 0"),
        ],
    );
    assert!(result.is_err());
}

#[test]
fn time_is_limited() {
    let mut machine = machine(Path::new("/x"));
    machine.timeout = Duration::ZERO;
    let (result, _, _) = attend(&machine, vec![said("hello")]);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("--timeout"), "{error}");
}

#[test]
fn lines_give_orders() {
    let mut machine = machine(Path::new("/x"));
    machine.nmi_every = Some(Duration::from_millis(5));
    machine.dump = Some(Dump {
        path: PathBuf::from("/x/dump"),
        at_line: "now".to_owned(),
    });
    let (result, orders, out) = attend(
        &machine,
        vec![
            said("now and then"),
            said("stackwalk-guest: begin 1f2e"),
            said("stackwalk-guest: nmi 3 10"),
            said("now"),
            said("stackwalk-guest: end 1f2e 0"),
        ],
    );
    assert_eq!(result.unwrap(), 0);
    assert!(out.contains("now\n"), "{out}");
    let [
        Order::NmiEvery(every),
        Order::Nmi { count: 3, .. },
        Order::Dump(path),
    ] = &orders[..]
    else {
        panic!("{orders:?}");
    };
    assert_eq!(*every, Duration::from_millis(5));
    assert_eq!(path, Path::new("/x/dump"));
}

#[test]
fn a_complaint_stays_in_the_log_whatever_comes_after_it() {
    let folder = PathBuf::from("/x");
    let machine = machine(&folder);
    let mut log = VecDeque::new();
    machine.keep(&mut log, b"[ 1.0] ------------[ cut here ]------------\n");
    for _ in 0..10 * LAST_MESSAGES {
        machine.keep(&mut log, b"[ 2.0] nothing\n");
    }
    assert_eq!(log.len(), LAST_MESSAGES);
    assert!(log.iter().any(|line| is_complaint(line)));
}

#[test]
fn qemu_emulates_and_ends_with_the_kernel() {
    let folder = PathBuf::from("/x");
    let arguments = machine(&folder).arguments(&folder).join(" ");
    for part in ["-accel tcg,thread=single", "-no-reboot", "panic=-1"] {
        assert!(arguments.contains(part), "{arguments}");
    }
}
