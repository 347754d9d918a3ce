//! Which build is next: by priority, then by arrival. A plain value without tasks or clock.
//!
//! Invariant: a spec is in it at most once, waiting or running; at most `limit` wait.

use std::collections::{BTreeMap, HashMap};

use crate::model::Spec;

/// Who asks for a build, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody is looking at the page, or waits for a lookup.
    Person,
    /// A voter wants or claims it.
    Voter,
    /// A new version of a watched module.
    Watch,
    /// The backlog of an audit.
    Audit,
}

/// Waiting and running builds, each with what its owner keeps about it.
#[derive(Debug)]
pub(super) struct Queue<T> {
    limit: usize,
    /// In the order they will be taken.
    waiting: BTreeMap<Place, Spec>,
    builds: HashMap<Spec, Build<T>>,
    arrivals: u64,
}

/// Priority first, then the number of arrival.
type Place = (Priority, u64);

#[derive(Debug)]
struct Build<T> {
    /// None once it runs.
    place: Option<Place>,
    value: T,
}

/// No room for another that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the build queue is full, try again later")]
pub struct QueueFull;

impl<T> Queue<T> {
    pub(super) fn new(limit: usize) -> Queue<T> {
        Queue { limit, waiting: BTreeMap::new(), builds: HashMap::new(), arrivals: 0 }
    }

    /// Joins the build of a spec, raising its priority if this one is higher, or queues a new one
    /// with what `value` makes. True if it is new.
    pub(super) fn submit(
        &mut self,
        spec: &Spec,
        priority: Priority,
        value: impl FnOnce() -> T,
    ) -> Result<(&T, bool), QueueFull> {
        let is_new = !self.builds.contains_key(spec);
        if is_new {
            if self.waiting.len() >= self.limit {
                return Err(QueueFull);
            }
            let place = (priority, self.arrivals);
            self.arrivals += 1;
            self.waiting.insert(place, spec.clone());
            self.builds.insert(spec.clone(), Build { place: Some(place), value: value() });
        }
        let build = self.builds.get_mut(spec).expect("it was there or was just put there");
        if let Some(place) = build.place
            && priority < place.0
        {
            // Its arrival stays: among its new equals it is the one that waited longest.
            let higher = (priority, place.1);
            self.waiting.remove(&place);
            self.waiting.insert(higher, spec.clone());
            build.place = Some(higher);
        }
        Ok((&build.value, is_new))
    }

    /// The next to run.
    pub(super) fn take(&mut self) -> Option<Spec> {
        let (_, spec) = self.waiting.pop_first()?;
        self.builds.get_mut(&spec).expect("what waits is a build").place = None;
        Some(spec)
    }

    /// Forgets a build that ran.
    pub(super) fn finish(&mut self, spec: &Spec) -> Option<T> {
        let build = self.builds.remove(spec)?;
        if let Some(place) = build.place {
            self.waiting.remove(&place);
        }
        Some(build.value)
    }

    pub(super) fn find(&self, spec: &Spec) -> Option<&T> {
        self.builds.get(spec).map(|build| &build.value)
    }

    /// What waits, the next first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Spec, Priority, &T)> {
        self.waiting.iter().map(|(place, spec)| (spec, place.0, &self.builds[spec].value))
    }

    /// What runs, in no order.
    pub(super) fn running(&self) -> impl Iterator<Item = (&Spec, &T)> {
        self.builds.iter().filter(|(_, build)| build.place.is_none()).map(|(spec, build)| (spec, &build.value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(number: u8) -> Spec {
        format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/").parse().unwrap()
    }

    const PRIORITIES: [Priority; 4] = [Priority::Person, Priority::Voter, Priority::Watch, Priority::Audit];

    fn order(queue: &mut Queue<()>) -> String {
        let mut text = String::new();
        while let Some(spec) = queue.take() {
            text.push_str(spec.version.as_str().rsplit('.').next().unwrap());
            queue.finish(&spec);
        }
        text
    }

    #[test]
    fn persons_come_first_and_joining_raises() {
        let mut queue = Queue::new(10);
        for (number, priority) in [3, 2, 3, 0, 1].into_iter().enumerate() {
            queue.submit(&spec(u8::try_from(number).unwrap()), PRIORITIES[priority], || ()).unwrap();
        }
        assert!(!queue.submit(&spec(2), Priority::Person, || ()).unwrap().1, "it was there");
        assert!(!queue.submit(&spec(3), Priority::Audit, || ()).unwrap().1, "and is never lowered");
        assert_eq!(order(&mut queue), "23410");
    }

    #[test]
    fn a_full_queue_takes_no_more_but_can_be_joined() {
        let mut queue = Queue::new(1);
        queue.submit(&spec(1), Priority::Audit, || ()).unwrap();
        assert_eq!(queue.submit(&spec(2), Priority::Person, || ()).unwrap_err(), QueueFull);
        queue.submit(&spec(1), Priority::Person, || ()).unwrap();
        queue.take().unwrap();
        queue.submit(&spec(1), Priority::Person, || ()).unwrap();
        assert_eq!(queue.take(), None, "a running build is joined, not queued again");
        queue.submit(&spec(2), Priority::Person, || ()).unwrap();
    }

    proptest! {
        #[test]
        fn whatever_happens_a_spec_is_there_once(steps in prop::collection::vec((0u8..4, 0u8..6, 0usize..4), 0..100)) {
            let mut queue = Queue::new(4);
            for (step, number, priority) in steps {
                match step {
                    0 | 1 => { let _ = queue.submit(&spec(number), PRIORITIES[priority], || ()); }
                    2 => { queue.take(); }
                    _ => { queue.finish(&spec(number)); }
                }
                let mut all: Vec<Spec> = queue.waiting().map(|(spec, ..)| spec.clone())
                    .chain(queue.running().map(|(spec, _)| spec.clone()))
                    .collect();
                let count = all.len();
                all.sort_by_key(ToString::to_string);
                all.dedup();
                prop_assert_eq!(all.len(), count);
                prop_assert_eq!(queue.builds.len(), count);
                prop_assert!(queue.waiting.len() <= 4);
                let priorities: Vec<_> = queue.waiting().map(|(_, priority, _)| priority).collect();
                prop_assert!(priorities.is_sorted());
            }
        }
    }
}
