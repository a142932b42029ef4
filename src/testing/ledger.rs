//! Ledgers: what a process did, in an append-only file, for a checker that shares no code with the engine (`cargo xtask check`).
//!
//! Nothing is written, and nothing is paid, unless the crate is built with the feature `testing` and the store or the worker is
//! given a [`Ledger`].
//!
//! # The format
//!
//! One file a process; every number is little-endian. A file is a header of 48 bytes and then records of 48 bytes, each written whole
//! by one call. A last record that a kill has cut off is left out.
//!
//! | header | | record | |
//! |---|---|---|---|
//! | 0–7 | `gusherL1` | 0–7 | when: nanoseconds of the clock that all processes of this machine share and nobody sets |
//! | 8–15 | the ledger's number | 8–15 | the workflow: the last 8 bytes of its id |
//! | 16–19 | the process id | 16–23 | who: the first 8 bytes of a session's id, or a ledger's number |
//! | 20–47 | 0 | 24–31 | the first job's index in its step |
//! | | | 32–35 | the lease's number in its session; 0 for none |
//! | | | 36–39 | how many jobs in a row; of `started` and `ended`: which attempt |
//! | | | 40–41 | the step's number |
//! | | | 42 | the kind |
//! | | | 43 | detail |
//! | | | 44–47 | the transaction's number in this ledger; 0 for none |
//!
//! | kind | who writes it | what |
//! |---|---|---|
//! | 1 started, 2 ended | a worker | an attempt at one job; detail of `ended`: a job state, or 0 if the attempt does not count |
//! | 3 joined | a worker | who: its session |
//! | 10 granted | the store | jobs under a new lease |
//! | 11 settled | the store | detail: the final state. Without a lease: by the store itself |
//! | 12 retrying, 13 returned | the store | a report's jobs that go on: after a failure, or as if never claimed |
//! | 14 taken back | the store | detail 1: the lease expired; 0: it was given back |
//! | 15 refused | the store | a report under a lease that is not held |
//! | 16 aborted | the store | the transaction of that number was not committed |
//! | 20 workflow | a harness | a workflow that was made; first: its steps |
//! | 21 step | a harness | first: how many jobs it must come to have |
//! | 22 edge | a harness | the step may start once the step numbered `first` has settled |
//! | 30 killed, 31 stopped, 32 continued | a harness, who kills itself, or a server for a harness | who: the victim's ledger |
//! | 40 last | a harness | first: the last transaction of ledger `who` that the store holds |
//! | 41 final | a harness | what the store says of jobs in the end; detail: the state byte, lease: the recoveries |
//!
//! SQLite's records are in the ledger of the process that makes the transaction. Those of a transaction are written while it still holds the store's write lock, so their order is the order in which
//! the transactions happened. Just before it commits it notes its number in the store's table `ledger` and then writes them; it counts
//! unless it was `aborted`, or is behind the `last` that the store holds: a process may have been killed in between.
//!
//! A Redis server keeps its records itself, in the script that does what they tell, so there is none of what has not happened. A harness
//! takes them out (`RedisStore::take_records`) into a ledger that is the store's own, one for each shard. Their order is the order in which
//! things happened there. A kill stands in the ledger of each shard on which the victim held something.
//! Their times need no clock of the server's: each call says when it was sent, and a record's time is that or the time of the record
//! before it, whichever is later. So it lies between a call's sending and its answer, and what a worker wrote before it sent a call, or
//! writes once it knows the answer, stands on the right side of it, however the server's clock and the machine's differ.

pub use crate::ledger::{Kind, Ledger, Point, Record};
