//! The rules of the addresses met last. A hit spares the search for an entry and the run of its
//! program, and is why walks are fast.

use super::{rule::Rule, walk::ModuleId};

/// How many rules are kept. The code that a machine spends its time in has fewer call sites.
const ENTRIES: usize = 8192;

#[derive(Debug, Clone, Copy)]
struct Entry {
    address: u64,
    module: ModuleId,
    /// What the address is of. What is kept for the byte before a return address was found good
    /// for one; of an interrupted address nobody asked that.
    returned: bool,
    rule: Rule,
}

/// A place that was never written. Should a walk ask for this very address, the rule is right: no
/// FDE can cover the last one there is.
const EMPTY: Entry = Entry {
    address: u64::MAX,
    module: ModuleId::NONE,
    returned: false,
    rule: Rule::NoInfo,
};

/// A direct-mapped cache: each address has one place, and the last one wins it.
#[derive(Debug)]
pub(super) struct RuleCache {
    entries: Box<[Entry]>,
    hits: u64,
    misses: u64,
}

impl RuleCache {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![EMPTY; ENTRIES].into_boxed_slice(),
            hits: 0,
            misses: 0,
        }
    }

    #[inline]
    fn index(module: ModuleId, address: u64) -> usize {
        // Fibonacci hashing; the upper bits are the good ones.
        let key = address ^ (u64::from(module.0) << 40);
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> (u64::BITS - ENTRIES.ilog2())) as usize
    }

    /// The rule for a link-time address of an object, which is `returned` to by the code that
    /// was called from there, or else was interrupted.
    #[inline]
    pub(super) fn get(&mut self, module: ModuleId, address: u64, returned: bool) -> Option<Rule> {
        let entry = self.entries.get(Self::index(module, address))?;
        if entry.address == address && entry.module == module && entry.returned == returned {
            self.hits += 1;
            Some(entry.rule)
        } else {
            self.misses += 1;
            None
        }
    }

    /// Keeps a rule.
    pub(super) fn put(&mut self, module: ModuleId, address: u64, returned: bool, rule: Rule) {
        if let Some(entry) = self.entries.get_mut(Self::index(module, address)) {
            *entry = Entry {
                address,
                module,
                returned,
                rule,
            };
        }
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses
    }
}

const _: () = {
    assert!(ENTRIES.is_power_of_two());
    assert!(size_of::<Entry>() <= 32);
};

#[cfg(test)]
mod tests {
    use super::{ENTRIES, RuleCache};
    use crate::unwind::user::{rule::Rule, walk::ModuleId};

    #[test]
    fn a_rule_is_found_for_its_own_module_and_address_only() {
        let mut cache = RuleCache::new();
        assert_eq!(cache.get(ModuleId(1), 0x1000, false), None);
        cache.put(ModuleId(1), 0x1000, false, Rule::Slow);
        assert_eq!(cache.get(ModuleId(1), 0x1000, false), Some(Rule::Slow));
        assert_eq!(cache.get(ModuleId(2), 0x1000, false), None);
        assert_eq!(cache.get(ModuleId(1), 0x1001, false), None);
        assert_eq!((cache.hits(), cache.misses()), (1, 3));
        assert_eq!(cache.get(ModuleId(1), 0x1000, true), None);
    }

    #[test]
    fn the_last_rule_of_a_place_replaces_the_one_before() {
        let mut cache = RuleCache::new();
        for address in 0..4 * ENTRIES as u64 {
            cache.put(ModuleId(7), address, false, Rule::Outermost);
            assert_eq!(
                cache.get(ModuleId(7), address, false),
                Some(Rule::Outermost)
            );
        }
        let kept = (0..4 * ENTRIES as u64)
            .filter(|&address| cache.get(ModuleId(7), address, false).is_some())
            .count();
        assert!(kept <= ENTRIES, "{kept} rules in {ENTRIES} places");
        assert!(kept > ENTRIES / 2, "{kept} of {ENTRIES} places are used");
    }
}
