//! What BTF says of the kernel's tracepoints: the kernel declares a type `btf_trace_NAME` for each,
//! a pointer to a function whose first parameter is not the tracepoint's
//! (`include/trace/bpf_probe.h`, 6.18).

use super::{
    Btf,
    raw::{Kind, Type},
};

const PREFIX: &str = "btf_trace_";

impl Btf {
    /// How many arguments a tracepoint has; `None` if there is none of this name, or it is in a
    /// module.
    #[must_use]
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let wanted = format!("{PREFIX}{name}");
        let declared = self
            .tracepoint_types()
            .find(|found| self.raw.name_is(found.name_offset, &wanted))?;
        let pointer = self.raw.type_by_id(declared.size_or_type)?;
        let function = self.raw.type_by_id(pointer.size_or_type)?;
        if pointer.kind != Kind::Ptr || function.kind != Kind::FuncProto {
            return None;
        }
        function.parameters().checked_sub(1)
    }

    /// The names of all tracepoints that are not in modules.
    pub fn tracepoints(&self) -> impl Iterator<Item = &str> {
        self.tracepoint_types().filter_map(|found| {
            let name = self.raw.name(found.name_offset)?;
            std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)
        })
    }

    fn tracepoint_types(&self) -> impl Iterator<Item = Type<'_>> {
        self.raw.types().filter(|found| {
            found.kind == Kind::Typedef
                && self
                    .raw
                    .name(found.name_offset)
                    .is_some_and(|name| name.starts_with(PREFIX.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Btf;

    /// Where there is a kernel with BTF, its own tracepoints are the test.
    #[test]
    fn the_running_kernels_tracepoints_are_found() {
        let Ok(btf) = Btf::of_running_kernel() else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        // preempt, prev, next, and from 5.18 on the state.
        assert!(matches!(
            btf.tracepoint_arguments("sched_switch"),
            Some(3 | 4)
        ));
        assert_eq!(btf.tracepoint_arguments("sched_waking"), Some(1));
        assert_eq!(btf.tracepoint_arguments("no_such_tracepoint"), None);
        let all: Vec<&str> = btf.tracepoints().collect();
        assert!(
            all.contains(&"sched_switch") && all.len() > 100,
            "{}",
            all.len()
        );
    }
}
