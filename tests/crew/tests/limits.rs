//! Limits and unique jobs under the worst: four real worker processes that are killed at random. Their ledgers say what ran when.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crew::{Ride, Sweep, Visit, app};
use gusher::testing::ledger::{Kind, Ledger, Record};
use gusher::{JobId, Unique};
use support::House;
use support::until::until;
use tokio::process::Child;

const HOSTS: u64 = 5;
const VISITS: u64 = 400;
const RIDES: u64 = 300;
const KILLS: usize = 30;

/// A job as ledgers name it: its lane, and its index there.
type Named = (u64, u64);

/// From when to when an attempt at a job ran.
#[derive(Clone, Copy, Debug)]
struct Ran {
    job: Named,
    from: u64,
    until: u64,
}

/// A worker process, and where it writes down what it does.
struct Witness {
    process: Child,
    ledger: PathBuf,
}

/// Witnesses, and what those that are no more have seen.
struct Crew<'h> {
    house: &'h House,
    folder: tempfile::TempDir,
    at_work: Vec<Witness>,
    ran: Vec<Ran>,
    hired: usize,
}

impl<'h> Crew<'h> {
    fn of(house: &'h House, workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut crew = Self { house, folder, at_work: Vec::new(), ran: Vec::new(), hired: 0 };
        for _ in 0..workers {
            crew.hire();
        }
        crew
    }

    fn hire(&mut self) {
        self.hired += 1;
        let ledger = self.folder.path().join(self.hired.to_string());
        let process = self.house.worker_with_a_ledger(&ledger);
        self.at_work.push(Witness { process, ledger });
    }

    /// Kills one; what it was at has ended by now.
    async fn kill(&mut self, at: usize) {
        let Witness { mut process, ledger } = self.at_work.remove(at);
        process.kill().await.unwrap();
        self.ran.extend(attempts(&ledger, Ledger::now()));
    }

    async fn disband(mut self) -> Vec<Ran> {
        while !self.at_work.is_empty() {
            self.kill(0).await;
        }
        self.ran
    }
}

/// The attempts that a ledger tells of; those that it does not see the end of ended by `end`.
fn attempts(ledger: &std::path::Path, end: u64) -> Vec<Ran> {
    let bytes = std::fs::read(ledger).unwrap_or_default();
    let number = |record: &[u8], at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let (mut under_way, mut ran) = (BTreeMap::new(), Vec::new());
    for record in bytes.get(48..).unwrap_or_default().chunks_exact(48) {
        let job = (number(record, 8), number(record, 24));
        let attempt = record[36];
        if record[42] == Kind::Started as u8 {
            under_way.insert((job, attempt), number(record, 0));
        } else if record[42] == Kind::Ended as u8 {
            let from = under_way.remove(&(job, attempt)).expect("what has ended has begun");
            ran.push(Ran { job, from, until: number(record, 0) });
        }
    }
    ran.extend(under_way.into_iter().map(|((job, _), from)| Ran { job, from, until: end }));
    ran
}

fn named(id: JobId) -> Named {
    (Record::workflow(id.lane), id.index)
}

/// The most of these that ran at one moment.
fn most_at_once(ran: impl Iterator<Item = Ran>) -> i32 {
    let mut events: Vec<(u64, i32)> = ran.flat_map(|one| [(one.from, 1), (one.until, -1)]).collect();
    events.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in events {
        now += change;
        most = most.max(now);
    }
    most
}

async fn no_moment_has_one_over_the_limit_whoever_is_killed(house: House) {
    let client = app().client_on(house.store.clone());
    let (mut visits, mut hosts) = (Vec::new(), BTreeMap::new());
    for n in 0..VISITS {
        let visit = client.enqueue(Visit { host: n % HOSTS, takes: Duration::from_millis(5 + n % 30) }).await.unwrap();
        hosts.insert(named(visit.id()), n % HOSTS);
        visits.push(visit);
    }
    let mut rides = BTreeSet::new();
    for n in 0..RIDES {
        rides.insert(named(client.enqueue(Ride { takes: Duration::from_millis(5 + n % 40) }).await.unwrap().id()));
    }
    let mut crew = Crew::of(&house, 4);
    let mut sweeps = BTreeSet::new();
    // As long as there are visits somebody is killed after every few of them, whatever became of those that it was at.
    for (kill, some) in visits.chunks(visits.len() / KILLS).take(KILLS).enumerate() {
        for visit in some {
            let sweep = client.enqueue(Sweep { takes: Duration::from_millis(15) });
            sweeps.insert(named(sweep.unique(Unique::until_settled("house").or_first()).await.unwrap().id()));
            let _ = visit.wait().await;
        }
        crew.kill(kill % 3).await;
        crew.hire();
    }
    let all_settled = async || client.lanes().await.unwrap().iter().all(|lane| lane.jobs.unsettled() == 0);
    until(async || all_settled().await.then_some(())).await;
    let ran = crew.disband().await;
    let (ran, hosts) = (&ran, &hosts);
    let visits = |host| ran.iter().copied().filter(move |one| hosts.get(&one.job) == Some(&host));
    let hosts_seen: Vec<i32> = (0..HOSTS).map(|host| most_at_once(visits(host))).collect();
    assert_eq!(hosts_seen, [2; HOSTS as usize]);
    assert_eq!(most_at_once(ran.iter().copied().filter(|one| rides.contains(&one.job))), 3);
    let sweeping = || ran.iter().copied().filter(|one| sweeps.contains(&one.job));
    assert_eq!(most_at_once(sweeping()), 1);
    let done: BTreeSet<Named> = ran.iter().map(|one| one.job).collect();
    assert!(hosts.keys().chain(&sweeps).chain(&rides).all(|job| done.contains(job)), "every job has run");
    eprintln!("{} attempts at {VISITS} visits, {RIDES} rides and {} sweeps, {KILLS} kills", ran.len(), sweeps.len());
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_moment_has_one_over_the_limit_whoever_is_killed_in_a_file() {
    no_moment_has_one_over_the_limit_whoever_is_killed(House::in_a_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_moment_has_one_over_the_limit_whoever_is_killed_on_redis() {
    no_moment_has_one_over_the_limit_whoever_is_killed(House::on_redis().await).await;
}
