//! Slots that are lent: a source that waits for the jobs that it has emitted lets others run in its slot, and takes one back before it goes on.
//! So a worker runs at no time more jobs than it has slots, and one with a single slot gets on.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::hub::Hub;

/// What the slots of a worker have lent.
#[derive(Debug, Default)]
pub struct Lending {
    state: Mutex<State>,
    /// A slot has been lent, and is to begin.
    pub lent: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many are lent.
    out: u32,
    /// How many of them have not begun.
    to_begin: u32,
    /// Who takes one back, in turn: nobody, if who lent it has died.
    wanted: VecDeque<Option<oneshot::Sender<()>>>,
}

impl Lending {
    /// How many slots are to begin now.
    pub fn begin(&self) -> u32 {
        std::mem::take(&mut self.state.lock().to_begin)
    }

    /// A slot is between two slices: whether it ends here, since who lent it takes it back.
    pub fn hand_back(&self) -> bool {
        let mut state = self.state.lock();
        while let Some(wanted) = state.wanted.pop_front() {
            // Who has gone meanwhile has said so by an entry of its own.
            if wanted.is_none_or(|wanted| wanted.send(()).is_ok()) {
                state.out -= 1;
                return true;
            }
        }
        false
    }
}

/// A slot that a job has lent.
#[derive(Debug)]
pub struct LentSlot {
    hub: Arc<Hub>,
    /// Filled once it is taken back.
    comes: Option<oneshot::Receiver<()>>,
    is_back: bool,
}

impl LentSlot {
    /// Lends the slot in which a job runs; `None` if as many are lent as the worker has: what waits holds memory and files.
    pub fn lend(hub: &Arc<Hub>) -> Option<Self> {
        let mut state = hub.lending.state.lock();
        if state.out >= hub.slots {
            return None;
        }
        state.out += 1;
        state.to_begin += 1;
        drop(state);
        hub.lending.lent.notify_one();
        Some(Self { hub: hub.clone(), comes: None, is_back: false })
    }

    pub fn is_back(&self) -> bool {
        self.is_back
    }

    /// Waits for a slot: the next one that is between two slices. Goes on waiting for the same one if it is called again. Once the worker stops
    /// nothing more is started in any slot, and nobody waits for one.
    pub async fn take_back(&mut self) {
        if self.is_back {
            return;
        }
        let hub = &self.hub;
        let comes = self.comes.get_or_insert_with(|| {
            let (gives, comes) = oneshot::channel();
            hub.lending.state.lock().wanted.push_back(Some(gives));
            hub.work_came.notify_waiters();
            comes
        });
        tokio::select! {
            biased;
            came = comes => self.is_back = came.is_ok(),
            () = hub.stopping.cancelled() => {}
        }
    }
}

impl Drop for LentSlot {
    fn drop(&mut self) {
        if !self.is_back {
            self.hub.lending.state.lock().wanted.push_back(None);
            self.hub.work_came.notify_waiters();
        }
    }
}
