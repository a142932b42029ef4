//! A run: workflows are started one after another, several at a time, while what works on them is killed, stopped, starved of disk,
//! cut off from its server and told wrong times. In the end every one of them must have come out as computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gusher::store::Store;
use gusher::testing::ledger::{Kind, Ledger, Record};
use gusher::{Handle, WorkflowState};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::carrier::{self, Carrier};
use crate::crew::{Crew, rows};
use crate::dice::Dice;
use crate::ending;
use crate::sink;
use crate::stage::{Servers, Stage, patiently};
use crate::worker::{AFTER_EFFECT, CLOCK_MOVED, Death};
use crate::workload::{Season, Told, app};

/// How many workflows run at the same time.
const AT_ONCE: usize = 3;
/// The rows of each; the last ones are smaller if there are not enough jobs.
const ROWS: u64 = 2_400;
/// Where the harness notes what it does.
const OWN_LEDGER: &str = "harness.ledger";
/// How often the harness looks at the workflows.
const LOOK: Duration = Duration::from_millis(100);
/// How long a disk stays full.
const FULL: Duration = Duration::from_secs(2);
/// After so long without a job that settles the run is given up.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where the workers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Meeting {
    /// A file.
    Sqlite,
    /// A server of the run's own.
    Redis,
    Valkey,
    /// Three masters.
    Cluster,
}

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where the ledgers go; an empty folder.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, value_enum, default_value_t = Meeting::Sqlite)]
    store: Meeting,
    /// Where the store has its data; the same folder unless set.
    #[arg(long)]
    store_folder: Option<PathBuf>,
    /// How many kills hit a worker that holds jobs.
    #[arg(long)]
    kills: u64,
    /// How many jobs there are at least.
    #[arg(long)]
    jobs: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many kills a second are aimed at.
    #[arg(long, default_value_t = 3.0)]
    rate: f64,
    /// How long a row takes on average, in milliseconds.
    #[arg(long, default_value_t = 60)]
    pace: u64,
    /// How many workers there are.
    #[arg(long, default_value_t = 8)]
    workers: usize,
    #[arg(long, default_value_t = 4)]
    slots: u32,
    /// How long leases last, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    lease: u64,
    /// Fills the disk of the store for a while, so many times: only on a small one of its own.
    #[arg(long, default_value_t = 0)]
    fills: u64,
    /// Kills the server, and starts it again, so many times.
    #[arg(long, default_value_t = 0)]
    server_kills: u64,
    /// Has the server cut all connections so many times.
    #[arg(long, default_value_t = 0)]
    cuts: u64,
    /// Slices come to workers by a broker of the run's own, which doubles a third of the messages and is purged once.
    #[arg(long, value_enum)]
    broker: Option<carrier::Kind>,
    /// Cuts the broker's connections, or kills it, so many times.
    #[arg(long, default_value_t = 0)]
    broker_faults: u64,
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    kills: BTreeMap<&'static str, u64>,
    idle_deaths: u64,
    stops: u64,
    jumps: u64,
    fills: u64,
    server_kills: u64,
    cuts: u64,
    connections_cut: u64,
    broker_faults: u64,
    /// How long the server was away at most.
    away: Duration,
    /// The rows that have succeeded, each with an effect outside.
    good_rows: u64,
}

impl Done {
    fn kills(&self) -> u64 {
        self.kills.values().sum()
    }
}

/// When the next fault of each kind is due.
#[derive(Debug)]
struct Plan {
    kill: Instant,
    stop: Instant,
    jump: Instant,
    fill: Instant,
    server_kill: Instant,
    cut: Instant,
    broker_fault: Instant,
    /// Until when the disk stays full.
    full_until: Option<Instant>,
    moved: i64,
}

struct Run {
    arguments: Arguments,
    stage: Stage,
    store: Arc<dyn Store>,
    crew: Crew,
    dice: Dice,
    plan: Plan,
    done: Done,
    running: Vec<(Season, Handle)>,
    made: u64,
    finished: Vec<Handle>,
    carrier: Option<Carrier>,
}

/// Runs, and prints one line of JSON.
pub async fn run(arguments: Arguments) -> Result<()> {
    let started = Instant::now();
    let mut run = Run::new(arguments).await?;
    for _ in 0..run.arguments.workers {
        run.hire()?;
    }
    if let Err(error) = run.last_of_all().await {
        // The checker still says what went wrong, once it knows what was committed.
        run.crew.members.clear();
        run.stage
            .complete_ledgers(&run.crew.ledger)
            .await
            .with_context(|| format!("after another error: {error:#}"))?;
        return Err(error);
    }
    let bad = run.crew.dismiss()?;
    ensure!(bad == 0, "{bad} workers did not end well when they were told to stop");
    run.stage.complete_ledgers(&run.crew.ledger).await?;
    let jobs = ending::dump(&*run.store, &run.crew.ledger, &run.finished).await?;
    let doctor = patiently(|| run.store.doctor()).await?;
    let effects = sink::add_up(&run.arguments.folder)?;
    let line = json!({
        "kills": run.done.kills(),
        "kills_by_place": run.done.kills,
        "deaths_that_do_not_count": run.done.idle_deaths,
        "stops": run.done.stops,
        "clock_jumps": run.done.jumps,
        "disk_fills": run.done.fills,
        "disk_full_ms": FULL.as_millis() as u64,
        "server_kills": run.done.server_kills,
        "server_away_ms": run.done.away.as_millis() as u64,
        "cuts": run.done.cuts,
        "connections_cut": run.done.connections_cut,
        "broker": run.carrier.as_ref().map(Carrier::told),
        "effects": effects.requests,
        "effects_again": effects.requests - effects.accepted,
        "workflows": run.finished.len(),
        "jobs": jobs,
        "lease_ms": run.arguments.lease,
        "seed": run.arguments.seed,
        "doctor": doctor.findings,
        "under_way": doctor.under_way,
        "seconds": started.elapsed().as_secs_f64().round(),
    });
    println!("{line}");
    if let Some(carrier) = &run.carrier {
        carrier.has_carried()?;
    }
    let (accepted, rows) = (effects.accepted, run.done.good_rows);
    ensure!(accepted == rows, "{rows} rows have succeeded, and {accepted} have had their effect");
    ensure!(doctor.findings.is_empty(), "the doctor found: {}", doctor.findings.join("; "));
    ensure!(doctor.under_way == 0, "{} things are left although everything has finished", doctor.under_way);
    Ok(())
}

impl Run {
    async fn new(arguments: Arguments) -> Result<Self> {
        let folder = arguments.store_folder.as_ref().unwrap_or(&arguments.folder);
        let clock = arguments.folder.join("clock");
        std::fs::write(&clock, "0")?;
        let ledger = Ledger::create(&arguments.folder.join(OWN_LEDGER), 0).context("making the ledger")?;
        let servers = match arguments.store {
            Meeting::Sqlite => None,
            Meeting::Redis => Some(Servers::redis()),
            Meeting::Valkey => Some(Servers::valkey()),
            Meeting::Cluster => Some(Servers::cluster()),
        };
        let stage = match servers {
            None => Stage::file(folder, arguments.lease, &clock, ledger.clone())?,
            Some(servers) => {
                Stage::servers(servers, &arguments.folder, arguments.lease, &clock, ledger.clone()).await?
            }
        };
        let store = stage.store();
        let now = Instant::now();
        let plan = Plan {
            kill: now + Duration::from_secs(1),
            stop: now + Duration::from_secs(2),
            jump: now + Duration::from_secs(3),
            fill: now + Duration::from_secs(2),
            server_kill: now + Duration::from_secs(4),
            cut: now + Duration::from_secs(2),
            broker_fault: now + Duration::from_secs(3),
            full_until: None,
            moved: 0,
        };
        let mut carrier = match arguments.broker {
            Some(kind) => Some(Carrier::start(kind).await.context("starting the broker")?),
            None => None,
        };
        let broker = carrier.as_ref().map(Carrier::url);
        if let Some(carrier) = &mut carrier {
            carrier.double(store.identity().await?, arguments.workers)?;
        }
        let crew = Crew::new(arguments.folder.clone(), store.url(), arguments.slots, broker, ledger);
        let dice = Dice::new(arguments.seed);
        let (done, running, finished) = (Done::default(), Vec::new(), Vec::new());
        Ok(Self { arguments, stage, store, crew, dice, plan, done, running, made: 0, finished, carrier })
    }

    /// Goes on until there were enough kills and jobs, and every workflow has finished.
    async fn last_of_all(&mut self) -> Result<()> {
        let (mut settled, mut settled_at) = (0, Instant::now());
        let mut look_at_workflows = Instant::now();
        let mut deaths = signal(SignalKind::child())?;
        loop {
            if Instant::now() >= look_at_workflows {
                look_at_workflows = Instant::now() + LOOK;
                self.start_workflows().await?;
                self.stage.take_records().await?;
                let now = self.look_at_workflows().await?;
                if now != settled {
                    (settled, settled_at) = (now, Instant::now());
                }
                if self.running.is_empty() && !self.wants_more() {
                    return Ok(());
                }
                if settled_at.elapsed() > PATIENCE {
                    return self.give_up().await;
                }
            }
            self.see_who_died().await?;
            self.make_faults().await?;
            let due = self.next_fault().map_or(look_at_workflows, |fault| fault.min(look_at_workflows));
            tokio::select! {
                _ = deaths.recv() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// When the next fault begins, or one that lasts ends.
    fn next_fault(&self) -> Option<Instant> {
        let Plan { kill, stop, jump, fill, server_kill, cut, broker_fault, full_until, .. } = self.plan;
        let Arguments { fills, server_kills, cuts, broker_faults, .. } = self.arguments;
        let counted = [
            (fill, self.done.fills < fills),
            (server_kill, self.done.server_kills < server_kills),
            (cut, self.done.cuts < cuts),
            (broker_fault, self.done.broker_faults < broker_faults),
        ];
        let counted = counted.into_iter().filter_map(|(due, wanted)| wanted.then_some(due));
        let begins = [kill, stop, jump].into_iter().chain(counted).filter(|_| self.wants_faults());
        let ends = self.crew.members.iter().filter_map(|member| member.stopped_until).chain(full_until);
        begins.chain(ends).min()
    }

    fn wants_more(&self) -> bool {
        self.made < self.arguments.jobs || self.wants_faults()
    }

    async fn start_workflows(&mut self) -> Result<()> {
        while self.running.len() < AT_ONCE && self.wants_more() {
            let season = Season { seed: self.dice.roll(), rows: ROWS, pace: self.arguments.pace };
            let missing = self.arguments.jobs.saturating_sub(self.made).max(200);
            let rows = if season.jobs() > missing { missing * 4 / 5 } else { ROWS };
            let season = Season { rows, ..season };
            match app(self.arguments.folder.join(OWN_LEDGER)).client_on(self.store.clone()).start(season.clone()).await
            {
                Ok(handle) => {
                    ending::declare(&*self.store, &self.crew.ledger, &season, handle.id()).await?;
                    self.made += season.jobs();
                    self.running.push((season, handle));
                }
                // A full disk takes no new work, and a connection may have been cut; that is tried again.
                Err(error) if error.is_transient() => return Ok(()),
                Err(error) => return Err(error).context("starting a workflow"),
            }
        }
        Ok(())
    }

    /// Checks what has finished; returns how many jobs have settled.
    async fn look_at_workflows(&mut self) -> Result<u64> {
        let mut settled = self.finished.len() as u64;
        let mut at = 0;
        while at < self.running.len() {
            let (season, handle) = &self.running[at];
            let status = patiently(|| handle.status()).await?;
            settled += status.jobs.total - status.jobs.unsettled();
            if !status.state.is_finished() {
                at += 1;
                continue;
            }
            let id = handle.id();
            ensure!(
                status.state == WorkflowState::Succeeded,
                "workflow {id} has {:?}: {:?}",
                status.state,
                status.jobs
            );
            let told = patiently(|| handle.job("Tell", 0))
                .await?
                .output
                .with_context(|| format!("workflow {id} has no report"))?;
            let told: Told = serde_json::from_str(told.get())?;
            ensure!(told == season.report(), "workflow {id} reports {told:?}, not {:?}", season.report());
            self.done.good_rows += told.rows;
            let (_, handle) = self.running.swap_remove(at);
            self.finished.push(handle);
        }
        Ok(settled)
    }

    async fn give_up(&self) -> Result<()> {
        let mut text = format!("no job has settled for {} s", PATIENCE.as_secs());
        for (_, handle) in &self.running {
            text.push_str(&format!("; workflow {}: {:?}", handle.id(), handle.status().await?.jobs));
        }
        bail!(text)
    }

    fn hire(&mut self) -> Result<()> {
        // Two of five die where they were told to, the others wherever they are.
        let dies = (self.wants_faults() && self.dice.chance(0.4)).then(|| {
            let places = self.stage.places();
            let other = self.dice.below(places.len() as u64) as usize;
            let at = if self.dice.chance(0.3) { AFTER_EFFECT } else { places[other] };
            Death { at, passes: self.dice.below(12) as u32 }
        });
        self.crew.hire(dies)
    }

    fn wants_faults(&self) -> bool {
        let (done, wanted) = (&self.done, &self.arguments);
        done.kills() < wanted.kills
            || done.fills < wanted.fills
            || done.server_kills < wanted.server_kills
            || done.cuts < wanted.cuts
            || done.broker_faults < wanted.broker_faults
    }

    /// Counts those that killed themselves, and puts others in their places.
    async fn see_who_died(&mut self) -> Result<()> {
        let ended = self.crew.ended()?;
        if ended.is_empty() {
            return Ok(());
        }
        let rows = rows(&*self.store).await?;
        for (member, killed) in ended {
            let Some(death) = member.dies.filter(|_| killed) else {
                bail!("worker {} ended although nobody killed it; see workers.log", member.number);
            };
            let held = match rows.get(&member.pid()) {
                Some(row) => self.stage.note_death(row, member.number).await?,
                None => false,
            };
            if held {
                *self.done.kills.entry(death.at.0).or_default() += 1;
            } else {
                self.done.idle_deaths += 1;
            }
            self.hire()?;
        }
        Ok(())
    }

    async fn make_faults(&mut self) -> Result<()> {
        let now = Instant::now();
        self.continue_who_stood_still(now)?;
        if self.plan.full_until.is_some_and(|until| now >= until) {
            std::fs::remove_file(self.ballast()).context("emptying the disk")?;
            self.plan.full_until = None;
        }
        if !self.wants_faults() {
            return Ok(());
        }
        if now >= self.plan.kill {
            // Those that die by themselves come on top.
            let mean = 1.6 / self.arguments.rate;
            self.plan.kill = now + Duration::from_secs_f64(2.0 * mean * self.dice.share());
            self.kill_one().await?;
        }
        if now >= self.plan.stop {
            self.plan.stop = now + Duration::from_secs_f64(1.0 + 5.0 * self.dice.share());
            self.stop_one().await?;
        }
        if now >= self.plan.jump {
            self.plan.jump = now + Duration::from_secs_f64(2.0 + 8.0 * self.dice.share());
            // Back by less than forth: what waits for a time of day would wait as long as the clock goes back.
            let by =
                if self.dice.chance(0.5) { self.dice.below(3_600_000) as i64 } else { -(self.dice.below(1500) as i64) };
            self.plan.moved += by;
            replace(&self.arguments.folder.join("clock"), &self.plan.moved.to_string())?;
            self.crew.clock_was_moved()?;
            kill_process(getpid(), CLOCK_MOVED)?;
            self.done.jumps += 1;
        }
        if now >= self.plan.fill && self.done.fills < self.arguments.fills {
            self.plan.fill = now + Duration::from_secs_f64(6.0 + 4.0 * self.dice.share());
            self.plan.full_until = Some(now + FULL);
            fill(&self.ballast())?;
            self.done.fills += 1;
        }
        self.make_faults_of_the_broker(now).await?;
        self.make_faults_of_the_server(now)
    }

    async fn make_faults_of_the_broker(&mut self, now: Instant) -> Result<()> {
        if now < self.plan.broker_fault || self.done.broker_faults >= self.arguments.broker_faults {
            return Ok(());
        }
        let Some(mut carrier) = self.carrier.take() else { return Ok(()) };
        self.plan.broker_fault = now + Duration::from_secs_f64(0.5 + 2.0 * self.dice.share());
        self.done.broker_faults += 1;
        if 2 * self.done.broker_faults >= self.arguments.broker_faults && carrier.purged.is_empty() {
            carrier.purge().await.context("purging the queue")?;
        }
        self.carrier = Some(carrier.fail().await?);
        Ok(())
    }

    fn make_faults_of_the_server(&mut self, now: Instant) -> Result<()> {
        let Stage::Servers { servers, .. } = &mut self.stage else { return Ok(()) };
        if now >= self.plan.server_kill && self.done.server_kills < self.arguments.server_kills {
            self.plan.server_kill = now + Duration::from_secs_f64(3.0 + 6.0 * self.dice.share());
            let away = servers.kill_and_restart();
            self.done.away = self.done.away.max(away);
            self.done.server_kills += 1;
        }
        if now >= self.plan.cut && self.done.cuts < self.arguments.cuts {
            self.plan.cut = now + Duration::from_secs_f64(1.0 + 4.0 * self.dice.share());
            self.done.connections_cut += servers.cut_connections()?;
            self.done.cuts += 1;
        }
        Ok(())
    }

    /// Kills a process at some moment; it stands still while it is looked at what it holds.
    async fn kill_one(&mut self) -> Result<()> {
        let members = self.crew.members.len();
        let first = self.dice.below(members as u64) as usize;
        for at in (0..members).map(|n| (first + n) % members) {
            let member = &mut self.crew.members[at];
            let stood_still = member.stopped_until.is_some();
            member.stop()?;
            let (pid, number) = (member.pid(), member.number);
            let held = match rows(&*self.store).await?.get(&pid) {
                Some(row) => self.stage.note_kill(row, number, &self.crew.ledger).await?,
                None => false,
            };
            if held {
                self.crew.kill(at)?;
                *self.done.kills.entry(if stood_still { "while it was stopped" } else { "anywhere" }).or_default() += 1;
                return self.hire();
            }
            if !stood_still {
                self.crew.members[at].signal(Signal::CONT)?;
            }
        }
        Ok(())
    }

    /// Stops a process that holds jobs for longer than its leases last, unless it stops the whole store with it.
    async fn stop_one(&mut self) -> Result<()> {
        if self.crew.members.iter().any(|member| member.stopped_until.is_some()) {
            return Ok(());
        }
        let at = self.dice.below(self.crew.members.len() as u64) as usize;
        let lease = Duration::from_millis(self.arguments.lease);
        let time = lease.mul_f64(1.3 + 1.5 * self.dice.share());
        self.crew.members[at].stop()?;
        let rows = rows(&*self.store).await?;
        let member = &mut self.crew.members[at];
        let holds_jobs = rows.get(&member.pid()).is_some_and(|row| row.leases > 0);
        if !holds_jobs || !self.stage.is_writable()? {
            return member.signal(Signal::CONT);
        }
        member.stopped_until = Some(Instant::now() + time);
        let number = member.number;
        self.crew.note(Kind::Stopped, number);
        self.done.stops += 1;
        Ok(())
    }

    fn continue_who_stood_still(&mut self, now: Instant) -> Result<()> {
        for member in &mut self.crew.members {
            if member.stopped_until.is_some_and(|until| now >= until) {
                member.stopped_until = None;
                member.signal(Signal::CONT)?;
                let record =
                    Record { at: Ledger::now(), who: member.number, kind: Kind::Continued, ..Record::default() };
                self.crew.ledger.write(&[record]);
            }
        }
        Ok(())
    }

    fn ballast(&self) -> PathBuf {
        self.arguments.store_folder.as_ref().unwrap_or(&self.arguments.folder).join("ballast")
    }
}

/// Fills the disk to its last byte.
fn fill(ballast: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast)?;
    let mut piece = vec![0; 1 << 20];
    while !piece.is_empty() {
        if let Err(error) = file.write_all(&piece) {
            ensure!(error.kind() == std::io::ErrorKind::StorageFull, "filling the disk: {error}");
            piece.truncate(piece.len() / 2);
        }
    }
    Ok(())
}

/// Others read the old text or the new one, never a part.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path).with_context(|| format!("writing {}", path.display()))
}
