//! Joins requests for one thing, without a task of their own.
//!
//! A flight is a shared future: whoever waits drives it, all get its one answer, and it is called off when the last
//! one leaves. So nothing is fetched that nobody waits for, and nothing runs unsupervised.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::watch;

/// Bytes so far, and of how many, if that is known.
type Progress = (u64, Option<u64>);

/// What a flight tells its progress to.
pub(crate) type Tell = Box<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// What is under way, by name.
pub(crate) struct Flights<T: Clone> {
    flights: Mutex<HashMap<String, Flight<T>>>,
}

struct Flight<T: Clone> {
    landing: WeakShared<BoxFuture<'static, T>>,
    progress: watch::Receiver<Progress>,
}

impl<T: Clone> Default for Flights<T> {
    fn default() -> Flights<T> {
        Flights { flights: Mutex::default() }
    }
}

impl<T: Clone + Send + 'static> Flights<T> {
    /// Waits for the flight of that name; starts it if there is none. `progress` is told what the flight tells.
    pub(crate) async fn join(
        &self,
        name: &str,
        start: impl FnOnce(Tell) -> BoxFuture<'static, T>,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> T {
        let (mut landing, mut news) = self.board(name, start);
        let mut talking = true;
        loop {
            tokio::select! {
                landed = &mut landing => return landed,
                changed = news.changed(), if talking => match changed {
                    Ok(()) => {
                        let (done, total) = *news.borrow_and_update();
                        progress(done, total);
                    }
                    // Landed: all has been said.
                    Err(_) => talking = false,
                },
            }
        }
    }

    fn board(
        &self,
        name: &str,
        start: impl FnOnce(Tell) -> BoxFuture<'static, T>,
    ) -> (Shared<BoxFuture<'static, T>>, watch::Receiver<Progress>) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that landed or were left: so the map never holds more than what is under way.
        flights.retain(|_, flight| flight.landing.upgrade().is_some_and(|landing| landing.peek().is_none()));
        if let Some(flight) = flights.get(name)
            && let Some(landing) = flight.landing.upgrade()
        {
            return (landing, flight.progress.clone());
        }
        let (news, progress) = watch::channel((0, None));
        let tell = move |done, total| {
            news.send_replace((done, total));
        };
        let landing = start(Box::new(tell)).shared();
        if let Some(weak) = landing.downgrade() {
            let progress = progress.clone();
            flights.insert(name.to_owned(), Flight { landing: weak, progress });
        }
        (landing, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn those_who_come_during_a_flight_share_it_and_later_ones_start_another() {
        let flights = Flights::<u32>::default();
        let started = Arc::new(AtomicU32::new(0));
        let start = |tell: Tell| {
            let number = started.fetch_add(1, Ordering::SeqCst);
            async move {
                tell(7, Some(9));
                tokio::time::sleep(Duration::from_millis(30)).await;
                number
            }
            .boxed()
        };
        let heard = AtomicU32::new(0);
        let listen = |done, total| {
            assert_eq!((done, total), (7, Some(9)));
            heard.fetch_add(1, Ordering::SeqCst);
        };
        let (a, b) = tokio::join!(flights.join("x", start, &listen), flights.join("x", start, &|_, _| ()));
        assert_eq!((a, b), (0, 0));
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        assert_eq!(flights.join("x", start, &|_, _| ()).await, 1);
    }

    #[tokio::test]
    async fn a_flight_that_all_have_left_is_called_off() {
        let flights = Flights::<u32>::default();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let start = move |_| {
            async move {
                let _held = held;
                std::future::pending().await
            }
            .boxed()
        };
        let left = tokio::time::timeout(Duration::from_millis(10), flights.join("x", start, &|_, _| ())).await;
        assert!(left.is_err());
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
