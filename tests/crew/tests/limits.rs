//! Limits and unique jobs under the worst: four real worker processes that are killed at random. Their ledgers say what ran when.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crew::{Call, CallHost, Load, RATE, Ride, Sweep, Visit, app};
use gusher::testing::ledger::{Kind, Ledger, Record};
use gusher::{Client, JobId, LoneJob, Unique};
use support::House;
use support::until::until;
use tokio::process::Child;

const HOSTS: u64 = 5;
const VISITS: u64 = 400;
const RIDES: u64 = 300;
const LOADS: u64 = 200;
const CALLS: u64 = 60;
const KILLS: usize = 30;

/// A job as ledgers name it: its lane, and its index there.
type Named = (u64, u64);

/// A lease, by its session and its number there.
type Lease = (u64, u32);

/// From when to when an attempt at a job ran, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Ran {
    job: Named,
    lease: Lease,
    from: u64,
    until: u64,
}

/// One record of a ledger.
struct Noted<'a>(&'a [u8]);

impl Noted<'_> {
    fn all(records: &[u8]) -> impl Iterator<Item = Noted<'_>> {
        records.chunks_exact(48).map(Noted)
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn small(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn is(&self, kind: Kind) -> bool {
        self.0[42] == kind as u8
    }

    fn at(&self) -> u64 {
        self.number(0)
    }

    fn job(&self) -> Named {
        (self.number(8), self.number(24))
    }

    fn lease(&self) -> Lease {
        (self.number(16), self.small(32))
    }

    /// How many jobs.
    fn count(&self) -> u32 {
        self.small(36)
    }
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
    hired: usize,
    ran: Vec<Ran>,
    granted: BTreeMap<(Lease, Named), u64>,
}

impl<'h> Crew<'h> {
    fn of(house: &'h House, workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ran, granted) = (Vec::new(), BTreeMap::new());
        let mut crew = Self { house, folder, at_work: Vec::new(), hired: 0, ran, granted };
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
        let end = Ledger::now();
        let ledger = std::fs::read(&ledger).unwrap_or_default();
        let records = ledger.get(48..).unwrap_or_default();
        self.ran.extend(attempts(records, end));
        self.hear_of_grants(records);
    }

    /// A file's are in the ledger of the worker that got them, a server keeps them itself.
    fn hear_of_grants(&mut self, records: &[u8]) {
        for grant in Noted::all(records).filter(|record| record.is(Kind::Granted)) {
            let (lane, first) = grant.job();
            let jobs = (first..).take(grant.count() as usize);
            self.granted.extend(jobs.map(|job| ((grant.lease(), (lane, job)), grant.at())));
        }
    }

    async fn disband(mut self) -> Witnessed {
        while !self.at_work.is_empty() {
            self.kill(0).await;
        }
        self.hear_of_grants(&self.house.records().await);
        Witnessed { ran: self.ran, granted: self.granted }
    }
}

/// The attempts that a ledger tells of; those that it does not see the end of ended by `end`.
fn attempts(records: &[u8], end: u64) -> Vec<Ran> {
    let (mut under_way, mut ran) = (BTreeMap::new(), Vec::new());
    for record in Noted::all(records) {
        let (job, lease) = (record.job(), record.lease());
        if record.is(Kind::Started) {
            let again = under_way.insert((job, lease), record.at());
            assert_eq!(again, None, "a lease runs a job once");
        } else if record.is(Kind::Ended) {
            let from = under_way.remove(&(job, lease)).expect("what has ended has begun");
            ran.push(Ran { job, lease, from, until: record.at() });
        }
    }
    ran.extend(under_way.into_iter().map(|((job, lease), from)| Ran { job, lease, from, until: end }));
    ran
}

/// All that the ledgers tell.
struct Witnessed {
    ran: Vec<Ran>,
    granted: BTreeMap<(Lease, Named), u64>,
}

impl Witnessed {
    fn of(&self, jobs: &BTreeSet<Named>) -> impl Iterator<Item = Ran> {
        self.ran.iter().copied().filter(|one| jobs.contains(&one.job))
    }

    /// The most of these that ran at one moment.
    fn most_at_once(&self, jobs: &BTreeSet<Named>) -> i32 {
        let mut events: Vec<(u64, i32)> = self.of(jobs).flat_map(|one| [(one.from, 1), (one.until, -1)]).collect();
        events.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, change) in events {
            now += change;
            most = most.max(now);
        }
        most
    }

    /// The most of these that were granted and started within one period, which the store counts in whole milliseconds. Its count is
    /// made between the two: at the grant where a key is limited, when it hears of the start where a type is.
    fn most_in_a_period(&self, jobs: &BTreeSet<Named>) -> usize {
        let period = (RATE.1 - Duration::from_millis(1)).as_nanos() as u64;
        let granted = |one: &Ran| *self.granted.get(&(one.lease, one.job)).expect("what has run was granted");
        let spans: Vec<(u64, u64)> = self.of(jobs).map(|one| (granted(&one), one.from)).collect();
        let within = |begin: u64| spans.iter().filter(|(from, to)| *from >= begin && *to < begin + period).count();
        spans.iter().map(|(begin, _)| within(*begin)).max().unwrap_or(0)
    }
}

fn named(id: JobId) -> Named {
    (Record::workflow(id.lane), id.index)
}

/// Jobs that come into the store before the workers do.
struct Work {
    visits: Vec<LoneJob<Visit>>,
    of_hosts: [BTreeSet<Named>; HOSTS as usize],
    rides: BTreeSet<Named>,
    loads: BTreeSet<Named>,
    calls: BTreeSet<Named>,
    calls_of_hosts: [BTreeSet<Named>; HOSTS as usize],
}

impl Work {
    async fn for_all(client: &Client) -> Self {
        let (mut visits, mut of_hosts, mut calls_of_hosts) =
            (Vec::new(), [(); _].map(|()| BTreeSet::new()), [(); _].map(|()| BTreeSet::new()));
        for n in 0..VISITS {
            let visit =
                client.enqueue(Visit { host: n % HOSTS, takes: Duration::from_millis(5 + n % 30) }).await.unwrap();
            of_hosts[(n % HOSTS) as usize].insert(named(visit.id()));
            visits.push(visit);
        }
        let (mut rides, mut loads, mut calls) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for n in 0..RIDES {
            rides.insert(named(client.enqueue(Ride { takes: Duration::from_millis(5 + n % 40) }).await.unwrap().id()));
        }
        for n in 0..LOADS {
            loads.insert(named(client.enqueue(Load { takes: Duration::from_millis(5 + n % 20) }).await.unwrap().id()));
        }
        for n in 0..CALLS {
            calls.insert(named(client.enqueue(Call).await.unwrap().id()));
            let call = client.enqueue(CallHost { host: n % HOSTS }).await.unwrap();
            calls_of_hosts[(n % HOSTS) as usize].insert(named(call.id()));
        }
        Self { visits, of_hosts, rides, loads, calls, calls_of_hosts }
    }
}

async fn no_moment_has_one_over_the_limit_whoever_is_killed(house: House) {
    let client = app().client_on(house.store.clone());
    let work = Work::for_all(&client).await;
    let mut crew = Crew::of(&house, 4);
    let mut sweeps = BTreeSet::new();
    // As long as there are visits somebody is killed after every few of them, whatever became of those that it was at.
    for (kill, some) in work.visits.chunks(work.visits.len() / KILLS).take(KILLS).enumerate() {
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
    let seen = crew.disband().await;
    assert_eq!(work.of_hosts.each_ref().map(|visits| seen.most_at_once(visits)), [2; _]);
    assert_eq!(seen.most_at_once(&work.rides), 3);
    assert_eq!(seen.most_at_once(&work.loads), 2);
    assert_eq!(seen.most_at_once(&sweeps), 1);
    let rates = work.calls_of_hosts.iter().chain([&work.calls]).map(|calls| seen.most_in_a_period(calls));
    let rates: Vec<usize> = rates.collect();
    assert!(rates.iter().all(|most| *most <= RATE.0 as usize), "{rates:?}");
    let done: BTreeSet<Named> = seen.ran.iter().map(|one| one.job).collect();
    let jobs = work.of_hosts.iter().chain(&work.calls_of_hosts).chain([&work.rides, &work.loads, &work.calls, &sweeps]);
    assert!(jobs.flatten().all(|job| done.contains(job)), "every job has run");
    eprintln!("{} attempts at {} jobs, {KILLS} kills; at most {rates:?} calls in a period", seen.ran.len(), done.len());
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_moment_has_one_over_the_limit_whoever_is_killed_in_a_file() {
    no_moment_has_one_over_the_limit_whoever_is_killed(House::in_a_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_moment_has_one_over_the_limit_whoever_is_killed_on_redis_in_six_shards() {
    no_moment_has_one_over_the_limit_whoever_is_killed(House::on_redis_in(6).await).await;
}
