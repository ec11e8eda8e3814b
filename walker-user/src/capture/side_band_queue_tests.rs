use proptest::prelude::*;

use super::*;

fn exit(time_ns: u64, pid: u32) -> SideBand {
    SideBand {
        time_ns,
        pid,
        tid: pid,
        event: Event::Exit { pid, tid: pid },
    }
}

fn taken(queue: &mut SideBandQueue, until: u64) -> Vec<(u64, u32)> {
    std::iter::from_fn(|| queue.pop_until(until))
        .map(|record| (record.time_ns, record.pid))
        .collect()
}

#[test]
fn records_wait_for_their_time() {
    let mut queue = SideBandQueue::new();
    // As two CPUs' ring buffers hold them, one read after the other.
    [10, 30, 30].into_iter().zip(1..).for_each(|(time, pid)| {
        queue.push_parsed(exit(time, pid));
    });
    [20, 30, 40].into_iter().zip(4..).for_each(|(time, pid)| {
        queue.push_parsed(exit(time, pid));
    });
    assert_eq!(taken(&mut queue, 9), []);
    assert_eq!(
        taken(&mut queue, 30),
        [(10, 1), (20, 4), (30, 2), (30, 3), (30, 5)]
    );
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.counters().late, 0);
    queue.push_parsed(exit(29, 7));
    assert_eq!(queue.counters().late, 1);
    assert_eq!(taken(&mut queue, u64::MAX), [(29, 7), (40, 6)]);
    assert_eq!(queue.counters().delivered, 7);
}

#[test]
fn the_start_of_a_program_is_told_once_and_at_once() {
    let comm = |exec| SideBand {
        event: Event::Comm {
            pid: 1,
            tid: 1,
            exec,
            name: b"program".to_vec(),
        },
        ..exit(10, 1)
    };
    let mut queue = SideBandQueue::new();
    queue.push_parsed(exit(10, 1));
    queue.push_parsed(comm(false));
    assert!(!queue.take_exec_came());
    queue.push_parsed(comm(true));
    assert!(queue.take_exec_came());
    assert!(!queue.take_exec_came());
}

#[test]
fn losses_are_counted_and_given_out_in_their_place() {
    let mut queue = SideBandQueue::new();
    queue.push_loss(20, 5);
    queue.push_parsed(exit(10, 1));
    queue.push_parsed(exit(30, 1));
    assert_eq!(queue.counters().lost, 5);
    assert_eq!(queue.pop_until(u64::MAX).unwrap().time_ns, 10);
    let loss = queue.pop_until(u64::MAX).unwrap();
    assert_eq!(loss.event, Event::Lost { count: 5 });
}

#[test]
fn records_that_nobody_takes_do_not_fill_memory() {
    let one = exit(1, 1).bytes();
    let mut queue = SideBandQueue::with_limit(10 * one);
    for time in 1..=1000 {
        queue.push_parsed(exit(time, 1));
        assert!(queue.bytes <= 10 * one && queue.len() <= 10);
    }
    let counters = queue.counters();
    let first = queue.pop_until(u64::MAX).unwrap();
    assert!(matches!(first.event, Event::Lost { count } if count > 1));
    assert!(first.time_ns > 900, "{first:?}");
    let left = taken(&mut queue, u64::MAX).len() as u64;
    // The records of loss stand for earlier ones and are among those that went.
    assert!(counters.overflowed + left >= 1000);
    assert_eq!(queue.bytes, 0);
}

#[test]
fn what_is_no_record_is_counted() {
    let mut queue = SideBandQueue::new();
    queue.push(&[1, 2, 3]);
    let mut throttle = vec![0; 24];
    throttle[0] = 5;
    throttle[6] = 24;
    queue.push(&throttle);
    let counters = queue.counters();
    assert_eq!((counters.malformed, counters.skipped), (1, 1));
    assert!(queue.is_empty());
}

proptest! {
    #[test]
    fn the_order_is_that_of_a_stable_sort(times in prop::collection::vec(0u64..50, 0..200)) {
        let mut queue = SideBandQueue::new();
        let mut sorted: Vec<_> = times.iter().copied().zip(0..).collect();
        for &(time, pid) in &sorted {
            queue.push_parsed(exit(time, pid));
        }
        sorted.sort_by_key(|(time, _)| *time);
        prop_assert_eq!(taken(&mut queue, u64::MAX), sorted);
    }
}
