use std::collections::HashMap;

use super::*;
use crate::kernel::offsets;

const BASE: u64 = 0xffff_8880_0000_0000;
const PER_CPU_TABLE: u64 = 0xffff_ffff_8300_0000;

/// A kernel with two CPUs, the second of them offline.
struct FakeKernel {
    facts: CpuFacts,
    words: HashMap<u64, u64>,
}

impl FakeKernel {
    fn new(irq_pointer: u64) -> Self {
        let offsets = offsets();
        let mut words = HashMap::new();
        words.insert(BASE + offsets.cpu_number, 0);
        words.insert(BASE + offsets.hardirq_stack_ptr, irq_pointer);
        words.insert(BASE + offsets.cea_exception_stacks, 0xffff_fe00_0000_8000);
        words.insert(PER_CPU_TABLE, BASE - 0x1000);
        let facts = CpuFacts {
            valid: 1,
            rq: BASE + offsets.runqueues,
            ..Default::default()
        };
        Self { facts, words }
    }

    fn tables(&mut self, kallsyms: &str) -> Result<Vec<Option<CpuStackTable>>, StacksError> {
        let symbols = Kallsyms::read(kallsyms.as_bytes()).unwrap();
        of_all_cpus(self, &offsets(), &symbols, 2)
    }
}

impl KernelMemory for FakeKernel {
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let word = self.words.get(&address).ok_or(ReadError {
            address,
            length,
            reason: "not there".to_owned(),
        })?;
        Ok(word.to_le_bytes()[..length].to_vec())
    }
}

impl CpuProbe for FakeKernel {
    fn cpu_facts(&mut self, cpu: u32) -> anyhow::Result<Option<CpuFacts>> {
        Ok((cpu == 0 && self.facts.valid == 1).then_some(self.facts))
    }
}

fn offsets() -> Offsets {
    Offsets {
        pid_namespace: None,
        irqaction_name: None,
        preempt_count: None,
        switch_has_state: true,
        task_stack: 0,
        task_pid: 0,
        task_tgid: 0,
        task_mm: 0,
        task_fsbase: 0,
        mm_start_stack: 0,
        task_cfs_rq: Some(0),
        cfs_rq_rq: Some(0),
        thread_size: 0x4000,
        irq_stack_size: 0x4000,
        runqueues: 0x2_0000,
        hardirq_stack_ptr: 0x100,
        current_task: 0x108,
        cpu_number: 0x110,
        top_of_stack: None,
        cea_exception_stacks: 0x118,
        exception_stacks: [
            ("DF_stack", 0x1000),
            ("NMI_stack", 0x4000),
            ("OTHER_stack", 0x7000),
        ]
        .map(|(name, offset)| offsets::ExceptionStack {
            name: name.to_owned(),
            offset,
            size: 0x2000,
        })
        .to_vec(),
        entry_stack_below_exceptions: 0x6000,
        entry_stack_size: 0x1000,
        orc: None,
        module_orc: None,
        bpf_text: None,
    }
}

const NO_SYMBOLS: &str = "";

#[test]
fn a_cpus_stacks_follow_from_its_run_queue() {
    let tables = FakeKernel::new(0xffff_c900_0000_3ff8)
        .tables(NO_SYMBOLS)
        .unwrap();
    let table = tables[0].as_ref().unwrap();
    assert_eq!(table.base, BASE);
    assert!(table.irq_stack_has_link);
    let found: Vec<_> = table
        .stacks
        .iter()
        .map(|stack| (stack.kind, stack.begin, stack.end))
        .collect();
    assert_eq!(
        found,
        [
            (
                StackKind::DoubleFault,
                0xffff_fe00_0000_9000,
                0xffff_fe00_0000_b000
            ),
            (StackKind::Nmi, 0xffff_fe00_0000_c000, 0xffff_fe00_0000_e000),
            (StackKind::Irq, 0xffff_c900_0000_0000, 0xffff_c900_0000_4000),
            (
                StackKind::Entry,
                0xffff_fe00_0000_2000,
                0xffff_fe00_0000_3000
            ),
        ]
    );
    assert_eq!(tables[1], None, "an offline CPU has no table");
}

#[test]
fn before_5_12_the_pointer_is_the_end_of_the_irq_stack() {
    let tables = FakeKernel::new(0xffff_c900_0000_4000)
        .tables(NO_SYMBOLS)
        .unwrap();
    let table = tables[0].as_ref().unwrap();
    assert!(!table.irq_stack_has_link);
    assert_eq!(table.stacks[2].end, 0xffff_c900_0000_4000);
}

#[test]
fn without_a_run_queue_the_kernels_own_table_is_used() {
    let mut kernel = FakeKernel::new(0xffff_c900_0000_3ff8);
    kernel.facts.rq = 0;
    assert!(matches!(
        kernel.tables(NO_SYMBOLS),
        Err(StacksError::NoBase { cpu: 0 })
    ));
    let symbols = "ffffffff83000000 D __per_cpu_offset\n0000000000001000 D __per_cpu_start\n";
    let tables = kernel.tables(symbols).unwrap();
    assert_eq!(tables[0].as_ref().unwrap().base, BASE);
}

#[test]
fn an_area_that_says_it_is_another_cpus_is_refused() {
    let mut kernel = FakeKernel::new(0xffff_c900_0000_3ff8);
    kernel.words.insert(BASE + offsets().cpu_number, 7);
    let error = kernel.tables(NO_SYMBOLS).unwrap_err();
    assert!(matches!(error, StacksError::WrongBase { cpu: 0, found: 7 }));
}

#[test]
fn no_cpu_at_all_is_an_error() {
    let mut kernel = FakeKernel::new(0xffff_c900_0000_3ff8);
    kernel.facts.valid = 0;
    assert!(matches!(kernel.tables(NO_SYMBOLS), Err(StacksError::NoCpu)));
}

#[test]
fn the_programs_get_the_same_ranges_and_links() {
    let tables = FakeKernel::new(0xffff_c900_0000_3ff8)
        .tables(NO_SYMBOLS)
        .unwrap();
    let value = tables[0].as_ref().unwrap().to_map_value(&offsets());
    assert_eq!(value.count, 4);
    let links: Vec<_> = value
        .ranges
        .iter()
        .map(|range| range.next_sp_below_end)
        .collect();
    assert_eq!(links, [16, 16, 8, 0, 0, 0, 0, 0]);
    assert_eq!(value.ranges[2].kind, StackKind::Irq as u32);
    assert_eq!(value.ranges[4], StackRange::default());
}
