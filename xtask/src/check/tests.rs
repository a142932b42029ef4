//! Small ledgers made by hand: a good one, and for each invariant one that violates it.

use super::book::Rule;
use super::record::{Kind, Ledger};
use super::{Verdict, check};

const WORKFLOW: u64 = 7;
const SUCCEEDED: u8 = 3;
const FAILED: u8 = 4;

/// Files under construction: number 0 is the harness, the others are workers whose session has the ledger's number.
struct Desk {
    files: Vec<Vec<u8>>,
    now: u64,
    tx: u32,
}

/// What most records need.
#[derive(Clone, Copy, Default)]
struct Note {
    who: u64,
    first: u64,
    lease: u32,
    count: u32,
    step: u16,
    detail: u8,
}

impl Desk {
    /// Two rows in step 0, and one report in step 1 after them.
    fn new() -> Self {
        let header = |number: u64| [b"gusherL1".as_slice(), &number.to_le_bytes(), &[0; 32]].concat();
        let mut desk = Self { files: (0..3).map(header).collect(), now: 0, tx: 0 };
        desk.write(0, Kind::Workflow, Note { first: 2, ..Note::default() });
        desk.write(0, Kind::Step, Note { first: 2, ..Note::default() });
        desk.write(0, Kind::Step, Note { first: 1, step: 1, ..Note::default() });
        desk.write(0, Kind::Edge, Note { first: 0, step: 1, ..Note::default() });
        for worker in 1..3 {
            desk.write(worker, Kind::Joined, Note { who: worker as u64, ..Note::default() });
        }
        desk
    }

    fn write(&mut self, file: usize, kind: Kind, note: Note) {
        self.now += 1_000_000;
        let tx = if (10..16).contains(&(kind as u8)) { self.tx } else { 0 };
        let file = &mut self.files[file];
        for number in [self.now, WORKFLOW, note.who, note.first] {
            file.extend(number.to_le_bytes());
        }
        file.extend(note.lease.to_le_bytes());
        file.extend(note.count.to_le_bytes());
        file.extend(note.step.to_le_bytes());
        file.extend([kind as u8, note.detail]);
        file.extend(tx.to_le_bytes());
    }

    fn granted(&mut self, worker: u64, lease: u32, step: u16, first: u64, count: u32) {
        self.write(worker as usize, Kind::Granted, Note { who: worker, first, lease, count, step, detail: 0 });
    }

    /// An attempt from its start to its end.
    fn ran(&mut self, worker: u64, lease: u32, step: u16, job: u64, attempt: u32, how: u8) {
        let note = Note { who: worker, first: job, lease, count: attempt, step, detail: 0 };
        self.write(worker as usize, Kind::Started, note);
        self.write(worker as usize, Kind::Ended, Note { detail: how, ..note });
    }

    fn reported(&mut self, kind: Kind, worker: u64, lease: u32, step: u16, job: u64, how: u8) {
        let note = Note { who: worker, first: job, lease, count: 1, step, detail: how };
        self.write(worker as usize, kind, note);
    }

    /// Claimed, run and reported, all by the first worker.
    fn done(&mut self, lease: u32, step: u16, job: u64) {
        self.granted(1, lease, step, job, 1);
        self.ran(1, lease, step, job, 1, SUCCEEDED);
        self.reported(Kind::Settled, 1, lease, step, job, SUCCEEDED);
    }

    fn check(self) -> Verdict {
        let files = self.files.into_iter().enumerate();
        let ledgers: Vec<Ledger> =
            files.map(|(n, bytes)| Ledger::from_bytes(format!("{n}.ledger"), bytes).unwrap()).collect();
        check(&ledgers)
    }

    fn broken(self) -> Vec<Rule> {
        self.check().book.violations.iter().map(|violation| violation.rule).collect()
    }
}

#[test]
fn a_run_in_which_a_worker_dies_and_another_goes_on_is_good() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 2);
    desk.ran(1, 1, 0, 0, 1, SUCCEEDED);
    desk.write(0, Kind::Killed, Note { who: 1, ..Note::default() });
    desk.write(2, Kind::TakenBack, Note { who: 1, lease: 1, count: 2, detail: 1, ..Note::default() });
    desk.granted(2, 1, 0, 0, 2);
    for job in 0..2 {
        desk.ran(2, 1, 0, job, 1, FAILED);
        desk.reported(Kind::Retrying, 2, 1, 0, job, 0);
        desk.granted(2, 2 + job as u32, 0, job, 1);
        desk.ran(2, 2 + job as u32, 0, job, 2, SUCCEEDED);
        desk.reported(Kind::Settled, 2, 2 + job as u32, 0, job, SUCCEEDED);
    }
    desk.done(2, 1, 0);
    desk.write(0, Kind::Final, Note { count: 2, lease: 1, detail: SUCCEEDED | 2 << 3, ..Note::default() });
    desk.write(0, Kind::Final, Note { count: 1, step: 1, detail: SUCCEEDED | 1 << 3, ..Note::default() });
    let verdict = desk.check();
    assert!(verdict.is_good(), "{:?}", verdict.context);
    let tally = &verdict.book.tally;
    assert_eq!((verdict.book.jobs(), tally.states[usize::from(SUCCEEDED)], tally.repeated), (3, 3, 1));
    assert_eq!((verdict.back.share(1.0), verdict.again.share(1.0)), (1.0, 3.0));
}

#[test]
fn a_job_that_never_settles_is_lost() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.granted(1, 2, 0, 1, 1);
    assert_eq!(desk.broken(), [Rule::Lost, Rule::Lost]);
}

#[test]
fn a_job_that_the_store_does_not_have_in_the_end_is_lost() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.done(2, 0, 1);
    desk.done(3, 1, 0);
    desk.write(0, Kind::Final, Note { count: 2, detail: SUCCEEDED | 1 << 3, ..Note::default() });
    assert_eq!(desk.broken(), [Rule::Lost]);
}

#[test]
fn a_report_that_starts_before_the_last_row_has_settled_is_early() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.granted(1, 2, 0, 1, 1);
    desk.done(3, 1, 0);
    desk.ran(1, 2, 0, 1, 1, SUCCEEDED);
    desk.reported(Kind::Settled, 1, 2, 0, 1, SUCCEEDED);
    let verdict = desk.check();
    assert_eq!(verdict.book.violations[0].rule, Rule::Early);
    assert!(verdict.context[0].contains("1 of 2 jobs of step 0 had not settled"), "{:?}", verdict.context);
    assert!(verdict.context.iter().any(|line| line.contains('►')), "{:?}", verdict.context);
}

#[test]
fn a_settlement_under_a_lease_that_was_taken_back_is_unfenced() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.ran(1, 1, 0, 0, 1, SUCCEEDED);
    desk.write(2, Kind::TakenBack, Note { who: 1, lease: 1, count: 1, detail: 1, ..Note::default() });
    desk.reported(Kind::Settled, 1, 1, 0, 0, SUCCEEDED);
    desk.done(2, 0, 1);
    desk.done(3, 1, 0);
    assert_eq!(desk.broken(), [Rule::Unfenced]);
}

#[test]
fn a_job_that_is_granted_while_another_holds_it_overlaps() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.granted(2, 1, 0, 0, 1);
    assert_eq!(desk.broken()[0], Rule::Overlap);
}

#[test]
fn a_job_that_is_granted_after_it_has_settled_settles_twice() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.done(2, 0, 0);
    let twice = desk.broken().into_iter().filter(|rule| *rule == Rule::SettledTwice).count();
    assert_eq!(twice, 2, "when it is granted, and when it is reported");
}

#[test]
fn a_report_about_a_job_that_its_lease_does_not_hold_is_found() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.reported(Kind::Settled, 1, 1, 0, 1, SUCCEEDED);
    assert_eq!(desk.broken()[0], Rule::NotHeld);
}

#[test]
fn a_report_that_is_refused_although_its_lease_is_held_is_found() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.write(1, Kind::Refused, Note { who: 1, lease: 1, ..Note::default() });
    assert_eq!(desk.broken()[0], Rule::WronglyRefused);
}

#[test]
fn a_job_that_succeeds_without_having_run_is_found() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.reported(Kind::Settled, 1, 1, 0, 0, SUCCEEDED);
    assert_eq!(desk.broken()[0], Rule::WithoutEffect);
}

#[test]
fn an_attempt_with_a_wrong_number_is_found() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.ran(1, 1, 0, 0, 2, SUCCEEDED);
    assert_eq!(desk.broken()[0], Rule::Attempts);
}

#[test]
fn a_store_that_says_something_else_in_the_end_is_found() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.done(2, 0, 1);
    desk.done(3, 1, 0);
    desk.write(0, Kind::Final, Note { count: 2, detail: SUCCEEDED | 1 << 3, ..Note::default() });
    desk.write(0, Kind::Final, Note { count: 1, step: 1, detail: FAILED | 1 << 3, ..Note::default() });
    assert_eq!(desk.broken(), [Rule::Disagrees, Rule::Lost]);
}

#[test]
fn attempts_and_recoveries_that_the_store_counts_otherwise_are_found() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.write(0, Kind::Final, Note { count: 1, detail: SUCCEEDED | 2 << 3, ..Note::default() });
    assert_eq!(desk.broken()[0], Rule::Attempts);
}

#[test]
fn jobs_that_nobody_made_are_found() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 2, 1);
    desk.granted(1, 2, 5, 0, 1);
    assert_eq!(desk.broken()[..2], [Rule::Undeclared; 2]);
}

#[test]
fn a_kill_of_a_process_that_holds_nothing_does_not_count() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.write(0, Kind::Killed, Note { who: 1, ..Note::default() });
    assert_eq!(desk.broken()[0], Rule::IdleKill);
}

#[test]
fn a_process_that_kills_itself_while_it_holds_nothing_is_no_kill() {
    let mut desk = Desk::new();
    for (lease, step, job) in [(1, 0, 0), (2, 0, 1), (3, 1, 0)] {
        desk.done(lease, step, job);
    }
    desk.write(1, Kind::Killed, Note { who: 1, ..Note::default() });
    let verdict = desk.check();
    assert_eq!((verdict.is_good(), verdict.book.kills.len()), (true, 0));
}

#[test]
fn a_process_that_is_killed_while_it_kills_itself_dies_once() {
    let mut desk = Desk::new();
    desk.granted(1, 1, 0, 0, 1);
    desk.write(1, Kind::Killed, Note { who: 1, ..Note::default() });
    desk.write(0, Kind::Killed, Note { who: 1, ..Note::default() });
    let verdict = desk.check();
    assert_eq!(verdict.book.kills.len(), 1);
    assert!(verdict.book.violations.iter().all(|violation| violation.rule != Rule::IdleKill));
}

#[test]
fn what_a_process_wrote_and_could_not_commit_before_it_was_killed_never_happened() {
    let mut desk = Desk::new();
    desk.tx = 1;
    desk.granted(1, 1, 0, 0, 1);
    desk.ran(1, 1, 0, 0, 1, SUCCEEDED);
    desk.tx = 2;
    desk.reported(Kind::Settled, 1, 1, 0, 0, SUCCEEDED);
    desk.tx = 0;
    desk.write(0, Kind::Last, Note { who: 1, first: 1, ..Note::default() });
    let rules = desk.broken();
    assert_eq!(rules, [Rule::Lost, Rule::Lost], "the settlement does not count, so the job is still under its lease");
}

#[test]
fn what_a_store_notes_in_a_ledger_of_its_own_tells_whom_a_kill_hits() {
    let mut desk = Desk::new();
    let (store, of) = (desk.files.len(), |lease, first| Note { who: 1, first, lease, count: 1, ..Note::default() });
    desk.files.push([b"gusherL1".as_slice(), &99u64.to_le_bytes(), &[0; 32]].concat());
    desk.write(store, Kind::Granted, of(1, 0));
    desk.write(store, Kind::Killed, Note { who: 1, ..Note::default() });
    desk.write(store, Kind::TakenBack, Note { detail: 1, ..of(1, 0) });
    desk.write(store, Kind::Killed, Note { who: 1, ..Note::default() });
    let verdict = desk.check();
    assert_eq!((verdict.book.kills.len(), verdict.back.len()), (2, 1));
    assert_eq!(verdict.book.violations[0].rule, Rule::IdleKill, "the second finds nothing");
}

#[test]
fn a_process_that_two_shards_have_noted_as_killed_dies_once() {
    let mut desk = Desk::new();
    let of = |lease, first| Note { who: 1, first, lease, count: 1, ..Note::default() };
    for (number, job) in [(99_u64, 0), (98, 1)] {
        let shard = desk.files.len();
        desk.files.push([b"gusherL1".as_slice(), &number.to_le_bytes(), &[0; 32]].concat());
        desk.write(shard, Kind::Granted, of(job as u32 + 1, job));
        desk.write(shard, Kind::Killed, Note { who: 1, ..Note::default() });
        desk.write(shard, Kind::TakenBack, Note { detail: 1, ..of(job as u32 + 1, job) });
    }
    let verdict = desk.check();
    assert_eq!((verdict.book.kills.len(), verdict.back.len()), (1, 1));
    assert!(verdict.book.violations.iter().all(|violation| violation.rule != Rule::IdleKill));
}

#[test]
fn a_record_that_a_kill_has_cut_off_is_left_out() {
    let mut desk = Desk::new();
    desk.done(1, 0, 0);
    desk.done(2, 0, 1);
    desk.done(3, 1, 0);
    desk.files[1].extend([1; 20]);
    assert_eq!(desk.broken(), []);
}
