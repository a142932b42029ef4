//! Without the feature `testing` there are no ledgers: all of this is nothing.

use super::{What, Whose};
use crate::error::Result;
use crate::slice::Mask;
use crate::worker::held::{Ended, Held, Taken};

#[derive(Clone, Debug, Default)]
pub struct Ledger(());

impl Ledger {
    pub fn started(&self, _: &Held, _: Taken) {}
    pub fn ended(&self, _: &Held, _: &Ended) {}
    pub fn sent_at(&self) -> Option<u64> {
        None
    }
    pub async fn during<T>(&self, _: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        call.await
    }
    pub fn page(&self) -> Page {
        Page
    }
    pub fn committed(&self, _: Page, _: bool) {}
}

/// What happened in one transaction.
#[derive(Debug)]
pub struct Page;

impl Page {
    pub fn notes(&self) -> Notes {
        Notes(())
    }
    pub fn add(&mut self, _: &'static str, _: Notes) {}
    pub fn number(&mut self, _: &Ledger) -> Option<(i64, u32)> {
        None
    }
    pub fn write(&self, _: &Ledger) {}
}

/// What happened in one operation.
#[derive(Debug, Default)]
pub struct Notes(());

impl Notes {
    pub fn are_kept(&self) -> bool {
        false
    }
    pub fn len(&self) -> usize {
        0
    }
    pub fn truncate(&mut self, _: usize) {}
    pub fn add(&mut self, _: What, _: Whose, _: Mask) {}
}
