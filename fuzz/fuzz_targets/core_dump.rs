//! The dump of a kernel: whatever is in it, it is opened and shown, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walker_user::core_dump::{CoreDump, Report, Selection};

/// Symbols of a 32-bit kernel, which needs the fewest.
const MAP: &[u8] = b"c1000000 T _stext\nc1001000 T _etext\nc1200040 D linux_banner\n\
    c1300000 D __per_cpu_offset\nc1300100 D nr_cpu_ids\nc1300108 D __cpu_online_mask\n\
    c1301000 D init_task\nc1304000 D init_stack\nc1500000 D __per_cpu_start\n\
    c1500010 D current_task\n";

fuzz_target!(|data: &[u8]| {
    if let Ok(core) = CoreDump::from_source(Box::new(data.to_vec()), MAP) {
        let selection = Selection {
            cpus: true,
            tasks: true,
            ..Selection::default()
        };
        let _shown = Report::new(&core).write(&selection, &mut Vec::new());
    }
});
